"""Mails in a real browser, where the machine has one: at the width of a phone and of a screen nothing sticks out."""

import html
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.notifications.compose import write
from jobs.notifications.samples import KINDS, sample, sample_folded

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (320, 360, 1200)
MEASURE = """
<script>
addEventListener("load", () => {
  const told = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, width = frame.clientWidth;
    const out = [...page.body.querySelectorAll("h1, h2, p, td, li, a, span")].filter(
      each => each.getBoundingClientRect().right > width + 0.5 || each.getBoundingClientRect().left < -0.5).length;
    const card = page.querySelector(".card").getBoundingClientRect();
    const size = parseFloat(getComputedStyle(page.querySelector(".lead")).fontSize);
    return [frame.id, width, page.documentElement.scrollWidth, out, Math.round(card.width), size].join(" ");
  });
  document.body.innerHTML = "<pre>" + told.join("\\n") + "</pre>";
});
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser on this machine")
def test_in_a_browser_no_mail_is_wider_than_its_screen(tmp_path: Path) -> None:
    frames = []
    for kind in KINDS:
        long = replace(sample(kind), vehicle="W" * 120, tenant="Donaudampfschifffahrt" * 8, message="x" * 600)
        for name, notice in ((kind, sample(kind, "de")), (f"{kind}-long", long)):
            mail = write(notice, sample_folded(kind), "https://app.example", "https://hooks.example/u")
            for width in WIDTHS:
                frames.append(
                    f'<iframe id="{name}" style="border:0;height:400px;width:{width}px"'
                    f' srcdoc="{html.escape(mail.html)}"></iframe>'
                )
    page = tmp_path / "mails.html"
    page.write_text(f"<!DOCTYPE html><html><body>{''.join(frames)}{MEASURE}</body></html>")
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    told = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert told is not None, done.stderr[-500:]
    lines = [line.split() for line in told[1].splitlines()]
    assert len(lines) == len(KINDS) * 2 * len(WIDTHS)
    for name, wide, scroll, out, card, size in lines:
        assert int(scroll) <= int(wide), f"{name} is {scroll} wide at {wide}"
        assert int(out) == 0, f"{name} at {wide}: {out} elements stick out"
        assert int(card) <= 600
        assert int(card) >= min(int(wide) - 40, 600)
        assert float(size) >= 16, "to be read on a phone without zooming"
