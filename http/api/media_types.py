"""Which files are taken: media types by their first bytes, so that none is what it says it is not.

Nothing that a browser would run is on the list: no HTML, no SVG, no scripts.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

SNIFFED_BYTES: Final = 512

_ZIP: Final = rb"PK\x03\x04"
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"

_SIGNATURES: Final[dict[str, bytes]] = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF.{4}WEBP",
    "application/pdf": rb"%PDF-",
    "audio/wav": rb"RIFF.{4}WAVE",
    "audio/ogg": rb"OggS",
    "audio/amr": rb"#!AMR",
    "audio/aac": rb"\xff[\xf0\xf1\xf8\xf9]",
    "audio/mpeg": rb"ID3|\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]",
    "audio/mp4": rb".{4}ftyp",
    "video/mp4": rb".{4}ftyp",
    "video/webm": rb"\x1a\x45\xdf\xa3",
    "audio/webm": rb"\x1a\x45\xdf\xa3",
    "application/zip": _ZIP,
    f"{_OFFICE}.wordprocessingml.document": _ZIP,
    f"{_OFFICE}.spreadsheetml.sheet": _ZIP,
    f"{_OFFICE}.presentationml.presentation": _ZIP,
}
"""What the content of each type begins with, the more likely type of two first."""

_PATTERNS: Final = {name: re.compile(text, re.DOTALL) for name, text in _SIGNATURES.items()}

TEXTS: Final = ("text/plain", "text/csv", "text/calendar", "text/vcard")
"""Types that must be UTF-8 without NUL, and are never shown inline."""

ALLOWED: Final = (*_SIGNATURES, *TEXTS)

_ALIASES: Final = {
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-m4a": "audio/mp4",
    "audio/m4a": "audio/mp4",
    "image/jpg": "image/jpeg",
    "application/x-zip-compressed": "application/zip",
}
"""How the same types are called elsewhere."""

UNSAID: Final = "application/octet-stream"
"""What clients say who do not know; then the first bytes decide."""


def canonical(declared: str) -> str:
    """Give the one name under which we know a media type."""
    return _ALIASES.get(declared, declared)


def begins_like(media_type: str, head: bytes) -> bool:
    """Whether content that begins so can be of this type; texts are looked at as a whole."""
    pattern = _PATTERNS.get(media_type)
    return pattern is None or pattern.match(head) is not None


def guess(head: bytes) -> str | None:
    """Tell the media type by the first bytes; None if they are like nothing that is taken."""
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(head)), None)


class TextCheck:
    """Looks at a text chunk by chunk: it must be UTF-8 without NUL."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def take(self, chunk: bytes, *, is_last: bool = False) -> bool:
        """Whether it still can be a text after this chunk."""
        try:
            return "\x00" not in self._decoder.decode(chunk, is_last)
        except UnicodeDecodeError:
            return False


def is_shown_inline(media_type: str) -> bool:
    """Whether a browser may show it in place; anything else is offered for saving."""
    return media_type.startswith(("image/", "audio/", "video/")) or media_type == "application/pdf"
