"""Quiet hours hold by the wall clock of whoever is written to, whatever that clock does."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.quiet_hours import STATUTORY, Window, is_us_number, next_allowed, zones_of_number
from tests.backstage import at

NIGHT = Window(time(21), time(9))
MINUTE = timedelta(minutes=1)

# Those that skip or repeat an hour by night, at midnight (Cairo, Santiago, Beirut), by half an
# hour (Lord Howe), or never; offsets of quarters; and a whole day left out (Apia, 2011-12-30).
ZONES = (
    "America/New_York", "Europe/Berlin", "Africa/Cairo", "America/Santiago", "Asia/Beirut",
    "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/Sao_Paulo", "UTC",
)  # fmt: skip

times = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 29, 30, 59]))
windows = st.lists(st.builds(Window, times, times), min_size=1, max_size=2)
zones = st.lists(st.sampled_from(ZONES).map(ZoneInfo), min_size=1, max_size=2, unique=True)
CHANGES = (
    "2026-03-08T06:00", "2026-11-01T05:00", "2026-04-23T20:00", "2018-11-03T23:00",
    "2026-09-06T02:00", "2026-10-03T14:00", "2026-04-04T13:00", "2011-12-29T20:00",
    "2018-11-04T01:00", "2026-03-28T20:00",
)  # fmt: skip
instants = st.builds(
    lambda day, minutes: at(f"{day}+00:00") + minutes * MINUTE,
    st.sampled_from(CHANGES),
    st.integers(-20 * 60, 20 * 60),
)


def slowly(windows: list[Window], instant: datetime, zones: list[ZoneInfo]) -> datetime | None:
    """The reference: minute by minute."""
    for n in range(2 * 24 * 60 + 1):
        now = instant + n * MINUTE
        walls = [now.astimezone(zone).time() for zone in zones]
        if not any(window.holds(wall) for window in windows for wall in walls):
            return now
    return None


@settings(max_examples=100, deadline=None)
@given(windows, instants, zones)
def test_the_next_allowed_instant_is_that_of_a_clock_watched_minute_by_minute(
    windows: list[Window], instant: datetime, zones: list[ZoneInfo]
) -> None:
    found = next_allowed(windows, instant, zones)
    expected = slowly(windows, instant, zones)
    if expected is not None or found is None:
        assert found == expected
    else:
        assert found > instant + timedelta(days=2)


@pytest.mark.parametrize(
    ("zone", "instant", "allowed"),
    [
        ("America/New_York", "2026-06-01T18:00-04:00", "2026-06-01T18:00-04:00"),
        ("America/New_York", "2026-06-01T21:00-04:00", "2026-06-02T09:00-04:00"),
        ("America/New_York", "2026-06-02T08:59:59-04:00", "2026-06-02T09:00-04:00"),
        ("America/New_York", "2026-03-07T23:00-05:00", "2026-03-08T09:00-04:00"),
        ("America/New_York", "2026-10-31T23:00-04:00", "2026-11-01T09:00-05:00"),
        ("Africa/Cairo", "2026-04-23T23:30+02:00", "2026-04-24T09:00+03:00"),
    ],
)  # fmt: skip
def test_nights_and_the_clock_s_changes(zone: str, instant: str, allowed: str) -> None:
    assert next_allowed([NIGHT], at(instant), [ZoneInfo(zone)]) == at(allowed)


def test_a_window_that_ends_in_the_hour_that_is_left_out_ends_with_the_jump() -> None:
    in_cairo = Window(time(22), time(0, 30))  # 2026-04-24 begins at one o'clock there
    found = next_allowed([in_cairo], at("2026-04-23T23:00+02:00"), [ZoneInfo("Africa/Cairo")])
    assert found == at("2026-04-24T01:00+03:00")


def test_an_hour_that_comes_twice_is_quiet_twice() -> None:
    early = Window(time(1), time(1, 30))
    new_york = [ZoneInfo("America/New_York")]
    first, second = at("2026-11-01T01:10-04:00"), at("2026-11-01T01:10-05:00")
    assert next_allowed([early], first, new_york) == at("2026-11-01T01:30-04:00")
    assert next_allowed([early], second, new_york) == at("2026-11-01T01:30-05:00")


def test_with_several_zones_it_is_allowed_only_where_it_is_allowed_in_all() -> None:
    both = [ZoneInfo("America/New_York"), ZoneInfo("America/Los_Angeles")]
    assert next_allowed([NIGHT], at("2026-06-01T10:00-04:00"), both) == at("2026-06-01T12:00-04:00")


def test_where_it_is_always_quiet_in_one_zone_there_is_no_such_instant() -> None:
    apart = [ZoneInfo("Pacific/Auckland"), ZoneInfo("Europe/London")]
    assert next_allowed([Window(time(20), time(9))], at("2026-06-01T10:00+00:00"), apart) is None


def test_equal_ends_are_no_window() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    assert next_allowed([Window(time(9), time(9))], now, [ZoneInfo("UTC")]) == now


def test_zones_come_from_the_number_s_prefix() -> None:
    assert zones_of_number("+12125550100") == ("America/New_York",)
    assert {"America/Boise", "America/Los_Angeles"} <= set(zones_of_number("+12085550100"))
    assert zones_of_number("no number") == ()
    assert is_us_number("+12125550100")
    assert not is_us_number("+4915112345678")
    assert not is_us_number("?")
    assert STATUTORY.holds(time(7, 59))
