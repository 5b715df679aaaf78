"""Executions that sleep: seeded by the million, and watched while they wake up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from bench._worker import Worker
from bench._world import Action, World
from runtime.bell import Bell
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.definitions import CompiledVersion
from sql import Queries

queries = Queries(Path(__file__).with_name("_sleeping.sql"))

_CHUNK: Final = 50_000
_LOOK_SECONDS: Final = 0.02
_STUCK_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Sleepers:
    """Sleeping runs of one workflow (a wait, then a tag) and the instants they sleep until."""

    world: World
    version: CompiledVersion
    tag: str
    step_ids: Sequence[UUID]
    due: Sequence[datetime]

    async def wake_up(self, worker: Worker) -> datetime:
        """Ring for the instants as the engine does, and wait until all have gone on.

        Gives the instant at which that was seen.
        """
        bell = Bell(self.world.pool, self.world.wake_bucket)
        await bell.ring(Bells(wake_at=set(self.due)))
        async with asyncio.timeout(_STUCK_SECONDS):
            while not await self.world.is_over(self.version):
                worker.check()
                await asyncio.sleep(_LOOK_SECONDS)
        return await current_instant(self.world.pool)

    async def lags(self) -> list[float]:
        """How many seconds late each wait was over."""
        rows = await self.world.pool.fetch(queries.lags, self.step_ids, self.due)
        return [row["lag"] for row in rows]

    async def complaints(self) -> list[str]:
        """What is wrong after all have woken up."""
        woken, tagged = (
            len(await self.lags()),
            await self.world.pool.fetchval(queries.tagged, self.tag),
        )
        wanted = len(self.step_ids)
        if woken == tagged == wanted:
            return []
        return [f"{self.tag}: of {wanted} sleepers {woken} woke up and {tagged} went on"]


async def put_to_sleep(world: World, tag: str, due: Sequence[datetime]) -> Sleepers:
    """Make a run for every instant, each asleep in a wait until then."""
    actions: list[Action] = [
        ("wait_time", {"duration": 30, "unit": "days"}),
        ("add_tag", {"tag_name": tag}),
    ]
    version = await world.workflow(f"Until {tag}", actions)
    step_ids = [uuid7() for _ in due]
    for begin in range(0, len(due), _CHUNK):
        chunk = slice(begin, begin + _CHUNK)
        await _insert(world, version, begin, step_ids[chunk], due[chunk])
    return Sleepers(world, version, tag, step_ids, due)


async def _insert(
    world: World,
    version: CompiledVersion,
    begin: int,
    step_ids: Sequence[UUID],
    due: Sequence[datetime],
) -> None:
    wait = next(iter(version.actions.values()))
    people = len(world.contact_ids)
    numbers = range(begin, begin + len(due))
    await world.pool.execute(
        queries.put_to_sleep,
        world.account_id,
        version.workflow_id,
        version.id,
        [uuid7() for _ in due],
        step_ids,
        [world.contact_ids[number % people] for number in numbers],
        # A contact may have several runs only under keys that differ.
        [str(number // people) for number in numbers],
        due,
        wait.id,
        wait.lane_id,
    )


def spread(begin: datetime, span: timedelta, count: int) -> list[datetime]:
    """So many instants, evenly over the span, in an order that is not theirs."""
    # Neighbours in the table are not neighbours in time: a stride prime to the count.
    stride = next(s for s in range(max(count // 3, 1), 2 * count + 1) if _is_prime_to(s, count))
    return [begin + span * ((number * stride) % count / count) for number in range(count)]


def _is_prime_to(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1
