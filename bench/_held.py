"""How long the engine's claim takes, alone and behind a paused workflow's steps."""

from __future__ import annotations

import statistics
import time
from typing import Final

from bench._world import World
from runtime.activation import pause
from runtime.claims import queries as claims
from runtime.clock import current_instant
from runtime.definitions import CompiledVersion
from runtime.executions import Entry, enrol
from runtime.lanes import MOST_LANES

READY: Final = 100
_TIMES: Final = 50


async def claim_ms(world: World, *, held: int) -> tuple[float, float]:
    """Give the claim's median time in ms with READY steps alone, and behind `held` steps more.

    No worker may run. Raises RuntimeError if the claim does not find exactly the ready steps.
    """
    # First made, so that its lane comes first.
    paused = await world.workflow("Paused", [("add_tag", {"tag_name": "never"})])
    ready = await world.workflow("Ready", [("add_tag", {"tag_name": "ready"})])
    await _enrol(world, ready, READY)
    await world.settle()
    empty_ms = await _median_ms(world)
    await _enrol(world, paused, held)
    async with world.pool.acquire() as db, db.transaction():
        await pause(db, await current_instant(db), world.account_id, paused.workflow_id)
    await world.settle()
    return empty_ms, await _median_ms(world)


async def _enrol(world: World, version: CompiledVersion, runs: int) -> None:
    people = len(world.contact_ids)
    for begin in range(0, runs, people):
        contact_ids = world.contact_ids[: min(people, runs - begin)]
        async with world.pool.acquire() as db, db.transaction():
            entry = Entry(entry_key=str(begin))
            await enrol(db, await current_instant(db), version, contact_ids, entry)


async def _median_ms(world: World) -> float:
    times = []
    async with world.pool.acquire() as db:
        for _ in range(_TIMES):
            transaction = db.transaction()
            await transaction.start()
            began = time.perf_counter()
            rows = await db.fetch(
                claims.claim_steps, "crm", world.settings.batch_size, 0, MOST_LANES
            )
            times.append((time.perf_counter() - began) * 1000)
            await transaction.rollback()
            if len(rows) != READY:
                raise RuntimeError(f"the claim took {len(rows)} steps instead of {READY}")
    return statistics.median(times)
