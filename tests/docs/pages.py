"""The pages of the documentation, and what is written in them as code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md", *ROOT.glob("docs/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of a language."""
    return [body for of, body in _FENCE.findall(text) if of == language]


def spans(text: str) -> list[str]:
    """Return what stands in backticks within the prose."""
    return _SPAN.findall(_FENCE.sub("", text))


def links(text: str) -> list[str]:
    """Return where the links lead."""
    return _LINK.findall(_FENCE.sub("", text))


def commands(text: str) -> list[str]:
    """Return every line of a shell block and every span of prose, comments taken off."""
    lines = [line.partition(" #")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return [line for line in lines + spans(text) if line]
