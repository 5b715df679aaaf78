"""create_opportunity: open an opportunity for the contact in a pipeline.

Its value stays as it is given; beside it stands what that is in the account's currency, by the
latest rates of the day (see runtime/currency_rates.py). Where no rate is known it stands empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from pydantic import Field

from actors.currencies import Currency
from actors.fields import Config, RequiredMergeText
from actors.rendered import UnusableError, each, text_of
from runtime.ids import new_id
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("create_opportunity")

LONGEST_NAME: Final = 200


class CreateOpportunity(Config):
    """Where it begins and what it is worth.

    Without a stage it begins in the pipeline's first, without a currency it is in the account's.
    """

    pipeline_id: UUID
    stage_id: UUID | None = None
    name: RequiredMergeText
    # The column is numeric(20, 4).
    value: Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=4)] | None = None
    currency: Currency | None = None


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Open them all in one statement."""
    names = each(items, _name)
    able = [
        (item, name)
        for item, name in zip(items, names, strict=True)
        if not isinstance(name, Failed)
    ]
    made = {}
    if able:
        rows = [_row(item, name) for item, name in able]
        found = await stage.db.fetch(
            queries.create_opportunities, *zip(*rows, strict=True), stage.now, stage.now.date()
        )
        made = {item.step_id: row for (item, _), row in zip(able, found, strict=True)}
    return [
        name if isinstance(name, Failed) else _outcome(stage, item, name, made[item.step_id])
        for item, name in zip(items, names, strict=True)
    ]


def _name(item: Item) -> str:
    name = text_of(item.values["name"], "name", LONGEST_NAME)
    if name is None:
        raise UnusableError("name_empty", "the name is empty after rendering")
    return name


def _row(item: Item, name: str) -> tuple[Any, ...]:
    config = item.config
    assert isinstance(config, CreateOpportunity)
    return (
        new_id(),
        item.account_id,
        item.contact_id,
        config.pipeline_id,
        config.stage_id,
        name,
        config.value,
        config.currency,
        item.contact["owner_id"],
        item.step_id,
    )


def _outcome(stage: Stage, item: Item, name: str, row: asyncpg.Record) -> Outcome:
    if not row["pipeline_exists"]:
        return UnusableError("pipeline_not_found", "there is no such pipeline").outcome
    if row["id"] is None:
        return UnusableError("stage_not_found", "the pipeline has no such stage").outcome
    config = item.config
    assert isinstance(config, CreateOpportunity)
    told = told_of({**row, "pipeline_id": config.pipeline_id, "name": name})
    stage.emit(item, "opportunity_created", told)
    return Done(told)


def told_of(made: Mapping[str, Any]) -> dict[str, str | None]:
    """What the event opportunity_created says of an opportunity, whoever has made it."""
    fields = ("pipeline_id", "stage_id", "name", "value", "currency")
    worth = ("account_value", "account_currency", "rate_valid_on")
    told = {field: None if made[field] is None else str(made[field]) for field in fields + worth}
    return {"opportunity_id": str(made["id"]), **told}


ACTION = ActionType(
    name="create_opportunity",
    family="crm",
    config=CreateOpportunity,
    perform=perform,
    gives={
        "opportunity_id": "the opportunity",
        "pipeline_id": "its pipeline",
        "stage_id": "its stage",
        "name": "its name",
        "value": "its value",
        "currency": "the value's currency",
        "account_value": "the value in the account's currency",
        "account_currency": "that currency",
        "rate_valid_on": "the day of the rate",
    },
    emits=frozenset({"opportunity_created"}),
    refers={"pipeline_id": "pipeline", "stage_id": "stage"},
)
