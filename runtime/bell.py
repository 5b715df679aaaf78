"""Ringing: Procrastinate tickets that say «look here», at most one queued for each reason.

A ticket is rung on a connection of its own after the commit that made work ready. It is only a
hint: the rows are the truth, and the safety sweep rings for anything that nobody claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.wakeups import near
from sql import load

queries = load("bell")

OPERATIONS: Final = "operations"
"""The queue of operations, and the lock of its one ticket that may be queued."""


class Bell:
    """Rings tickets; safe to be used by many tasks at once. A lost ring costs seconds, no step."""

    def __init__(self, pool: asyncpg.Pool, bucket: timedelta) -> None:
        self._pool = pool
        self._bucket = bucket

    async def ring(self, bells: Bells) -> None:
        """Ring everything that a transaction made due; after its commit."""
        if families := bells.families | bells.sending:
            await self.ring_families(families)
        if bells.wake_at:
            now = await current_instant(self._pool)
            await self.ring_wakeups(near(bells.wake_at, now, self._bucket))
        if bells.events:
            await self.ring_events()
        if bells.operations:
            await self.ring_operations()

    async def ring_families(self, families: Iterable[str]) -> None:
        """Ring for families that have ready work."""
        names = sorted(set(families))
        await self._ring(names, "ticket", names, [{"family": name} for name in names])

    async def ring_events(self) -> None:
        """Ring for domain events that are to be handed on."""
        await self._ring(["events"], "hand_on_events", ["events"], [{}])

    async def ring_operations(self) -> None:
        """Ring for operations that wait for a worker."""
        await self._ring([OPERATIONS], "run_operations", [OPERATIONS], [{}])

    async def ring_wakeups(self, buckets: Iterable[datetime]) -> None:
        """Ring for the instants of our clock at which something falls due."""
        due = sorted(set(buckets))
        names = [f"wake:{bucket.timestamp():.3f}" for bucket in due]
        await self._ring(["wake"] * len(due), "wake", names, [{}] * len(due), due)

    async def _ring(
        self,
        queues: list[str],
        task: str,
        locks: list[str],
        args: list[dict[str, str]],
        due: list[datetime] | None = None,
    ) -> None:
        if queues:
            when: Sequence[datetime | None] = due or [None] * len(queues)
            await self._pool.execute(queries.ring, queues, task, locks, args, when)
