"""Mails as bytes: they are read as what EmailMessage makes of the same."""

from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.mail_bytes import (
    Attachment,
    address_header,
    attached,
    header,
    mail,
    one_line,
    plain_address_header,
)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=300) | st.lists(
    st.sampled_from([".", "..", "\r", "\n", "\r\n", "From x", "=", "=20", " ", "\t", "é" * 90,
                     "x" * 1100, "--=_callboard_either"]),
    max_size=12,
).map("".join)  # fmt: skip
lines = st.text(st.characters(codec="utf-8"), max_size=120) | st.sampled_from(
    ["=?utf-8?q?x?=", "a" * 300, "x\r\nBcc: evil@x.test", " ", "é" * 200, "a  b", "a\u2028b"]
)


def as_read(raw: bytes) -> list[object]:
    read = message_from_bytes(raw, policy=SMTP)
    assert isinstance(read, EmailMessage)
    assert not any(part.defects for part in read.walk())
    parts = [
        (part.get_content_type(), part.get_filename(), part.get_content())
        for part in read.walk()
        if not part.is_multipart()
    ]
    heads = [(n, str(v)) for n, v in read.items() if n not in ("Content-Type", "MIME-Version")]
    return [sorted(heads), parts, [p.get_content_type() for p in read.walk()]]


@settings(max_examples=40, deadline=None)
@given(lines, lines, texts, texts, st.booleans())
def test_a_mail_is_read_as_what_the_standard_library_makes_of_the_same(
    subject: str, name: str, text: str, html: str, has_attachment: bool
) -> None:
    name, subject = one_line(name)[:60], one_line(subject)
    usual = EmailMessage(policy=SMTP)
    usual["From"] = Address(name, "ada", "acme.test")
    usual["To"] = "bo@x.test"
    usual["Subject"] = subject
    usual.set_content(text.replace("\r\n", "\n").replace("\r", "\n"), cte="quoted-printable")
    usual.add_alternative(
        html.replace("\r\n", "\n").replace("\r", "\n"), subtype="html", cte="quoted-printable"
    )
    files = b""
    if has_attachment:
        content = Attachment("é x.pdf", "application/pdf", bytes(range(256)))
        files = attached([content])
        usual.add_attachment(
            content.content, maintype="application", subtype="pdf", filename=content.name
        )
    head = [
        address_header("From", name, "ada@acme.test", is_unicode=False),
        plain_address_header("To", "bo@x.test", is_unicode=False),
        header("Subject", subject),
    ]
    ours = mail(head, text, html, files)
    assert as_read(ours) == as_read(usual.as_bytes())
    assert all(len(line) <= 998 for line in ours.split(b"\r\n"))
    assert b"\n" not in ours.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "text", ["x\r\nBcc: e@x.test", "x\nBcc: e@x.test", "x\rBcc: e", "\r\n\r\nx"]
)
def test_no_header_is_put_in_by_a_line_break(text: str) -> None:
    for raw in (
        header("Subject", text),
        address_header("From", text, "a@x.test", is_unicode=False),
        address_header("From", text, "a@x.test", is_unicode=True),
    ):
        assert len(message_from_bytes(raw + b"\r\n", policy=SMTP).keys()) == 1
