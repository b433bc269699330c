"""Mails look as in the pictures that are kept of them, where the machine has a browser and their letters."""

import re
import subprocess

import pytest
from PIL import Image

from jobs.notifications.compose import write
from jobs.notifications.samples import sample
from tests.notifications.pictures import BROWSER, NEAR, PICTURES, Picture, difference, take

FONT = "Liberation Sans"
"""What the pictures were taken with: the letters of another one are wider, and lines break elsewhere."""


def has_font() -> bool:
    """Tell whether the browser writes in FONT where a mail asks for Helvetica or Arial."""
    try:
        found = subprocess.run(["fc-match", "Helvetica"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return FONT in found.stdout


pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no browser on this machine"),
    pytest.mark.skipif(not has_font(), reason=f"no {FONT} on this machine, which the pictures are written in"),
]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.file.stem)
def test_a_mail_looks_as_in_its_picture(picture: Picture) -> None:
    with Image.open(picture.file) as kept:
        far = difference(take(picture), kept.convert("RGB"))
    assert far <= NEAR, f"differs by {far}: look at it, then `python -m tests.notifications.pictures`"


@pytest.mark.parametrize(
    "change",
    [
        (r'<p style="margin:28px[^>]*><a class="button".*?</p>', ""),  # no button
        (r'<tr class="row">.*?</tr>', ""),  # no facts
        (r"max-width:600px", "max-width:560px"),
        (r"#1f5fa8", "#a81f1f"),
        (r"<h1.*?</h1>", ""),
    ],
)
def test_a_change_that_a_reader_would_see_is_seen(change: tuple[str, str]) -> None:
    picture = next(each for each in PICTURES if each.width == 1200 and each.kind == "maintenance_overdue")
    mail = write(sample(picture.kind, picture.locale), None, "https://app.example", "https://hooks.example/u").html
    changed = re.sub(*change, mail, flags=re.DOTALL)
    assert changed != mail
    with Image.open(picture.file) as kept:
        assert difference(take(picture, changed), kept.convert("RGB")) > NEAR
