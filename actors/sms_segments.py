"""How many segments a text message takes: GSM-7 where its alphabet suffices, else UCS-2.

3GPP TS 23.038: a segment holds 160 septets or 70 UTF-16 units alone, 153 or 67 as a part of
several (the rest is the header that joins them). Characters of the extension table, such as the
euro sign, take two septets; a character outside the basic plane, such as an emoji, two units.
Neither is parted by the end of a segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import gsm0338

_ALONE: Final = {"GSM-7": 160, "UCS-2": 70}
_JOINED: Final = {"GSM-7": 153, "UCS-2": 67}

_gsm = gsm0338.Codec()


@dataclass(frozen=True, slots=True)
class Segments:
    """How a message is carried: its alphabet, and how many segments it takes."""

    encoding: Literal["GSM-7", "UCS-2"]
    count: int


def segments_of(text: str) -> Segments:
    """Count the segments of a text; an empty one takes one."""
    septets = [_septets(character) for character in text]
    if 0 not in septets:
        return Segments("GSM-7", _count(septets, "GSM-7"))
    units = (2 if ord(character) > 0xFFFF else 1 for character in text)
    return Segments("UCS-2", _count(list(units), "UCS-2"))


@lru_cache(4096)
def _septets(character: str) -> int:
    """How many septets a character takes; 0: the alphabet does not have it."""
    try:
        encoded, _ = _gsm.encode(character)
    except UnicodeError:
        return 0
    return len(encoded)


def _count(widths: Iterable[int], encoding: Literal["GSM-7", "UCS-2"]) -> int:
    widths = list(widths)
    if sum(widths) <= _ALONE[encoding]:
        return 1
    count, free = 1, _JOINED[encoding]
    for width in widths:
        if width > free:
            count, free = count + 1, _JOINED[encoding]
        free -= width
    return count
