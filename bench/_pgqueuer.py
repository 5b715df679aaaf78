"""The five actions by PgQueuer, a job per action, each enqueueing the next as it commits."""

from __future__ import annotations

import json
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench import _job
from bench._journey import Journey
from runtime.database import create_pool

if TYPE_CHECKING:
    import asyncpg

CONNECTIONS: Final = 10
BATCH: Final = 100  # jobs that its dequeue takes at once


async def run(journey: Journey) -> float:
    """Enrol every contact and run one worker; gives the seconds from the commit to the last end."""
    logging.getLogger("pgqueuer").setLevel(logging.WARNING)
    world = journey.world
    pool = await create_pool(world.dsn, world.settings, size=CONNECTIONS)
    driver = AsyncpgPoolDriver(pool)
    await Queries(driver).install()
    queuer = PgQueuer(driver)
    left = len(world.contact_ids)
    ended_at = 0.0

    async def act(job: Job) -> None:
        nonlocal left, ended_at
        execution_id, contact_id, number = json.loads(job.payload or b"")
        async with pool.acquire() as db, db.transaction():
            await _job.perform(db, journey, number, UUID(execution_id), UUID(contact_id))
            if number < _job.LAST:
                payload = _payload(execution_id, contact_id, number + 1)
                # The driver takes what a pool lends for the connection that it is.
                await Queries(AsyncpgDriver(cast("asyncpg.Connection", db))).enqueue("act", payload)
        if number == _job.LAST:
            left -= 1
            ended_at = time.perf_counter()
        if left == 0:
            queuer.shutdown.set()

    queuer.entrypoint("act")(act)
    executions = await _job.begin(journey)
    payloads: list[bytes | None] = [
        _payload(str(execution), str(contact), 0) for execution, contact in executions
    ]
    await Queries(driver).enqueue(["act"] * len(payloads), payloads, [0] * len(payloads))
    began = time.perf_counter()
    await queuer.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=1))
    await pool.close()
    return ended_at - began


def _payload(execution_id: str, contact_id: str, number: int) -> bytes:
    return json.dumps([execution_id, contact_id, number]).encode()
