"""Calendar arithmetic, against a reference that looks at every minute."""

# ruff: noqa: DTZ001 - local times, which have no zone, are what this file is about

from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.instants import (
    FIRST,
    LAST,
    OutOfRangeError,
    first_usable_zone,
    local,
    read,
    resolve,
    target,
)

# Changes of an hour, half an hour, a whole day (Apia skipped one, Kwajalein too), at midnight
# (Beirut, Asuncion), to the other side (Dublin's winter time), and none.
ZONES = [
    "UTC",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "Asia/Beirut",
    "America/Asuncion",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "America/Caracas",
    "Antarctica/Troll",
]
zones = st.sampled_from(ZONES)
MINUTE = timedelta(minutes=1)


def slow_first_instant(clock: datetime, zone: str) -> datetime:
    """The first minute, of all from long before, at which the clock shows `clock` or later."""
    instant = clock.replace(tzinfo=UTC) - timedelta(hours=28)
    while instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) < clock:
        instant += MINUTE
    return instant


def transitions(zone: str, year: int) -> list[datetime]:
    """The instants of a year at which the zone's clock jumps."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(366 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [
        hour
        for hour, before, after in zip(hours[1:], offsets, offsets[1:], strict=False)
        if before != after
    ]


NEAR_CHANGES = [
    (change.astimezone(ZoneInfo(zone)).replace(tzinfo=None), zone)
    for zone in ZONES
    for year in (1993, 2011, 2026)
    for change in transitions(zone, year)
]
clocks = st.builds(
    lambda near, minutes: (near[0] + timedelta(minutes=minutes), near[1]),
    st.sampled_from(NEAR_CHANGES),
    st.integers(-26 * 60, 26 * 60),
) | st.tuples(
    st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)).map(
        lambda d: d.replace(second=0, microsecond=0, fold=0)
    ),
    zones,
)


@given(clocks)
@example((datetime(2026, 3, 8, 2, 30), "America/New_York"))
@example((datetime(2026, 11, 1, 1, 30), "America/New_York"))
@example((datetime(2011, 12, 30, 9, 0), "Pacific/Apia"))
def test_a_local_time_is_the_first_instant_at_which_the_clock_shows_it_or_later(
    clock_and_zone: tuple[datetime, str],
) -> None:
    clock, zone = clock_and_zone
    assert resolve(clock, zone) == slow_first_instant(clock, zone)


def test_a_skipped_local_time_takes_the_first_valid_instant_after_the_gap() -> None:
    assert resolve(datetime(2026, 3, 8, 2, 30), "America/New_York") == datetime(
        2026, 3, 8, 7, 0, tzinfo=UTC
    )


def test_a_repeated_local_time_takes_the_first() -> None:
    assert resolve(datetime(2026, 11, 1, 1, 30), "America/New_York") == datetime(
        2026, 11, 1, 5, 30, tzinfo=UTC
    )


@given(st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)), zones)
def test_an_instant_stays_what_it_is(instant: datetime, zone: str) -> None:
    assert resolve(instant, zone) == instant
    assert target(instant, zone) == instant


@given(clocks, st.integers(-400, 400))
def test_days_keep_the_local_time_and_hours_are_elapsed_time(
    clock_and_zone: tuple[datetime, str], amount: int
) -> None:
    clock, zone = clock_and_zone
    assert target(clock, zone, offset=(amount, "days")) == slow_first_instant(
        clock + timedelta(days=amount), zone
    )
    assert target(clock, zone, offset=(amount, "hours")) == slow_first_instant(
        clock, zone
    ) + timedelta(hours=amount)


@given(clocks, st.times().map(lambda t: t.replace(second=0, microsecond=0)))
def test_a_time_of_day_replaces_the_local_time(
    clock_and_zone: tuple[datetime, str], time_of_day: time
) -> None:
    clock, zone = clock_and_zone
    wanted = datetime.combine(clock.date(), time_of_day)
    assert target(clock, zone, time_of_day=time_of_day) == slow_first_instant(wanted, zone)


def test_a_month_after_the_31st_is_the_months_last_day() -> None:
    assert target(date(2026, 1, 31), "UTC", offset=(1, "months")) == datetime(
        2026, 2, 28, tzinfo=UTC
    )
    assert target(date(2024, 2, 29), "UTC", offset=(1, "years")) == datetime(
        2025, 2, 28, tzinfo=UTC
    )


def test_a_time_of_day_of_an_instant_is_of_its_date_in_the_zone() -> None:
    late_evening = datetime(2026, 5, 1, 2, 0, tzinfo=UTC)  # still 30 April in New York
    assert target(late_evening, "America/New_York", time_of_day=time(9)) == datetime(
        2026, 4, 30, 13, 0, tzinfo=UTC
    )


@given(
    st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14))])),
    zones,
    st.tuples(
        st.integers(-1_000_000, 1_000_000),
        st.sampled_from(["minutes", "hours", "days", "weeks", "months", "years"]),
    )
    | st.none(),
    st.times() | st.none(),
)
def test_a_result_is_a_year_that_can_be_stored_and_read_back_or_a_clear_error(
    value: date, zone: str, offset: tuple[int, str] | None, time_of_day: time | None
) -> None:
    try:
        result = target(value, zone, offset=offset, time_of_day=time_of_day)  # type: ignore[arg-type]
    except OutOfRangeError:
        return
    assert FIRST <= result <= LAST


@pytest.mark.parametrize("value", ["", "soon", "05/01/2026", "2026-02-30", "2026-05-01T25:00", 7])
def test_what_is_no_date_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(value)


def test_dates_and_datetimes_are_read_with_and_without_zone() -> None:
    assert read("2026-05-01") == datetime(2026, 5, 1)
    assert read(" 2026-05-01T10:00 ") == datetime(2026, 5, 1, 10)
    assert read("2026-05-01T10:00:00Z") == datetime(2026, 5, 1, 10, tzinfo=UTC)


@given(st.text() | st.sampled_from(["../../etc/passwd", "/etc/localtime", "localtime", "a" * 500]))
def test_whatever_stands_in_a_contacts_time_zone_there_is_a_zone(name: str) -> None:
    zone = first_usable_zone(name, "Europe/Berlin")
    assert zone in available_timezones()
    assert resolve(datetime(2026, 5, 1), zone).tzinfo is UTC


def test_a_zones_name_is_known_in_any_case() -> None:
    assert first_usable_zone(" asia/tokyo") == "Asia/Tokyo"


def test_without_a_usable_zone_it_is_utc() -> None:
    assert first_usable_zone(None, "Mars/Olympus") == "UTC"
    assert local(datetime(2026, 5, 1, tzinfo=UTC), "UTC") == datetime(2026, 5, 1)
