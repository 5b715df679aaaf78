"""Checks of rendered values: what merge fields gave is untrusted until it has passed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from runtime.failures import Failure, Kind
from runtime.outcomes import Failed
from runtime.stage import Item

Made = TypeVar("Made")

# A file of the machine, a placeholder and an alias of the machine's choice: no places.
_NO_ZONES = {"localtime", "Factory", "posixrules"}


class UnusableError(Exception):
    """A rendered value cannot be used; `message` is for people and never quotes the value."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def outcome(self) -> Failed:
        """The end of a step that was to use the value; trying again cannot help."""
        return Failed(Failure(Kind.INVALID_CONFIG, self.code, self.message))


def each(items: Sequence[Item], make: Callable[[Item], Made]) -> list[Made | Failed]:
    """Make something of every item; where a value cannot be used, that item's failure instead."""
    made: list[Made | Failed] = []
    for item in items:
        try:
            made.append(make(item))
        except UnusableError as error:
            made.append(error.outcome)
    return made


def is_blank(value: Any) -> bool:
    """Whether a value says nothing: null, white space, a list of nothing else, an empty object."""
    if isinstance(value, str):
        return not value.strip()
    return all(map(is_blank, value)) if isinstance(value, list) else value is None or value == {}


def text_of(value: str | None, field: str, longest: int) -> str | None:
    """Strip a rendered text; None when nothing is left.

    UnusableError: text_too_long. What PostgreSQL cannot store (NUL, lone surrogates) needs no look:
    no literal of a config or of its merge fields has it, and what was stored cannot.
    """
    text = (value or "").strip()
    if len(text) > longest:
        raise UnusableError(
            "text_too_long",
            f"{field} may have {longest:,} characters after rendering, not {len(text):,}",
        )
    return text or None


@cache
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in available_timezones() - _NO_ZONES}


def zone_of(name: str, field: str) -> ZoneInfo:
    """Give the time zone of an IANA name, in any case; UnusableError: time_zone_unknown."""
    if found := _zones().get(name.strip().casefold()):
        return ZoneInfo(found)
    raise UnusableError("time_zone_unknown", f"{field} is no IANA time zone, such as Europe/Paris")
