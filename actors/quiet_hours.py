"""Quiet hours: when a message may not disturb somebody, by the clock on their wall.

A window begins at `start` and ends before `end`, on every day; it may go over midnight. What
counts is what the wall clock shows, whatever it does: an hour that comes twice is judged twice,
one that is left out is never quiet, and where a window's end falls into the hour that is left
out, the window is over as soon as the clock has jumped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import phonenumbers
from phonenumbers import timezone

from actors.rendered import UnusableError, zone_of

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
SECOND: Final = timedelta(seconds=1)

# Past this an allowed instant is not looked for: if none comes in days, none will.
LONGEST_SEARCH: Final = timedelta(days=8)


@dataclass(frozen=True, slots=True)
class Window:
    """Quiet from `start` until before `end`; equal ends: never quiet."""

    start: time
    end: time

    def holds(self, wall: time) -> bool:
        """Whether it is quiet when the wall clock shows this."""
        if self.start <= self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end


# 47 CFR 64.1200(c)(1): no telephone solicitation before 8 a.m. or after 9 p.m. where the called
# party is. Who has given consent is not solicited (64.1200(f)(15)): see message_permission.
STATUTORY: Final = Window(time(21, 0), time(8, 0))


def is_quiet(windows: Sequence[Window], instant: datetime, zone: ZoneInfo) -> bool:
    """Whether any of the windows holds in a zone at an instant."""
    wall = instant.astimezone(zone).time()
    return any(window.holds(wall) for window in windows)


def next_allowed(
    windows: Sequence[Window], instant: datetime, zones: Sequence[ZoneInfo]
) -> datetime | None:
    """Give the first instant from `instant` on at which it is quiet in none of the zones.

    That is `instant` itself when it is allowed already; None when the zones lie so far apart that
    it is always quiet in one of them.
    """
    now, last = instant.astimezone(UTC), instant + LONGEST_SEARCH
    while now <= last:
        quiet = [zone for zone in zones if is_quiet(windows, now, zone)]
        ends = [_end(windows, now, zone, last) for zone in quiet]
        if not ends:
            return now
        # All of this time is quiet somewhere, so that no allowed instant is passed over.
        now = max(ends)
    return None


def _end(windows: Sequence[Window], now: datetime, zone: ZoneInfo, last: datetime) -> datetime:
    """The first instant at which none of the windows holds in a zone; one after `last` if none."""
    while now <= last:
        wall = now.astimezone(zone)
        holding = [window for window in windows if window.holds(wall.time())]
        if not holding:
            break
        left = max(_until(wall.time(), window.end) for window in holding)
        # Until the clock is next put forward or back it goes like any other.
        now = next(_changes(now, now + left, zone), now + left)
    return now


def _until(wall: time, end: time) -> timedelta:
    """How long an undisturbed wall clock takes from one time to the next coming of another."""
    passed = _since_midnight(end) - _since_midnight(wall)
    return passed if passed > timedelta(0) else passed + DAY


def _since_midnight(wall: time) -> timedelta:
    return timedelta(
        hours=wall.hour, minutes=wall.minute, seconds=wall.second, microseconds=wall.microsecond
    )


def _changes(after: datetime, until: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The instants in (after, until] at which a zone's offset changes, to the second."""
    low = after
    while low < until:
        high = min(low + HOUR, until)
        if _offset(low, zone) != _offset(high, zone):
            yield _change(low, high, zone)
        low = high


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    before = _offset(low, zone)
    low = low.replace(microsecond=0)  # changes come on whole seconds
    while high - low > SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if middle == low:
            break
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    return high.replace(microsecond=0)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()


@lru_cache(maxsize=2048)
def zone_named(name: str) -> ZoneInfo | None:
    """Give the zone of this IANA name; None if it is none."""
    try:
        return zone_of(name, "time_zone")
    except UnusableError:
        return None


@lru_cache(maxsize=100_000)
def zones_of_number(number: str) -> tuple[str, ...]:
    """The zones that a number in E.164 may be in, by its prefix; none when nothing is known.

    A number that its owner took along to another region still has its old prefix: nobody can
    tell, which is what a contact's own time_zone is for.
    """
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return ()
    names = timezone.time_zones_for_number(parsed)
    return tuple(name for name in names if zone_named(name) is not None)


@lru_cache(maxsize=100_000)
def is_us_number(number: str) -> bool:
    """Whether a number in E.164 is of the United States or their territories."""
    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return False
    return region in {"US", "PR", "GU", "VI", "AS", "MP"}
