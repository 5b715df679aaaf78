"""Bringing contacts through the journey by Callboard, and how long that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from bench._journey import Journey
from bench._worker import Worker
from runtime.bell import Bell

_LOOK_SECONDS: Final = 0.02
_STUCK_SECONDS: Final = 600


async def through(journey: Journey, worker: Worker, contact_ids: Sequence[UUID]) -> float:
    """Enrol contacts, ring, and wait for the last end; gives the seconds since the commit."""
    bell = Bell(journey.world.pool, journey.world.wake_bucket)
    await journey.enrol(contact_ids)
    began = time.perf_counter()
    await bell.ring_families(["crm"])
    async with asyncio.timeout(_STUCK_SECONDS):
        while not await journey.world.is_over(journey.version):
            worker.check()
            await asyncio.sleep(_LOOK_SECONDS)
    return time.perf_counter() - began
