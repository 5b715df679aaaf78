"""move_pipeline_stage: requirement R3.7."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from pydantic import ValidationError

from actors.move_pipeline_stage import ACTION, MovePipelineStage
from runtime.stage import Account
from tests.backstage import Backstage

DAY = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Pipeline:
    """A pipeline with two stages."""

    id: UUID
    first: UUID
    second: UUID

    def to_second(self, **config: Any) -> dict[str, Any]:
        """Give the config of a move to the second stage."""
        return {"pipeline_id": str(self.id), "stage_id": str(self.second), **config}


class Sales(Backstage):
    """A CRM with pipelines."""

    async def pipeline(self, account: Account) -> Pipeline:
        pipeline = await self.add("pipelines", account_id=account.id, name="Sales")
        stages = [
            await self.add(
                "pipeline_stages",
                account_id=account.id,
                pipeline_id=pipeline,
                name=name,
                position=n,
            )
            for n, name in enumerate(("New", "Won over"))
        ]
        return Pipeline(pipeline, *stages)

    async def opportunity(
        self, account: Account, contact: UUID, pipeline: Pipeline, *, day: int = 0, **columns: Any
    ) -> UUID:
        return await self.add(
            "opportunities", account_id=account.id, contact_id=contact, pipeline_id=pipeline.id,
            stage_id=pipeline.first, name="Deal", created_at=DAY + timedelta(days=day), **columns,
        )  # fmt: skip


@pytest.fixture
def backstage(pool: asyncpg.Pool) -> Sales:
    return Sales(pool)


async def test_moves_the_opportunity_writes_history_and_emits_stage_changed(
    backstage: Sales,
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    pipeline = await backstage.pipeline(account)
    deal = await backstage.opportunity(account, contact, pipeline)

    done = await backstage.perform(ACTION, (account, contact, pipeline.to_second()))

    move = {
        "opportunity_id": str(deal),
        "from_pipeline_id": str(pipeline.id),
        "from_stage_id": str(pipeline.first),
        "to_pipeline_id": str(pipeline.id),
        "to_stage_id": str(pipeline.second),
    }
    assert done.result == {**move, "moved": True}
    (event,) = done.events
    assert (event.event_type, event.contact_id, event.payload) == ("stage_changed", contact, move)
    row = await backstage.row("opportunities", deal)
    assert row["stage_id"] == pipeline.second
    assert row["stage_entered_at"] == row["updated_at"] == done.stage.now
    (history,) = await backstage.rows("opportunity_stage_history", account)
    assert (history["from_stage_id"], history["to_stage_id"]) == (pipeline.first, pipeline.second)
    assert (history["step_id"], history["moved_at"]) == (done.items[0].step_id, done.stage.now)


async def test_one_that_is_there_already_is_not_moved_and_nothing_is_told(backstage: Sales) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    pipeline = await backstage.pipeline(account)
    await backstage.opportunity(account, contact, pipeline)
    await backstage.perform(ACTION, (account, contact, pipeline.to_second()))

    again = await backstage.perform(ACTION, (account, contact, pipeline.to_second()))

    assert again.result["moved"] is False
    assert again.events == []
    assert len(await backstage.rows("opportunity_stage_history", account)) == 1


@pytest.mark.parametrize(
    ("selector", "expected"), [({}, 2), ({"opportunity_selector": "latest"}, 2),
                               ({"opportunity_selector": "first"}, 1)]
)  # fmt: skip
async def test_first_and_latest_are_the_oldest_and_newest_open_ones_of_the_target_pipeline(
    backstage: Sales, selector: dict[str, str], expected: int
) -> None:
    account = await backstage.account()
    contact, other = await backstage.contact(account), await backstage.contact(account)
    pipeline, elsewhere = await backstage.pipeline(account), await backstage.pipeline(account)
    deals = [
        await backstage.opportunity(account, contact, elsewhere, day=-9),
        await backstage.opportunity(account, contact, pipeline, day=1),
        await backstage.opportunity(account, contact, pipeline, day=2),
        await backstage.opportunity(account, contact, elsewhere, day=9),
        await backstage.opportunity(account, contact, pipeline, day=0, status="lost"),
        await backstage.opportunity(account, contact, pipeline, day=3, status="won"),
        await backstage.opportunity(account, other, pipeline, day=4),
    ]

    done = await backstage.perform(ACTION, (account, contact, pipeline.to_second(**selector)))

    assert done.result["opportunity_id"] == str(deals[expected])


async def test_one_from_another_pipeline_is_moved_where_the_target_has_none(
    backstage: Sales,
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    pipeline, elsewhere = await backstage.pipeline(account), await backstage.pipeline(account)
    deal = await backstage.opportunity(account, contact, elsewhere)

    done = await backstage.perform(ACTION, (account, contact, pipeline.to_second()))

    assert done.result["from_pipeline_id"] == str(elsewhere.id)
    assert (await backstage.row("opportunities", deal))["pipeline_id"] == pipeline.id


async def test_specific_takes_the_given_one_even_when_it_is_closed(backstage: Sales) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    pipeline = await backstage.pipeline(account)
    deal = await backstage.opportunity(account, contact, pipeline, status="lost")
    await backstage.opportunity(account, contact, pipeline, day=1)
    config = pipeline.to_second(opportunity_selector="specific")

    done = await backstage.perform(
        ACTION, (account, contact, {**config, "opportunity_id": "{{trigger.deal}}"}), deal=deal
    )

    assert done.result["opportunity_id"] == str(deal)
    assert done.result["moved"] is True


async def test_a_contact_without_opportunity_is_skipped(backstage: Sales) -> None:
    account = await backstage.account()
    contact, lucky = await backstage.contact(account), await backstage.contact(account)
    pipeline = await backstage.pipeline(account)
    await backstage.opportunity(account, lucky, pipeline)
    specific = {"opportunity_selector": "specific", "opportunity_id": "{{trigger.nothing}}"}

    done = await backstage.perform(
        ACTION,
        (account, contact, pipeline.to_second()),
        (account, lucky, pipeline.to_second(**specific)),
    )

    assert done.reasons == ["no_opportunity", "no_opportunity"]


async def test_what_is_of_another_account_or_contact_does_not_exist(backstage: Sales) -> None:
    account, theirs = await backstage.account(), await backstage.account()
    contact, other = await backstage.contact(account), await backstage.contact(account)
    stranger = await backstage.contact(theirs)
    pipeline, foreign = await backstage.pipeline(account), await backstage.pipeline(theirs)
    await backstage.opportunity(account, contact, pipeline)
    foreign_deal = await backstage.opportunity(theirs, stranger, foreign)
    others_deal = await backstage.opportunity(account, other, pipeline)

    async def reason(**config: Any) -> str | None:
        config = {name: str(value) for name, value in config.items()}
        done = await backstage.perform(ACTION, (account, contact, pipeline.to_second(**config)))
        return done.reason

    assert await reason(pipeline_id=foreign.id, stage_id=foreign.second) == "pipeline_not_found"
    assert await reason(pipeline_id=uuid4()) == "pipeline_not_found"
    assert await reason(stage_id=foreign.second) == "stage_not_found"
    for deal in (foreign_deal, others_deal, uuid4()):
        specific = await reason(opportunity_selector="specific", opportunity_id=deal)
        assert specific == "opportunity_not_found"
    assert await backstage.rows("opportunity_stage_history", account) == []
    assert await backstage.rows("opportunity_stage_history", theirs) == []


@pytest.mark.parametrize(
    ("table", "code"), [("pipelines", "pipeline_not_found"), ("pipeline_stages", "stage_not_found")]
)
async def test_what_was_deleted_does_not_exist(backstage: Sales, table: str, code: str) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    pipeline = await backstage.pipeline(account)
    await backstage.opportunity(account, contact, pipeline)
    await backstage.pool.execute(f"UPDATE {table} SET deleted_at = now()")
    done = await backstage.perform(ACTION, (account, contact, pipeline.to_second()))
    assert done.reason == code


async def test_a_batch_moves_each_to_its_own_target_in_two_statements(backstage: Sales) -> None:
    ours, theirs = await backstage.account(), await backstage.account()
    steps, deals = [], []
    for account in (ours, theirs, ours):
        contact, pipeline = await backstage.contact(account), await backstage.pipeline(account)
        deals.append(await backstage.opportunity(account, contact, pipeline))
        steps.append((account, contact, pipeline.to_second()))

    done = await backstage.perform(ACTION, *steps)

    assert [result["opportunity_id"] for result in done.results] == [str(deal) for deal in deals]
    assert [result["to_stage_id"] for result in done.results] == [s[2]["stage_id"] for s in steps]
    assert done.statements == 2


def test_a_specific_move_without_opportunity_is_incomplete() -> None:
    config = {
        "pipeline_id": str(uuid4()),
        "stage_id": str(uuid4()),
        "opportunity_selector": "specific",
    }
    with pytest.raises(ValidationError) as caught:
        MovePipelineStage.model_validate_json(orjson.dumps(config))
    assert caught.value.errors()[0]["type"] == "incomplete"
