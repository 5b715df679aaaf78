"""The floor: the rows that Callboard writes, written by hand-made batches on asyncpg.

No engine: the five actions are known, nothing is compiled, checked, retried or isolated.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bench._floor_batch import Batch, Step, queries
from bench._journey import ACTIONS, Journey
from runtime.database import Connection

_IDLE_SECONDS = 0.001


@dataclass(slots=True)
class Floor:
    """Batches of the five actions; `hops` actions of an execution go into one commit."""

    journey: Journey
    hops: int
    done: int = 0

    async def run(self, *, connections: int) -> float:
        """Perform everything that is enrolled on so many connections; gives the seconds it took."""
        wanted = len(self.journey.world.contact_ids) * len(ACTIONS)
        began = time.perf_counter()
        await asyncio.gather(*(self._work(wanted) for _ in range(connections)))
        return time.perf_counter() - began

    async def _work(self, wanted: int) -> None:
        async with self.journey.world.pool.acquire() as db:
            while self.done < wanted:
                async with db.transaction():
                    done = await self._batch(db)
                self.done += done
                if not done:  # another connection has the rest in hand
                    await asyncio.sleep(_IDLE_SECONDS)

    async def _batch(self, db: Connection) -> int:
        size = self.journey.world.settings.batch_size
        rows = await db.fetch(queries.claim_steps, self.journey.lane_id, size)
        if not rows:
            return 0
        locked = await db.fetch(queries.lock_contacts, [row["contact_id"] for row in rows])
        contacts = {row["id"]: dict(row) for row in locked}
        steps = [
            Step(r["id"], r["workflow_execution_id"], contacts[r["contact_id"]], r["sequence"])
            for r in rows
        ]
        batch = Batch(self.journey, db)
        for _ in range(self.hops):
            steps = await batch.perform(steps)
        await batch.write(steps)
        return len(batch.completed)
