"""Steps that results make ready are seen to by the worker that recorded them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from runtime.step_pool import StepPool
from tests.world import World

FAMILY = "crm"


def new_pool(world: World) -> StepPool:
    """The steps of a family, in the hands of the world's worker."""
    return StepPool(FAMILY, world.worker._batches, world.worker.bell, 1)


@pytest.fixture
async def awake(world: World) -> AsyncIterator[StepPool]:
    """A pool that answers calls from within its worker."""
    steps = new_pool(world)
    task = asyncio.create_task(steps.stay_awake())
    await asyncio.sleep(0)
    yield steps
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_call_from_within_performs_what_is_ready_without_a_ticket(
    world: World, awake: StepPool
) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "VIP"}))
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    assert awake.look_again()
    async with asyncio.timeout(10):
        while await world.statuses(enrolment.execution_id) != ["completed"]:  # noqa: ASYNC110 - rows ring nobody
            await asyncio.sleep(0)


async def test_who_leaves_or_sleeps_says_so_and_a_ticket_is_rung_instead(
    world: World, awake: StepPool
) -> None:
    awake.stop()
    assert not awake.look_again()
    assert not new_pool(world).look_again()
