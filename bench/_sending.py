"""Messages by Callboard, and how long they take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from bench._worker import Worker
from bench._world import World
from runtime.bell import Bell
from runtime.clock import current_instant
from runtime.definitions import CompiledVersion
from runtime.executions import enrol

_LOOK_SECONDS: Final = 0.02
_STUCK_SECONDS: Final = 600


async def send_to(
    world: World, worker: Worker, version: CompiledVersion, people: Sequence[UUID], family: str
) -> float:
    """Seconds from the enrolment's commit until the last run has ended, its result recorded."""
    bell = Bell(world.pool, world.wake_bucket)
    async with world.pool.acquire() as db, db.transaction():
        await enrol(db, await current_instant(db), version, people)
    began = time.perf_counter()
    await bell.ring_families([family])
    async with asyncio.timeout(_STUCK_SECONDS):
        while not await world.is_over(version):
            worker.check()
            await asyncio.sleep(_LOOK_SECONDS)
    return time.perf_counter() - began
