"""Mails as bytes: they are read as what EmailMessage makes of the same."""

from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import SMTP, compat32
from email.utils import getaddresses, parseaddr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.mail_bytes import (
    Attachment,
    address_header,
    attached,
    body,
    header,
    mail,
    one_line,
    plain_address_header,
    quoted_lines,
)
from actors.mail_links import rewritten
from actors.mail_marketing import footer_of

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=300) | st.lists(
    st.sampled_from([".", "..", "\r", "\n", "\r\n", "From x", "=", "=20", " ", "\t", "é" * 90,
                     "x" * 1100, "--=_callboard_either"]),
    max_size=12,
).map("".join)  # fmt: skip
lines = st.text(st.characters(codec="utf-8"), max_size=120) | st.sampled_from(
    [
        "=?utf-8?q?x?=",
        "=?utf-8?q?=0D=0ABcc:_e=40x.test?=",
        "a, " * 19 + "b",
        'a"\\<b',
        "a" * 300,
        "x\r\nBcc: evil@x.test",
        " ",
        "é" * 200,
        "a  b",
        "a\u2028b",
    ]
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


def shown(header: str) -> str:
    """Undo the encoded words, or give a header without any as it stands, unfolded."""
    return str(make_header(decode_header(header))) if "=?" in header else header


@settings(max_examples=40, deadline=None)
@given(lines, lines, texts, texts, st.booleans())
def test_a_mail_is_read_as_what_the_standard_library_makes_of_the_same(
    subject: str, name: str, text: str, html: str, has_attachment: bool
) -> None:
    name, subject = one_line(name)[:60], one_line(subject)
    usual = EmailMessage(policy=SMTP)
    usual["To"] = "bo@x.test"
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
    to = plain_address_header("To", "bo@x.test")
    assert as_read(mail([to], text, html, files)) == as_read(usual.as_bytes())
    sender = address_header("From", name, "ada@acme.test")
    ours = mail([sender, to, header("Subject", subject)], text, html, files)
    read = message_from_bytes(ours, policy=compat32)
    assert sorted(read.keys()) == ["Content-Type", "From", "MIME-Version", "Subject", "To"]
    assert shown(read["Subject"]) == subject
    assert getaddresses([read["From"]])[1:] == []
    phrase, address = parseaddr(read["From"])
    assert (shown(phrase), address) == (name, "ada@acme.test")
    assert all(len(line) <= 998 for line in ours.split(b"\r\n"))
    assert b"\n" not in ours.replace(b"\r\n", b"")


@settings(max_examples=100, deadline=None)
@given(texts, texts)
def test_lines_that_a_template_has_encoded_are_the_same_in_every_mail(
    template: str, text: str
) -> None:
    known = quoted_lines(template)
    for rendered in (template, text, template + text):
        assert body(rendered, known) == body(rendered)


@pytest.mark.parametrize(
    "text",
    [
        "x\r\nBcc: e@x.test",
        "x\nBcc: e@x.test",
        "x\rBcc: e",
        "\r\n\r\nx",
        "=?utf-8?q?=0D=0ABcc:_e=40x.test?=",
        "=?utf-8?b?DQpCY2M6IGVAeC50ZXN0?=",
        "Hi =?utf-8?q?=0D=0AX-Evil:_1=0D=0A=0D=0Abody?=",
    ],
)
def test_no_header_is_put_in_by_a_line_break(text: str) -> None:
    for raw in (
        header("Subject", text),
        address_header("From", text, "a@x.test"),
    ):
        assert len(message_from_bytes(raw + b"\r\n", policy=SMTP).keys()) == 1


@pytest.mark.parametrize(
    ("html", "before"),
    [
        ("<body>a</body>", "</body>"),
        ("<body>a</BODY ><!-- end of </body> -->", "</BODY >"),
        ("<p>a</p><!-- </body> -->", ""),
        ("<p>a</p><!-- </body>", "<!-- </body>"),
        ("<body>a</body><!-- x", "</body>"),
        ("<p>a</p><!--><b>c</b>", ""),
        ("a", ""),
    ],
)
def test_the_footer_of_marketing_mail_stands_in_no_comment(html: str, before: str) -> None:
    footer, text = footer_of("Acme <1>\n2 Way", "https://x.test/u")
    with_it = rewritten(html, lambda _target: None, footer)
    after = before + html.partition(before)[2] if before else ""
    assert with_it.endswith(f"Unsubscribe</a></div>{after}")
    assert "Acme &lt;1&gt;<br>2 Way" in with_it
    assert text.endswith("Acme <1>\n2 Way\nUnsubscribe: https://x.test/u\n")
