"""What a check of the doctor says: ok, warn or fail, what was found, and how to mend it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor; `fix` is None where all is well."""

    name: str
    status: Status
    found: str
    fix: str | None = None


def ok(name: str, found: str) -> Check:
    """Return a check that found what it should."""
    return Check(name, "ok", found)


def warn(name: str, found: str, fix: str) -> Check:
    """Return a check that found what will hurt later, or may be meant."""
    return Check(name, "warn", found, fix)


def fail(name: str, found: str, fix: str) -> Check:
    """Return a check that found what does not work."""
    return Check(name, "fail", found, fix)
