"""create_opportunity: opens deals set-based, converted by dated rates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from actors import registry
from runtime import currency_rates
from runtime.outcomes import Done, Failed, Outcome
from runtime.settings import Settings
from runtime.stage import Account
from tests.api_desk import Desk, open_desk
from tests.backstage import Backstage

ACTION = registry.actions["create_opportunity"]
RATES = "/api/v1/currency-rates"


async def pipeline(backstage: Backstage, account: Account, *stages: str) -> tuple[UUID, list[UUID]]:
    pipeline_id = await backstage.add("pipelines", account_id=account.id, name="Sales")
    ids = [
        await backstage.add(
            "pipeline_stages",
            account_id=account.id,
            pipeline_id=pipeline_id,
            name=name,
            position=position,
        )
        for position, name in enumerate(stages)
    ]
    return pipeline_id, ids


def done(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Done), outcome
    return dict(outcome.result)


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Failed), outcome
    return outcome.failure.code


async def set_rate(backstage: Backstage, currency: str, day: str, rate: str, **more: Any) -> None:
    await backstage.add(
        "currency_rates",
        currency=currency,
        valid_on=date.fromisoformat(day),
        per_euro=Decimal(rate),
        **more,
    )


async def test_it_begins_in_the_first_stage_with_the_contact_s_owner(backstage: Backstage) -> None:
    account = await backstage.account()
    owner = await backstage.user(account)
    contact = await backstage.contact(account, last_name="Lovelace", owner_id=owner)
    pipeline_id, (first, _) = await pipeline(backstage, account, "Lead", "Won")
    config = {"pipeline_id": str(pipeline_id), "name": "Deal with {{contact.last_name}}"}
    performed = await backstage.perform(ACTION, (account, contact, config))
    result = done(performed.outcomes[0])
    (row,) = await backstage.rows("opportunities", account)
    assert (row["contact_id"], row["owner_id"], row["stage_id"]) == (contact, owner, first)
    assert (row["name"], row["value"], row["currency"]) == ("Deal with Lovelace", None, "USD")
    assert result["opportunity_id"] == str(row["id"])
    (event,) = performed.stage.events
    assert (event.event_type, event.payload) == ("opportunity_created", result)
    (history,) = await backstage.rows("opportunity_stage_history", account)
    assert (history["from_stage_id"], history["to_stage_id"]) == (None, first)


async def test_a_batch_takes_one_statement_and_one_bad_item_takes_nobody_along(
    backstage: Backstage,
) -> None:
    account, other = await backstage.account(), await backstage.account()
    pipeline_id, (_, second) = await pipeline(backstage, account, "Lead", "Won")
    foreign, (strange,) = await pipeline(backstage, other, "Lead")
    empty, _ = await pipeline(backstage, account)
    contacts = await backstage.contacts(account, 6)
    name = {"name": "Deal", "pipeline_id": str(pipeline_id)}
    configs = [
        {**name, "stage_id": str(second)},
        {**name, "stage_id": str(strange)},
        {**name, "pipeline_id": str(foreign)},
        {**name, "pipeline_id": str(empty)},
        {**name, "name": "{{contact.first_name}}"},
        {**name, "value": "12.3456"},
    ]
    performed = await backstage.perform(
        ACTION,
        *((account, contact, config) for contact, config in zip(contacts, configs, strict=True)),
    )
    assert performed.statements == 1
    outcomes = performed.outcomes
    assert done(outcomes[0])["stage_id"] == str(second)
    assert [code(outcome) for outcome in outcomes[1:5]] == [
        "stage_not_found", "pipeline_not_found", "stage_not_found", "name_empty",
    ]  # fmt: skip
    assert done(outcomes[5])["value"] == "12.3456"
    assert len(await backstage.rows("opportunities", account)) == 2


async def worth(backstage: Backstage, account: Account, **config: Any) -> dict[str, Any]:
    contact = await backstage.contact(account)
    pipeline_id, _ = await pipeline(backstage, account, "Lead")
    config = {"pipeline_id": str(pipeline_id), "name": "Deal", **config}
    performed = await backstage.perform(ACTION, (account, contact, config))
    return done(performed.outcomes[0])


async def test_a_value_in_another_currency_is_converted_by_the_latest_rates(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    for currency, day, rate in (
        ("USD", "2026-01-01", "9"), ("USD", "2026-01-02", "1.25"), ("USD", "2999-01-01", "9"),
        ("GBP", "2026-01-01", "0.8"),
    ):  # fmt: skip
        await set_rate(backstage, currency, day, rate)
    euros = await worth(backstage, account, value=100, currency="EUR")
    assert Decimal(euros["account_value"]) == 125
    assert (euros["account_currency"], euros["rate_valid_on"]) == ("USD", "2026-01-02")
    assert Decimal(euros["value"]) == 100
    assert euros["currency"] == "EUR"
    pounds = await worth(backstage, account, value=80, currency="GBP")
    assert Decimal(pounds["account_value"]) == 125
    assert pounds["rate_valid_on"] == "2026-01-01"
    own = await worth(backstage, account, value=7)
    assert Decimal(own["account_value"]) == 7
    assert own["rate_valid_on"] is None


async def test_an_account_s_own_rate_comes_before_the_bank_s_of_the_day(
    backstage: Backstage,
) -> None:
    account, other = await backstage.account(), await backstage.account()
    await set_rate(backstage, "USD", "2026-01-01", "1.25")
    await set_rate(backstage, "USD", "2026-01-01", "2", account_id=account.id)
    own = await worth(backstage, account, value=1, currency="EUR")
    theirs = await worth(backstage, other, value=1, currency="EUR")
    assert Decimal(own["account_value"]) == 2
    assert Decimal(theirs["account_value"]) == Decimal("1.25")


async def test_what_is_worth_little_may_be_worth_more_than_a_value_can_be(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    await set_rate(backstage, "USD", "2026-01-01", "90000000000000")
    euros = await worth(backstage, account, value="9999999999999999.9999", currency="EUR")
    assert Decimal(euros["account_value"]) == Decimal("9999999999999999.9999") * 90000000000000


async def test_without_a_rate_the_value_stays_as_it_is(backstage: Backstage) -> None:
    made = await worth(backstage, await backstage.account(), value=5, currency="CHF")
    assert (made["currency"], made["account_value"], made["account_currency"]) == (
        "CHF",
        None,
        None,
    )


async def test_the_table_is_seeded_with_the_bank_s_rates_once(pool: asyncpg.Pool) -> None:
    count = await currency_rates.seed(pool)
    assert count > 5_000
    assert await pool.fetchval("SELECT count(*) FROM currency_rates") == count
    assert await currency_rates.seed(pool) == 0
    days = await pool.fetchval("SELECT count(DISTINCT valid_on) FROM currency_rates")
    assert days == currency_rates.SEEDED_DAYS
    dollar = await pool.fetchval(
        "SELECT per_euro FROM currency_rates WHERE currency = 'USD' ORDER BY valid_on DESC LIMIT 1"
    )
    assert 0.5 < dollar < 2


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def test_rates_are_set_and_listed(desk: Desk) -> None:
    caller, other = await desk.caller(), await desk.caller("Other")
    rates: list[dict[str, Any]] = [
        {"currency": "USD", "valid_on": "2026-11-24", "per_euro": "1.1700"},
        {"currency": "GBP", "valid_on": "2026-11-25", "per_euro": 0.83},
    ]
    await caller.put(RATES, {"rates": rates})
    await caller.put(RATES, {"rates": [{**rates[0], "per_euro": "1.18"}]})
    shown = (await caller.get(RATES))["items"]
    assert [(one["currency"], one["per_euro"], one["source"]) for one in shown] == [
        ("GBP", "0.83", "account"), ("USD", "1.18", "account"),
    ]  # fmt: skip
    assert len((await caller.get(RATES, currency="USD", valid_to="2026-11-24"))["items"]) == 1
    assert (await caller.get(RATES, valid_from="2026-11-26"))["items"] == []
    assert (await other.get(RATES))["items"] == []


@pytest.mark.parametrize(
    ("rate", "path"),
    [
        ({"currency": "EUR"}, "rates[0].currency"),
        ({"currency": "UDS"}, "rates[0].currency"),
        ({"valid_on": "2026-02-30"}, "rates[0].valid_on"),
        ({"valid_on": "20260230"}, "rates[0].valid_on"),
        ({"valid_on": 5}, "rates[0].valid_on"),
        ({"per_euro": 0}, "rates[0].per_euro"),
        ({"per_euro": "NaN"}, "rates[0].per_euro"),
        ({"per_euro": "1e20"}, "rates[0].per_euro"),
    ],
)
async def test_a_wrong_rate_is_refused_by_its_path(
    desk: Desk, rate: dict[str, Any], path: str
) -> None:
    caller = await desk.caller()
    body = {"currency": "USD", "valid_on": "2026-11-24", "per_euro": 1.1, **rate}
    answer = await caller.refused("PUT", RATES, {"rates": [body]})
    assert [fault_path for fault_path, _ in answer.faults] == [path]


async def test_a_pipeline_of_nobody_is_a_failure_of_its_name(backstage: Backstage) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    config = {"pipeline_id": str(uuid4()), "name": "x"}
    performed = await backstage.perform(ACTION, (account, contact, config))
    assert code(performed.outcomes[0]) == "pipeline_not_found"
