"""wait_until_date: pause the execution until a date: a given one, a field's, or one calculated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors import instants
from actors.fields import Config, incomplete
from runtime.failures import Failure, Kind
from runtime.outcomes import Done, Failed, Outcome, Skipped, Sleep
from runtime.registry import ActionType
from runtime.stage import Item, Stage

STANDARD_FIELDS: Final = ("created_at", "updated_at")
CUSTOM_FIELD: Final = re.compile(r"custom_fields\.([a-z][a-z0-9_]{0,63})")


def _read(value: Any) -> Any:
    # Not left to pydantic, which reads «1700000000» as seconds since 1970 and no bare dates.
    if not isinstance(value, str):
        return value
    try:
        return instants.read(value)
    except ValueError:
        message = "a date is written as 2026-12-31, 2026-12-31T09:00 or 2026-12-31T09:00Z"
        raise PydanticCustomError("not_a_date", message) from None


def _is_a_date_field(name: str) -> str:
    if name not in STANDARD_FIELDS and not CUSTOM_FIELD.fullmatch(name):
        raise PydanticCustomError(
            "not_a_date_field",
            "a date field is {standard} or custom_fields.<key>",
            {"standard": ", ".join(STANDARD_FIELDS)},
        )
    return name


def _has_no_zone(value: time) -> time:
    if value.tzinfo is not None:
        raise PydanticCustomError("time_with_zone", "a time of day has no zone: use timezone_mode")
    return value


class Offset(Config):
    """How far from the field's date; negative is before it.

    Minutes and hours are elapsed time; days, weeks, months and years keep the local time.
    """

    value: Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
    unit: instants.Unit


class WaitUntilDate(Config):
    """Which date to wait for, in whose time zone, and what follows if it is past or missing.

    specific: `date_value`; contact_field: what `field_name` holds; calculated: `offset` from
    what `field_name` holds (no field_name: from the beginning of the wait). A date means the
    beginning of that day, a datetime without zone a local time, both in the zone of
    `timezone_mode` (a contact without a valid zone: the account's). `time_of_day` replaces the
    time that the date has in that zone.
    """

    date_type: Literal["specific", "contact_field", "calculated"]
    date_value: Annotated[datetime, BeforeValidator(_read)] | None = None
    field_name: Annotated[str, AfterValidator(_is_a_date_field)] | None = None
    offset: Offset | None = None
    time_of_day: Annotated[time, AfterValidator(_has_no_zone)] | None = None
    timezone_mode: Literal["account", "contact", "utc"] = "account"
    if_past: Literal["continue", "end", "fail"] = "continue"
    if_missing: Literal["fail", "continue", "end"] = "fail"

    @model_validator(mode="after")
    def _has_its_date(self) -> WaitUntilDate:
        match self.date_type:
            case "specific" if self.date_value is None:
                raise incomplete("date_value", "a specific date is needed")
            case "contact_field" if self.field_name is None:
                raise incomplete("field_name", "the field that holds the date is needed")
            case "calculated" if self.offset is None:
                raise incomplete("offset", "a calculated date needs its offset")
        return self


class NoDateError(Exception):
    """There is no date to wait for: `code` and a message without personal data."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Sleep until the date; the field is read once, now: changing it later moves nothing."""
    return [_outcome(item, stage.now) for item in items]


def _outcome(item: Item, now: datetime) -> Outcome:
    config = item.config
    assert isinstance(config, WaitUntilDate)
    try:
        until = _target(item, config, now)
    except NoDateError as error:
        return _without_date(config, error)
    if until > now:
        return Sleep(until, {"until": until.isoformat()})
    match config.if_past:
        case "end":
            return Done(_result(until.isoformat(), was_past=True), ends="date_past")
        case "fail":
            return Failed(Failure(Kind.REFUSED, "date_past", "the date to wait for is past"))
    return Done(_result(until.isoformat(), was_past=True))


def _target(item: Item, config: WaitUntilDate, now: datetime) -> datetime:
    offset = config.offset
    try:
        return instants.target(
            _base(item, config, now),
            _zone(item, config),
            offset=(offset.value, offset.unit)
            if offset and config.date_type == "calculated"
            else None,
            time_of_day=config.time_of_day,
        )
    except instants.OutOfRangeError as error:
        raise NoDateError("date_out_of_range", str(error)) from None


def _base(item: Item, config: WaitUntilDate, now: datetime) -> datetime | date:
    if config.date_type == "specific":
        assert config.date_value is not None
        return config.date_value
    if config.field_name is None:
        return now
    value = _field(item, config.field_name)
    if value is None or value == "":
        raise NoDateError("date_missing", f"the contact has no {config.field_name}")
    try:
        return instants.read(value)
    except ValueError:
        message = f"the contact's {config.field_name} is no ISO 8601 date or datetime"
        raise NoDateError("date_unreadable", message) from None


def _field(item: Item, name: str) -> Any:
    if custom := CUSTOM_FIELD.fullmatch(name):
        return item.contact["custom_fields"].get(custom[1])
    return item.contact[name]


def _zone(item: Item, config: WaitUntilDate) -> str:
    match config.timezone_mode:
        case "utc":
            return "UTC"
        case "contact":
            return instants.first_usable_zone(item.contact["time_zone"], item.account.time_zone)
    return instants.first_usable_zone(item.account.time_zone)


def _without_date(config: WaitUntilDate, error: NoDateError) -> Outcome:
    match config.if_missing:
        case "continue":
            return Skipped(error.code)
        case "end":
            return Done({"waited_until": None, "was_past": False}, ends=error.code)
    return Failed(Failure(Kind.INVALID_CONFIG, error.code, error.message))


def _result(until: str, *, was_past: bool) -> dict[str, Any]:
    return {"waited_until": until, "was_past": was_past}


async def resume(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Go on."""
    return [Done(_result(item.data["until"], was_past=False)) for item in items]


ACTION = ActionType(
    name="wait_until_date",
    family="timing",
    config=WaitUntilDate,
    perform=perform,
    resume=resume,
    gives={"waited_until": "the instant", "was_past": "whether it was past already"},
    refers={"field_name": "custom_field"},
)
