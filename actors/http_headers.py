"""Headers that users set on requests: which names and values they may have."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# These say where a request goes and where it ends; whoever sets them can smuggle a second one.
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def fault_of_name(name: str) -> str | None:
    """Say why a header must not be called that; None if it may."""
    if not _TOKEN.fullmatch(name):
        return "this is no name that a header may have"
    if name.lower() in _OURS:
        return "this header is set by the request itself"
    return None


def is_one_line(value: str) -> bool:
    """Whether a value is free of line breaks and other control characters."""
    return not _CONTROL.search(value)
