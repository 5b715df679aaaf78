"""The check of an effect type says, just before the wire, what goes, waits, or never goes."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from runtime import executions
from runtime.clock import current_instant
from runtime.dispatching import dispatch, opt_out
from runtime.effect import Effect, Go, PutOff, Suppress, Verdict
from runtime.effect_claims import EffectClaims
from runtime.registry import Check
from tests.stand_ins import Counterpart, WorldWith, counterpart
from tests.world import World

HOUR = timedelta(hours=1)


@pytest.fixture
async def side() -> AsyncIterator[Counterpart]:
    """The other side, on loopback."""
    async with counterpart() as side:
        yield side


def saying(give: Callable[[Effect, datetime], Verdict]) -> Check:
    """A check that decides on one effect at a time."""

    async def check(_db: object, effects: Sequence[Effect], now: datetime) -> list[Verdict]:
        return [give(effect, now) for effect in effects]

    return check


async def board(side: Counterpart, world_with: WorldWith, check: Check | None) -> World:
    return await world_with(side.registry(side.effect(check=check)))


async def start(world: World, *names: str, **config: Any) -> list[UUID]:
    """Put one call of each name into the ledger, each of a contact; gives the executions."""
    started = []
    for name in names:
        workflow = await world.workflow(("webhook_call", {"calls": [name], **config}))
        (enrolment,) = await world.enrol(workflow, await world.contact())
        assert enrolment.execution_id is not None
        started.append(enrolment.execution_id)
    await world.worker._steps["webhook"].answer()
    return started


async def ledger(world: World) -> list[asyncpg.Record]:
    return await world.pool.fetch("SELECT * FROM effects ORDER BY request->>'name'")


async def test_what_may_go_goes_and_its_row_says_what_was_looked_at(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await board(side, world_with, saying(lambda _e, now: Go({"at": now.isoformat()})))
    (execution,) = await start(world, "a")
    await world.settle()
    (effect,) = await ledger(world)
    assert (effect["status"], set(effect["decision"])) == ("succeeded", {"at"})
    assert await world.statuses(execution) == ["completed"]


async def test_what_is_put_off_waits_without_an_attempt_and_is_looked_at_again_then(
    side: Counterpart, world_with: WorldWith
) -> None:
    asked = []

    def put_off_once(_effect: Effect, now: datetime) -> Verdict:
        asked.append(now)
        return Go() if len(asked) > 1 else PutOff(now + HOUR, "too_late", {"n": len(asked)})

    world = await board(side, world_with, saying(put_off_once))
    (execution,) = await start(world, "a")
    await world.settle()
    (effect,) = await ledger(world)
    assert (effect["status"], effect["attempt"], effect["error_code"]) == (
        "scheduled", 0, "too_late",
    )  # fmt: skip
    assert (effect["scheduled_at"], effect["decision"]) == (asked[0] + HOUR, {"n": 1})
    assert effect["worker_id"] is None
    await world.advance(minutes=59)
    assert side.came == []
    await world.advance(minutes=2)
    (effect,) = await ledger(world)
    assert (effect["status"], effect["attempt"], effect["error_code"]) == ("succeeded", 1, None)
    assert len(asked) == 2
    assert await world.statuses(execution) == ["completed"]


async def test_a_wake_up_is_rung_for_what_is_put_off(
    side: Counterpart, world_with: WorldWith
) -> None:
    soon = timedelta(seconds=10)
    world = await board(side, world_with, saying(lambda _e, now: PutOff(now + soon, "later")))
    await start(world, "a")
    await world.worker._effects["webhook"].answer()
    assert await world.pool.fetchval(
        "SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock LIKE 'wake:%'"
    )


async def test_nothing_is_put_off_into_the_past(side: Counterpart, world_with: WorldWith) -> None:
    world = await board(side, world_with, saying(lambda _e, now: PutOff(now - HOUR, "later")))
    await start(world, "a")
    await world.worker._effects["webhook"].answer()
    (effect,) = await ledger(world)
    assert effect["scheduled_at"] > await current_instant(world.pool)


async def test_what_is_suppressed_never_goes_and_its_step_is_skipped_with_the_reason(
    side: Counterpart, world_with: WorldWith
) -> None:
    check = saying(
        lambda e, _: Suppress("unwanted", {"x": 1}) if e.request["name"] == "b" else Go()
    )
    world = await board(side, world_with, check)
    _, refused = await start(world, "a", "b")
    await world.settle()
    assert side.names == ["a"]
    effect = (await ledger(world))[1]
    assert (effect["status"], effect["error_code"], effect["decision"]) == (
        "suppressed", "unwanted", {"x": 1},
    )  # fmt: skip
    (step,) = await world.steps(refused)
    assert (step["status"], step["skip_reason"]) == ("skipped", "unwanted")


async def test_a_check_that_raises_fails_its_own_effect_and_no_other(
    side: Counterpart, world_with: WorldWith
) -> None:
    def stumble(effect: Effect, _now: datetime) -> Verdict:
        if effect.request["name"] == "b":
            raise KeyError("zone")
        return Go()

    world = await board(side, world_with, saying(stumble))
    _, broken, _ = await start(world, "a", "b", "c")
    await world.settle()
    assert sorted(side.names) == ["a", "c"]
    (step,) = await world.steps(broken)
    assert (step["status"], step["error_code"]) == ("failed", "check_crashed")
    assert step["error_message"] == "the check raised KeyError"


async def test_each_kind_of_a_group_is_asked_once_and_kinds_without_a_check_are_left_alone(
    side: Counterpart, world_with: WorldWith
) -> None:
    asked: list[list[str]] = []

    async def check(_db: object, effects: Sequence[Effect], _now: datetime) -> list[Verdict]:
        asked.append([e.request["name"] for e in effects])
        return [Suppress("no") for _ in effects]

    world = await board(side, world_with, None)
    await start(world, "a", "b", "c", "d")
    claimed, _ = await EffectClaims(world.pool, world.worker.id).claim("webhook", 50)
    other = {"b", "d"}
    mixed = [replace(e, kind="test.other") if e.request["name"] in other else e for e in claimed]
    types = {
        "test.call": side.effect(),
        "test.other": replace(side.effect(check=check), kind="test.other"),
    }
    async with world.pool.acquire() as db:
        going, _ = await dispatch(db, mixed, world.worker.id, types)
    assert sorted(e.request["name"] for e in going) == ["a", "c"]
    assert [sorted(names) for names in asked] == [["b", "d"]]


async def test_a_check_costs_no_round_trip_but_its_own(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await board(side, world_with, None)
    await start(world, "a", "b", "c", "d")
    claimed, _ = await EffectClaims(world.pool, world.worker.id).claim("webhook", 50)
    counts = []
    check = saying(lambda _e, _now: Go({}))
    for part, type_ in ((claimed[:2], side.effect()), (claimed[2:], side.effect(check=check))):
        queries: list[str] = []
        async with world.pool.acquire() as db:
            with db.query_logger(lambda record, seen=queries: seen.append(record.query)):
                going, _ = await dispatch(db, part, world.worker.id, {"test.call": type_})
        assert going == list(part)
        counts.append(len([query for query in queries if query.startswith("/*")]))
    assert counts == [3, 3]


async def test_a_paused_execution_is_parked_whether_or_not_its_effect_would_be_put_off(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await board(side, world_with, saying(lambda _e, now: PutOff(now + HOUR, "later")))
    (execution,) = await start(world, "a")
    claimed, _ = await EffectClaims(world.pool, world.worker.id).claim("webhook", 50)
    types = world.registry.effects
    async with world.pool.acquire() as db:
        async with db.transaction():
            await executions.pause(db, world.account_id, [execution])
        await db.execute("UPDATE effects SET status = 'claimed', worker_id = $1", world.worker.id)
        assert (await dispatch(db, claimed, world.worker.id, types))[0] == []
    (effect,) = await ledger(world)
    assert (effect["status"], effect["hold"]) == ("pending", "parked")


async def test_an_opt_out_of_what_was_put_off_suppresses_it_at_once_and_says_why(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await board(side, world_with, saying(lambda _e, now: PutOff(now + HOUR, "later")))
    (execution,) = await start(world, "a", channel="sms", address="+15550001")
    await world.settle()
    async with world.pool.acquire() as db:
        bells = await opt_out(db, world.account_id, "sms", "+15550001", "stop")
    assert bells.families == {"webhook"}
    await world.settle()
    (effect,) = await ledger(world)
    assert (effect["status"], effect["decision"]["reason"]) == ("suppressed", "opted_out")
    assert effect["decision"]["checks"][0]["because"] == "stop"
    (step,) = await world.steps(execution)
    assert (step["status"], step["skip_reason"]) == ("skipped", "opted_out")


async def test_a_cancelled_execution_s_effect_that_was_put_off_is_never_looked_at_again(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await board(side, world_with, saying(lambda _e, now: PutOff(now + HOUR, "later")))
    (execution,) = await start(world, "a")
    await world.settle()
    async with world.pool.acquire() as db, db.transaction():
        now = await current_instant(db)
        await executions.cancel(db, now, world.account_id, [execution], "enough")
    await world.advance(hours=2)
    (effect,) = await ledger(world)
    assert effect["status"] == "cancelled"


async def test_the_unsubscribed_still_get_what_is_no_marketing(
    side: Counterpart, world_with: WorldWith
) -> None:
    """What was put off already is told apart by the terms that its request bears."""
    world = await board(side, world_with, saying(lambda _e, now: PutOff(now + HOUR, "later")))
    await start(world, "a", "b", channel="email", address="bo@x.test")
    await world.settle()
    await world.pool.execute(
        'UPDATE effects SET request = request || \'{"permission": {"purpose": "transactional"}}\''
        " WHERE request->>'name' = 'b'"
    )
    async with world.pool.acquire() as db:
        await opt_out(db, world.account_id, "email", "bo@x.test", "unsubscribed")
        assert [e["status"] for e in await ledger(world)] == ["suppressed", "scheduled"]
        await opt_out(db, world.account_id, "email", "bo@x.test", "complaint")
        await opt_out(db, world.account_id, "email", "bo@x.test", "unsubscribed")
    assert [e["status"] for e in await ledger(world)] == ["suppressed", "suppressed"]
    assert await world.pool.fetchval("SELECT scope FROM channel_addresses") == "all"
