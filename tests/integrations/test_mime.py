"""Any mail that is built is read back as it was meant, and holds no header that nobody gave."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.mime import LONGEST_HEADER, Mail, UnsendableMail, build

AT = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)
NAMES = ["From", "To", "Subject", "Date", "Message-ID", "References", "In-Reply-To", "List-Unsubscribe"]
printable = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=200)
# A reader may drop blanks beside an encoded word, and at the ends.
line = printable.map(lambda words: " ".join(words.split()))
body = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t."), max_size=500)


def mail(subject: str = "s", text: str = "t", html: str = "h", sender_name: str = "Fleet", **headers: str) -> Mail:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Mail(
        "id@jobs.example",
        sender_name,
        "fleet@jobs.example",
        "ann@acme.example",
        subject,
        text,
        html,
        AT,
        "thread@x",
        more,
    )


def read(raw: bytes) -> EmailMessage:
    parsed = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


def content(parsed: EmailMessage, kind: str) -> str:
    part = parsed.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


@given(line, line.map(lambda name: name[:76].strip()), body, body)
def test_a_mail_reads_back_as_it_was_meant(subject: str, sender_name: str, text: str, html: str) -> None:
    raw = build(mail(subject, text, html, sender_name, List_Unsubscribe="<https://hooks.example/u>"))
    parsed = read(raw)

    assert [name for name in parsed if name not in ("MIME-Version", "Content-Type")] == NAMES
    assert "".join(parsed["Subject"].split()) == "".join(subject.split())
    assert parsed["From"].addresses[-1].addr_spec == "fleet@jobs.example"
    assert content(parsed, "plain").rstrip("\n") == text.rstrip("\n")
    assert content(parsed, "html").rstrip("\n") == html.rstrip("\n")
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")
    assert all(len(each) <= 998 for each in raw.split(b"\r\n"))


@pytest.mark.parametrize("value", ["a\r\nBcc: eve@evil.example", "a\nb", "a\rb", "a\x00b", "a\u2028b", "x" * (4 << 20)])
@pytest.mark.parametrize("name", ["subject", "sender_name", "List_Unsubscribe"])
def test_what_would_break_out_of_a_header_or_flood_it_is_refused_and_not_quoted(name: str, value: str) -> None:
    with pytest.raises(UnsendableMail) as refused:
        build(mail(**{name: value}))
    assert len(str(refused.value)) < 100
    assert "evil" not in str(refused.value)


def test_half_a_character_is_replaced_and_stops_nothing() -> None:
    parsed = read(build(mail("a\ud800b", "t\udfffx", "h\ud800")))
    assert parsed["Subject"] == "a?b"
    assert content(parsed, "plain").strip() == "t?x"


def test_a_link_stays_on_one_line() -> None:
    link = f"<https://hooks.example/{'u' * (LONGEST_HEADER - 30)}>"
    assert f"\r\nList-Unsubscribe: {link}\r\n".encode() in build(mail(List_Unsubscribe=link))
