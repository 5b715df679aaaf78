"""The kinds of value that bodies and query strings share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from actors.instants import FIRST, LAST
from actors.rendered import UnusableError

INT32_MAX = 2**31 - 1


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text.strip()


def _written_out(value: object) -> object:
    """Refuse all but text with a date, such as seconds since 1970, which pydantic would read."""
    if not isinstance(value, str) or value[4:5] != "-":
        raise PydanticCustomError("datetime_parsing", "must be written like 2026-01-31T09:00:00Z")
    return value


def _in_utc(instant: datetime) -> datetime:
    try:
        moment = instant.astimezone(UTC)
    except OverflowError:
        moment = LAST.max.replace(tzinfo=UTC)
    if not FIRST <= moment <= LAST:
        raise PydanticCustomError("date_out_of_range", "must lie in the years 1 to 9999")
    return moment


def checked(check: Callable[[str], Any]) -> AfterValidator:
    """Take what a check of the actions makes of a text; UnusableError becomes a fault."""

    def validate(text: str) -> Any:
        try:
            return check(text)
        except UnusableError as error:
            raise PydanticCustomError(error.code, "{reason}", {"reason": error.message}) from None

    return AfterValidator(validate)


def left_out() -> Any:
    """Say that a body may leave a field out, which is not the same as null: it then stays."""
    return Field(default_factory=lambda: None)


Name = Annotated[str, StringConstraints(max_length=200), AfterValidator(_not_blank)]
"""What people call something."""

Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""An identifier that merge fields can use."""

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,49}$")]
"""The name of a domain event."""

Position = Annotated[int, Field(ge=0, le=INT32_MAX)]
"""A place in a chain, counted from 0."""

Instant = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_written_out), AfterValidator(_in_utc)
]
"""A date with time and zone, in ISO 8601, brought to UTC."""


def _day(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value) if len(value) == 10 else _no_day()
        except ValueError:
            _no_day()
    return value


def _no_day() -> NoReturn:
    raise PydanticCustomError("date", "a day is written as 2026-12-31")


Day = Annotated[date, BeforeValidator(_day)]
"""A day of the calendar in ISO 8601."""

Object = dict[str, Any]
"""Any JSON object."""
