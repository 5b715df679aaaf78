"""Steps whose effects have ended are settled by the worker that recorded them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID, uuid4

import pytest

from runtime.clock import current_instant
from runtime.dispatching import dispatch
from runtime.effect import Sent
from runtime.effect_claims import EffectClaims
from runtime.effect_recording import Ended, record
from runtime.step_pool import StepPool
from tests.stand_ins import WorldWith, counterpart
from tests.world import World

FAMILY = "webhook"


@pytest.fixture
async def world(world_with: WorldWith) -> AsyncIterator[World]:
    """A world whose webhook_call makes the calls that its config names."""
    async with counterpart() as side:
        yield await world_with(side.registry())


@pytest.fixture
async def awake(world: World) -> AsyncIterator[StepPool]:
    """A pool that settles what is handed over."""
    steps = world.worker._steps[FAMILY]
    task = asyncio.create_task(steps.stay_awake())
    await asyncio.sleep(0)
    yield steps
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def ended(world: World, *calls: str, most: int = 50) -> tuple[UUID, set[UUID]]:
    """Record calls of one step as answered; gives the execution, and what was handed over."""
    workflow = await world.workflow(("webhook_call", {"calls": list(calls)}))
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    await world.worker._steps[FAMILY].answer()
    return enrolment.execution_id, await answered(world, most)


async def answered(world: World, most: int = 50) -> set[UUID]:
    handed_over: set[UUID] = set()
    claimed, _ = await EffectClaims(world.pool, world.worker.id).claim(FAMILY, most)
    now = await current_instant(world.pool)
    async with world.pool.acquire() as db:
        going, _ = await dispatch(db, claimed, world.worker.id)
        results = [Ended(effect, now, now, Sent()) for effect in going]
        await record(db, results, world.worker.id, handed_over.update)
    return handed_over


async def put_in_dead_hands(world: World, step_ids: set[UUID]) -> None:
    await world.pool.execute(
        "INSERT INTO batches_in_hand (worker_id, step_ids, taken_at)"
        " VALUES ($1, $2::uuid[], current_instant())",
        uuid4(),
        list(step_ids),
    )


async def is_isolated(world: World) -> bool:
    row = await world.pool.fetchrow("SELECT status, hold FROM workflow_action_executions")
    return row is not None and tuple(row) == ("pending", "isolated")


async def becomes(world: World, execution: UUID, status: str) -> None:
    async with asyncio.timeout(10):
        while await world.statuses(execution) != [status]:  # noqa: ASYNC110 - rows ring nobody
            await asyncio.sleep(0)


async def test_a_step_whose_effects_have_ended_is_settled_without_becoming_ready_first(
    world: World, awake: StepPool
) -> None:
    execution, handed_over = await ended(world, "one", "two")
    assert await world.statuses(execution) == ["running"]
    assert len(handed_over) == 1
    awake.settle(handed_over)
    await becomes(world, execution, "completed")


async def test_a_step_of_which_an_effect_is_open_is_settled_when_that_has_ended_too(
    world: World, awake: StepPool
) -> None:
    execution, handed_over = await ended(world, "one", "two", most=1)
    await awake._batches.run_settled(FAMILY, list(handed_over))
    assert await world.statuses(execution) == ["running"]
    assert await answered(world) == handed_over
    awake.settle(handed_over)
    await becomes(world, execution, "completed")


async def test_what_is_handed_over_of_a_paused_workflow_is_ready_and_waits(
    world: World, awake: StepPool
) -> None:
    execution, handed_over = await ended(world, "one")
    await world.pool.execute("UPDATE lanes SET is_paused = true")
    awake.settle(handed_over)
    await becomes(world, execution, "pending")


async def test_what_was_in_a_dead_worker_s_hands_when_its_effects_had_ended_is_settled_alone(
    world: World, awake: StepPool
) -> None:
    execution, handed_over = await ended(world, "one")
    await put_in_dead_hands(world, handed_over)
    done = await awake._batches.run_settled(FAMILY, list(handed_over))
    assert done.bells.families == {FAMILY}
    assert await is_isolated(world)
    await awake.answer()
    assert await world.statuses(execution) == ["completed"]


async def test_the_sweep_isolates_what_a_dead_worker_was_settling(world: World) -> None:
    _, handed_over = await ended(world, "one")
    await put_in_dead_hands(world, handed_over)
    await world.worker.sweep()
    assert await is_isolated(world)


async def test_a_step_whose_effect_is_to_be_sent_once_more_goes_on_waiting_for_it(
    world: World, awake: StepPool
) -> None:
    """Reported as undelivered after the step had become ready."""
    execution, handed_over = await ended(world, "one")
    await awake._batches._make_ready(list(handed_over))
    await world.pool.execute(
        "UPDATE effects SET status = 'scheduled', scheduled_at = now(), completed_at = NULL"
    )
    await awake.answer()
    assert await world.statuses(execution) == ["running"]
    await world.pool.execute("UPDATE effects SET status = 'pending', scheduled_at = NULL")
    awake.settle(await answered(world))
    await becomes(world, execution, "completed")


async def test_what_fails_while_it_is_settled_is_done_again_alone(
    world: World, awake: StepPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution, handed_over = await ended(world, "one")
    work, calls = awake._batches._work, list[bool]()

    async def fail_once(*arguments: object, careful: bool = False) -> object:
        calls.append(careful)
        if len(calls) == 1:
            raise RuntimeError("broken")
        return await work(*arguments, careful=careful)  # type: ignore[arg-type]

    monkeypatch.setattr(type(awake._batches), "_work", lambda _self, *a, **k: fail_once(*a, **k))
    awake.settle(handed_over)
    await becomes(world, execution, "completed")
    assert calls == [False, True]


async def test_nothing_is_handed_over_to_who_leaves_or_sleeps(
    world: World, awake: StepPool
) -> None:
    assert awake.is_awake
    awake.stop()
    assert not awake.is_awake
    assert not StepPool(FAMILY, world.worker._batches, world.worker.bell, 1).is_awake
