"""wait_until_date: which instant a date means, and what follows when it is past or missing."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors import wait_until_date
from actors.wait_until_date import WaitUntilDate
from runtime.outcomes import Done, Failed, Outcome, Skipped, Sleep
from runtime.stage import Account, Stage
from tests.backstage import at, timing_item

NOW = at("2026-01-10T12:00:00+00:00")


async def outcome_of(
    config: dict[str, Any], contact: dict[str, Any] | None = None, *, now: datetime = NOW
) -> Outcome:
    """What the performance says for one contact of an account in New York."""
    account = Account(uuid4(), "Acme", "America/New_York", "USD", "US", is_test=True)
    item = timing_item(wait_until_date.ACTION, config, contact, account=account)
    stage = Stage(None, now, None, None)  # type: ignore[arg-type]  # it touches no database
    (outcome,) = await wait_until_date.perform(stage, [item])
    return outcome


async def wakes_at(
    config: dict[str, Any], contact: dict[str, Any] | None = None, *, now: datetime = NOW
) -> datetime:
    outcome = await outcome_of(config, contact, now=now)
    assert isinstance(outcome, Sleep)
    assert outcome.data == {"until": outcome.until.isoformat()}
    return outcome.until


async def test_a_specific_date_is_in_the_accounts_zone() -> None:
    config = {"date_type": "specific", "date_value": "2026-02-01T09:00:00"}
    assert await wakes_at(config) == at("2026-02-01T09:00:00-05:00")


async def test_a_date_without_time_is_its_beginning() -> None:
    config = {"date_type": "specific", "date_value": "2026-02-01"}
    assert await wakes_at(config) == at("2026-02-01T00:00:00-05:00")


async def test_a_date_with_an_offset_of_its_own_is_that_instant() -> None:
    config = {"date_type": "specific", "date_value": "2026-02-01T09:00:00+09:00"}
    assert await wakes_at(config) == at("2026-02-01T09:00:00+09:00")


@pytest.mark.parametrize(
    ("mode", "zone", "expected"),
    [
        ("utc", "Asia/Tokyo", "2026-02-01T09:00:00+00:00"),
        ("contact", "Asia/Tokyo", "2026-02-01T09:00:00+09:00"),
        ("contact", None, "2026-02-01T09:00:00-05:00"),
        ("contact", "Mars/Olympus", "2026-02-01T09:00:00-05:00"),
        ("account", "Asia/Tokyo", "2026-02-01T09:00:00-05:00"),
    ],
)
async def test_the_zone_is_the_accounts_the_contacts_or_utc(
    mode: str, zone: str | None, expected: str
) -> None:
    config = {
        "date_type": "specific",
        "date_value": "2026-02-01",
        "time_of_day": "09:00",
        "timezone_mode": mode,
    }
    assert await wakes_at(config, {"time_zone": zone}) == at(expected)


async def test_a_skipped_local_time_takes_the_first_valid_instant_after_the_gap() -> None:
    config = {"date_type": "specific", "date_value": "2026-03-08T02:30:00"}
    assert await wakes_at(config) == at("2026-03-08T03:00:00-04:00")


async def test_a_repeated_local_time_takes_the_first() -> None:
    config = {"date_type": "specific", "date_value": "2026-11-01", "time_of_day": "01:30"}
    assert await wakes_at(config) == at("2026-11-01T01:30:00-04:00")


@pytest.mark.parametrize("value", ["2026-06-01", "2026-06-01T00:00:00", "2026-06-01T04:00:00Z"])
async def test_a_contact_field_holds_the_date(value: str) -> None:
    config = {"date_type": "contact_field", "field_name": "custom_fields.renewal"}
    contact = {"custom_fields": {"renewal": value}}
    assert await wakes_at(config, contact) == at("2026-06-01T00:00:00-04:00")


async def test_a_date_is_calculated_from_a_field_and_an_offset() -> None:
    config = {
        "date_type": "calculated",
        "field_name": "custom_fields.renewal",
        "offset": {"value": -2, "unit": "weeks"},
        "time_of_day": "10:00",
    }
    contact = {"custom_fields": {"renewal": "2026-06-01"}}
    assert await wakes_at(config, contact) == at("2026-05-18T10:00:00-04:00")


async def test_without_a_field_it_is_calculated_from_the_beginning_of_the_wait() -> None:
    config = {"date_type": "calculated", "offset": {"value": 2, "unit": "days"}}
    assert await wakes_at(config) == NOW + timedelta(days=2)
    config["time_of_day"] = "09:00"
    assert await wakes_at(config) == at("2026-01-12T09:00:00-05:00")


async def test_standard_fields_hold_dates_as_well() -> None:
    config = {
        "date_type": "calculated",
        "field_name": "created_at",
        "offset": {"value": 36, "unit": "hours"},
    }
    created = at("2026-01-10T08:00:00+00:00")
    assert await wakes_at(config, {"created_at": created}) == at("2026-01-11T20:00:00+00:00")


@pytest.mark.parametrize(
    ("if_past", "expected"),
    [
        (None, Done({"waited_until": "2026-01-01T05:00:00+00:00", "was_past": True})),
        ("continue", Done({"waited_until": "2026-01-01T05:00:00+00:00", "was_past": True})),
        (
            "end",
            Done({"waited_until": "2026-01-01T05:00:00+00:00", "was_past": True}, ends="date_past"),
        ),
    ],
)
async def test_a_past_date_goes_on_at_once_or_as_configured(
    if_past: str | None, expected: Outcome
) -> None:
    config = {"date_type": "specific", "date_value": "2026-01-01"}
    if if_past:
        config["if_past"] = if_past
    assert await outcome_of(config) == expected


async def test_a_past_date_fails_the_step_if_configured() -> None:
    config = {"date_type": "specific", "date_value": "2026-01-01", "if_past": "fail"}
    outcome = await outcome_of(config)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "date_past"
    assert not outcome.failure.retryable


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "date_missing"),
        ("", "date_missing"),
        ("next week", "date_unreadable"),
        (20_260_601, "date_unreadable"),
        (["2026-06-01"], "date_unreadable"),
        ("9999-12-31", "date_out_of_range"),
    ],
)
async def test_a_missing_or_unreadable_date_fails_the_step_or_as_configured(
    value: object, code: str
) -> None:
    config = {"date_type": "contact_field", "field_name": "custom_fields.renewal"}
    contact = {"custom_fields": {"renewal": value}}
    outcome = await outcome_of(config, contact)
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == code
    assert "next week" not in outcome.failure.message
    assert await outcome_of({**config, "if_missing": "continue"}, contact) == Skipped(code)
    ended = await outcome_of({**config, "if_missing": "end"}, contact)
    assert isinstance(ended, Done)
    assert ended.ends == code


async def test_resume_says_until_when_it_waited() -> None:
    account = Account(uuid4(), "Acme", "UTC", "USD", "US", is_test=True)
    config = {"date_type": "specific", "date_value": "2026-02-01"}
    item = timing_item(wait_until_date.ACTION, config, account=account)
    item.data = {"until": "2026-02-01T00:00:00+00:00"}
    stage = Stage(None, NOW, None, None)  # type: ignore[arg-type]
    assert await wait_until_date.resume(stage, [item]) == [
        Done({"waited_until": "2026-02-01T00:00:00+00:00", "was_past": False})
    ]


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"date_type": "specific"}, "incomplete"),
        ({"date_type": "contact_field"}, "incomplete"),
        ({"date_type": "calculated"}, "incomplete"),
        ({"date_type": "specific", "date_value": "1700000000"}, "not_a_date"),
        ({"date_type": "specific", "date_value": 1_700_000_000}, None),
        ({"date_type": "specific", "date_value": "2026-02-30"}, "not_a_date"),
        ({"date_type": "contact_field", "field_name": "email"}, "not_a_date_field"),
        ({"date_type": "contact_field", "field_name": "custom_fields."}, "not_a_date_field"),
        ({"date_type": "specific", "date_value": "2026-02-01", "time_of_day": "09:00Z"}, None),
        ({"date_type": "specific", "date_value": "2026-02-01", "time_of_day": "25:00"}, None),
        ({"date_type": "specific", "date_value": "2026-02-01", "timezone_mode": "mine"}, None),
        ({"date_type": "calculated", "offset": {"value": 10**12, "unit": "days"}}, None),
    ],
)
def test_a_config_that_says_no_date_is_refused(config: dict[str, Any], kind: str | None) -> None:
    with pytest.raises(ValidationError) as caught:
        WaitUntilDate.model_validate_json(orjson.dumps(config))
    if kind:
        assert caught.value.errors()[0]["type"] == kind


@pytest.mark.parametrize("value", ["2026-02-01", "2026-02-01T09:00:00", "2026-02-01T09:00:00Z"])
def test_a_config_survives_being_stored(value: str) -> None:
    text = orjson.dumps({"date_type": "specific", "date_value": value, "time_of_day": "09:00"})
    config = WaitUntilDate.model_validate_json(text)
    again = WaitUntilDate.model_validate_json(config.model_dump_json())
    assert again == config


@given(
    st.dates(date(2000, 1, 1), date(2090, 12, 31)),
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.sampled_from(["America/New_York", "Pacific/Apia", "Asia/Beirut", "Australia/Lord_Howe"]),
)
async def test_the_contacts_clock_never_shows_an_earlier_time_when_the_wait_ends(
    day: date, time_of_day: Any, zone: str
) -> None:
    config = {
        "date_type": "specific",
        "date_value": day.isoformat(),
        "time_of_day": time_of_day.isoformat(),
        "timezone_mode": "contact",
    }
    long_ago = datetime(1990, 1, 1, tzinfo=UTC)
    instant = await wakes_at(config, {"time_zone": zone}, now=long_ago)
    shown = instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    before = (instant - timedelta(minutes=1)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    assert before < datetime.combine(day, time_of_day) <= shown
