"""Pictures of mails, as a browser shows them: kept beside the docs, and compared with by `test_pictures.py`.

`python -m tests.notifications.pictures` takes them anew, for a person to look at before they are committed.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

from jobs.notifications.compose import write
from jobs.notifications.samples import sample, sample_folded

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEPT = Path(__file__).parents[2] / "docs/images"
CELL = 20
"""Pixels. What is compared is what a cell of so many looks like from afar: blocks and colours, not letters."""
NEAR = 28
"""Of 255. A block that is missing, has moved or is of another colour differs by more; the edges of letters by less."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A mail at one width."""

    kind: str
    locale: str
    width: int
    height: int
    is_dark: bool = False

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return KEPT / f"mail-{self.kind.replace('_', '-')}-{self.locale}-{self.width}{'-dark' * self.is_dark}.png"


PICTURES = (
    Picture("maintenance_overdue", "de", 360, 1120),
    Picture("maintenance_overdue", "en", 1200, 900),
    Picture("maintenance_due", "fr", 360, 1120, is_dark=True),
    Picture("summary", "en", 1200, 1000),
    Picture("summary", "es", 360, 1000),
    Picture("digest", "en", 1200, 1460),
    Picture("digest", "de", 360, 1500, is_dark=True),
    Picture("fault_code", "en", 1200, 700, is_dark=True),
)


def take(picture: Picture, html: str | None = None) -> Image.Image:
    """Let a browser show the mail, and return what it shows.

    Args:
        html: shown instead of the mail.
    """
    assert BROWSER is not None
    notice = sample(picture.kind, picture.locale)
    mail = write(notice, sample_folded(picture.kind), "https://app.example", "https://hooks.example/u")
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "mail.html"), Path(folder, "mail.png")
        page.write_text(html or mail.html, encoding="utf-8")
        command = [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--hide-scrollbars", "--force-device-scale-factor=1"),
            *("--font-render-hinting=none", f"--blink-settings=preferredColorScheme={0 if picture.is_dark else 1}"),
            *(f"--user-data-dir={folder}/browser", f"--window-size={picture.width},{picture.height}"),
            *(f"--screenshot={shot}", page.as_uri()),
        ]
        browser = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            browser.wait(timeout=60)
        finally:
            if browser.poll() is None:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()
        with Image.open(shot) as image:
            return image.convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> int:
    """Return by how much the two differ from afar, where they differ most: of 255, which is what other sizes are."""
    if one.size != other.size:
        return 255
    small = (one.width // CELL, one.height // CELL)
    cells = [image.resize(small, Image.Resampling.BOX) for image in (one, other)]
    return max(high for _, high in ImageStat.Stat(ImageChops.difference(*cells)).extrema)


def main() -> None:
    """Take all pictures anew."""
    for picture in PICTURES:
        image = take(picture)
        image.quantize(64, dither=Image.Dither.NONE).save(picture.file, optimize=True)


if __name__ == "__main__":
    main()
