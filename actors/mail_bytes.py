"""Mails as bytes: what is the same for all recipients is built once, the rest is put in between.

A mail is always of one build: a head, then text and HTML as alternatives, then attachments. So
nothing has to be taken apart into a tree and put together again for each recipient: headers are
written as they stand where they need no encoding, and folded by the standard library where they do;
bodies are quoted-printable (RFC 2045), in which no boundary of ours can come up, since `=_` is no
code of it. Lines that a template has for everybody are encoded once for each of its versions.
tests/test_mail_bytes.py holds the bytes to what `EmailMessage` makes of the same.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from functools import lru_cache
from types import MappingProxyType
from typing import Final

_NONE: Final[Mapping[str, bytes]] = MappingProxyType({})
_MIXED: Final = b"=_callboard_mixed"
_EITHER: Final = b"=_callboard_either"
_LONGEST_LINE: Final = 76
_PLAIN: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_BREAKS: Final = re.compile(r"\r\n|\r|\n")
_FIELD: Final = re.compile(r"\{[{%#]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")

_BEFORE_TEXT: Final = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="' + _EITHER + b'"\r\n\r\n'
    b"--" + _EITHER + b"\r\n"
    b'Content-Type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n'
    b"\r\n"
)
_BEFORE_HTML: Final = (
    b"\r\n--" + _EITHER + b"\r\n"
    b'Content-Type: text/html; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n'
    b"\r\n"
)
_AFTER_HTML: Final = b"\r\n--" + _EITHER + b"--\r\n"
_BEFORE_MIXED: Final = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="' + _MIXED + b'"\r\n\r\n'
    b"--" + _MIXED + b"\r\n"
)
_AFTER_MIXED: Final = b"--" + _MIXED + b"--\r\n"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file as it goes with a mail; `media_type` as in a Content-Type."""

    name: str
    media_type: str
    content: bytes


def one_line(text: str) -> str:
    """Bring a text onto one line: a line break in a header would begin another header."""
    return _CONTROL.sub(" ", text).strip()


def header(name: str, value: str) -> bytes:
    """Write an unstructured header; what is not plain ASCII of one line goes as encoded words.

    The value is never read as encoded words itself (RFC 2047): a line break hidden in one, such as
    from a contact's field, would come out as another header.
    """
    value = one_line(value)
    if len(name) + len(value) + 2 <= _LONGEST_LINE and _is_plain(value):
        return f"{name}: {value}\r\n".encode("ascii")
    return f"{name}: {_encoded_words(name, value)}\r\n".encode("ascii")


def token_header(name: str, value: str) -> bytes:
    """Write a header of ASCII that must stay in one piece, such as an id or a link."""
    return f"{name}: {one_line(value)}\r\n".encode("ascii")


@lru_cache(maxsize=2_000)
def address_header(name: str, display_name: str, address: str) -> bytes:
    """Write a header of one address; its display name is quoted, or goes as encoded words."""
    local, _, domain = address.rpartition("@")
    spec = Address("", local, domain).addr_spec
    shown = one_line(display_name)
    if not shown:
        return f"{name}: {spec}\r\n".encode()
    if _is_plain(shown):
        phrase = '"' + re.sub(r'(["\\])', r"\\\1", shown) + '"'
    else:
        phrase = _encoded_words(name, shown)
    return f"{name}: {phrase}\r\n <{spec}>\r\n".encode()


def plain_address_header(name: str, address: str) -> bytes:
    """Write a header of one bare address; the fast way of what differs for every recipient."""
    if re.fullmatch(r"[A-Za-z0-9._+-]{1,40}@[A-Za-z0-9.-]{1,20}", address):
        return f"{name}: {address}\r\n".encode("ascii")
    return address_header(name, "", address)


def _is_plain(value: str) -> bool:
    return "=?" not in value and _PLAIN.fullmatch(value) is not None


def _encoded_words(name: str, value: str) -> str:
    words = Header(value, "utf-8", maxlinelen=_LONGEST_LINE, header_name=name)
    return words.encode(linesep="\r\n")


def quoted(line: str) -> bytes:
    """Encode one line as quoted-printable, with soft line breaks where it is long."""
    return binascii.b2a_qp(line.encode(), istext=True).replace(b"\n", b"\r\n")


def quoted_lines(source: str) -> dict[str, bytes]:
    """Encode the lines of a template that have no merge field in them, to be given to `mail`."""
    lines = _BREAKS.sub("\n", source).split("\n")
    return {line: quoted(line) for line in lines if not _FIELD.search(line)}


def body(text: str, known: Mapping[str, bytes] = _NONE) -> bytes:
    """Encode a text as quoted-printable with CRLF, a line break at its end.

    A line is encoded the same wherever it stands, so that those in `known` need not be again.
    """
    lines = (_BREAKS.sub("\n", text) if "\r" in text else text).split("\n")
    if not lines[-1]:
        lines.pop()
    encoded = [known.get(line) or quoted(line) for line in lines]
    return b"\r\n".join((*encoded, b"")) or b"\r\n"


def attached(attachments: Sequence[Attachment]) -> bytes:
    """Encode attachments, to be given to `mail` for any number of recipients."""
    return b"".join(_part(attachment) for attachment in attachments)


def _part(attachment: Attachment) -> bytes:
    main, _, sub = attachment.media_type.partition(";")[0].partition("/")
    part = EmailMessage(policy=SMTP)
    part.set_content(
        attachment.content,
        maintype=main or "application",
        subtype=sub or "octet-stream",
        filename=one_line(attachment.name),
        disposition="attachment",
        cte="base64",
    )
    del part["MIME-Version"]
    return b"--" + _MIXED + b"\r\n" + part.as_bytes()


def mail(
    head: Iterable[bytes],
    text: str,
    html: str,
    attachments: bytes = b"",
    known: Mapping[str, bytes] = _NONE,
) -> bytes:
    """Put a mail together: its headers, both bodies, what `attached` and `quoted_lines` gave."""
    bodies = body(text, known), body(html, known)
    either = (_BEFORE_TEXT, bodies[0], _BEFORE_HTML, bodies[1], _AFTER_HTML)
    if not attachments:
        return b"".join((*head, *either))
    inner = (either[0].removeprefix(b"MIME-Version: 1.0\r\n"), *either[1:])
    return b"".join((*head, _BEFORE_MIXED, *inner, attachments, _AFTER_MIXED))
