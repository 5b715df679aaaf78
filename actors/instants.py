"""Calendar arithmetic: from what a local clock or calendar says to an instant.

Values come in three kinds. A date is that day's first moment in a zone; a datetime without zone
is what a clock in the zone shows; a datetime with zone is an instant already. One law settles
local times that a zone skips or repeats: the result is the first instant at which the zone's
clock shows that time or a later one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal

from pydantic_core import PydanticCustomError
from whenever import Instant, PlainDateTime

from actors.fields import misfit
from actors.rendered import UnusableError, zone_of

Unit = Literal["minutes", "hours", "days", "weeks", "months", "years"]
_MINUTES: Final = {"minutes": 1, "hours": 60}
_DAYS: Final = {"days": 1, "weeks": 7}
_MONTHS: Final = {"months": 1, "years": 12}

# PostgreSQL stores later instants and asyncpg cannot read them back. A day is left at either end
# so that no zone, and nobody who rounds, steps over the years that datetime has.
FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)

LONGEST_WAIT: Final = timedelta(days=3650)
"""The longest wait that is given as a duration; what is longer is a mistake."""


def too_long(field: str) -> PydanticCustomError:
    """Build the error for a config's field that asks for more than the longest wait."""
    return misfit("wait_too_long", field, f"a wait lasts at most {LONGEST_WAIT.days} days")


class OutOfRangeError(ValueError):
    """The result lies before the year 1 or after the year 9999."""


LONGEST_ZONE_NAME: Final = 64


@lru_cache(maxsize=1024)
def _zone(name: str) -> str | None:
    try:
        return zone_of(name, "time_zone").key
    except UnusableError:
        return None


def first_usable_zone(*names: str | None) -> str:
    """Give the first name that is an IANA zone, whatever else stands there; UTC if none is."""
    # What is longer than any zone's name must not fill the cache either.
    short = (name for name in names if name and len(name) <= LONGEST_ZONE_NAME)
    return next((zone for name in short if (zone := _zone(name))), "UTC")


def read(value: object) -> datetime | date:
    """Read a date or datetime, or an ISO 8601 text of one; ValueError for anything else."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str):
        raise ValueError("not a date")  # noqa: TRY004 - a value of a contact, not a defect of ours
    return datetime.fromisoformat(value.strip())


def target(
    value: datetime | date,
    zone: str,
    *,
    offset: tuple[int, Unit] | None = None,
    time_of_day: time | None = None,
) -> datetime:
    """Give the instant (in UTC) that `value` names in `zone`, moved by `offset`, at `time_of_day`.

    Minutes and hours are elapsed time; days, weeks, months and years move the calendar's date and
    keep the time that the clock shows (31 January and a month: 28 or 29 February). `zone` must be
    a zone. OutOfRangeError for results outside the years 1 to 9999.
    """
    try:
        moment = value if offset is None else _moved(value, zone, *offset)
        if time_of_day is not None:
            moment = datetime.combine(local(moment, zone).date(), time_of_day)
        instant = resolve(moment, zone)
    except (ValueError, OverflowError):
        raise OutOfRangeError("the date lies outside the years 1 to 9999") from None
    if not FIRST <= instant <= LAST:
        raise OutOfRangeError("the date lies outside the years 1 to 9999")
    return instant


def resolve(moment: datetime | date, zone: str) -> datetime:
    """Give the first instant at which the zone's clock shows this time or a later one."""
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        return moment.astimezone(UTC)
    clock = PlainDateTime(local(moment, zone))
    # Of a repeated time the earlier one; for a skipped one, an instant before the gap.
    zoned = clock.assume_tz(zone, disambiguation="earlier")
    if zoned.to_plain() != clock and (after_gap := zoned.next_transition()):
        zoned = after_gap
    return zoned.to_instant().to_stdlib()


def local(moment: datetime | date, zone: str) -> datetime:
    """Give what the zone's clock shows at that moment, as a datetime without zone."""
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time())
    if moment.tzinfo is None:
        return moment
    return Instant(moment.astimezone(UTC)).to_tz(zone).to_plain().to_stdlib()


def _moved(value: datetime | date, zone: str, amount: int, unit: Unit) -> datetime:
    if minutes := _MINUTES.get(unit):
        return resolve(value, zone) + timedelta(minutes=amount * minutes)
    clock = PlainDateTime(local(value, zone))
    return clock.add(
        months=amount * _MONTHS.get(unit, 0), days=amount * _DAYS.get(unit, 0)
    ).to_stdlib()
