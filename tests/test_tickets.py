"""Tickets and the worker's answers to them: when they ring, and that none is lost."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest
from croniter import croniter  # type: ignore[import-untyped]

from runtime.activation import activate, pause
from runtime.clock import current_instant
from runtime.lanes import get_or_create_lanes
from runtime.registry import TimerType
from runtime.supervisor import Supervisor
from runtime.tickets import every
from tests.stand_ins import blocked_or_done
from tests.world import World


@pytest.mark.parametrize("seconds", [1, 2, 7, 30, 59])
def test_periodic_work_never_pauses_for_longer_than_it_says(seconds: int) -> None:
    ticks = croniter(every(seconds), datetime(2026, 1, 1, tzinfo=UTC), ret_type=datetime)
    instants = [ticks.get_next() for _ in range(500)]
    gaps = {later - sooner for sooner, later in pairwise(instants)}
    assert max(gaps) == timedelta(seconds=seconds)


@pytest.mark.parametrize("is_pausing", [True, False])
async def test_a_lane_made_while_its_workflow_is_paused_or_activated_obeys(
    world: World, is_pausing: bool
) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "New"}))
    if not is_pausing:
        async with world.pool.acquire() as db, db.transaction():
            await pause(db, await current_instant(db), world.account_id, workflow)
    async with world.pool.acquire() as changing, world.pool.acquire() as making:
        transaction = changing.transaction()
        await transaction.start()
        now = await current_instant(changing)
        if is_pausing:
            await pause(changing, now, world.account_id, workflow)
        else:
            await activate(changing, now, world.registry, world.account_id, workflow, world.user_id)
        key = ("webhook", world.account_id, workflow, None)
        made = asyncio.create_task(get_or_create_lanes(making, [key]))
        await blocked_or_done(world, made)
        await transaction.commit()
        await made
    paused = await world.pool.fetchval("SELECT is_paused FROM lanes WHERE family = 'webhook'")
    assert paused is is_pausing


async def test_a_wake_up_that_comes_while_timers_fire_is_not_lost(world: World) -> None:
    seen: list[str] = []

    async def fire(_stage: object, _timers: object) -> None:
        if not seen:
            seen.append("fired")
            await world.pool.execute(
                "UPDATE workflow_action_executions SET scheduled_at = now() - interval '1 hour'"
                " WHERE status = 'scheduled'"
            )
            await world.worker.wake()

    registry = type(world.registry)(
        world.registry.actions, world.registry.effects, {"test": TimerType("test", fire)}
    )
    world.registry = registry
    world.worker = await world.new_worker()
    workflow = await world.workflow(("wait_time", {"duration": 1, "unit": "days"}))
    await world.run(workflow, await world.contact())
    await world.pool.execute(
        "INSERT INTO timers (account_id, kind, due_at) VALUES ($1, 'test', now())",
        world.account_id,
    )
    await world.worker.wake()
    statuses = await world.pool.fetch("SELECT status FROM workflow_action_executions")
    assert [row["status"] for row in statuses] == ["pending"]


async def test_a_part_that_cancels_itself_is_started_again() -> None:
    supervisor = Supervisor()
    again = asyncio.Event()
    starts = 0

    async def part() -> None:
        nonlocal starts
        starts += 1
        if starts == 2:
            again.set()
            await asyncio.Event().wait()
        raise asyncio.CancelledError

    supervisor.start("part", part)
    await asyncio.wait_for(again.wait(), 10)
    await supervisor.stop()


async def test_a_step_that_is_claimed_alone_stays_so_through_a_pause(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "New"}))
    contact = await world.contact()
    (enrolment,) = await world.enrol(workflow, contact)
    await world.pool.execute("UPDATE workflow_action_executions SET hold = 'isolated'")
    await world.pool.execute("UPDATE workflow_executions SET status = 'paused'")
    await world.settle()
    assert enrolment.execution_id is not None
    (step,) = await world.steps(enrolment.execution_id)
    assert (step["status"], step["hold"]) == ("pending", "parked_isolated")


async def test_lanes_of_another_account_cannot_be_made(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "New"}))
    other = await world.account("Other")
    async with world.pool.acquire() as db:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await get_or_create_lanes(db, [("webhook", other, workflow, None)])
