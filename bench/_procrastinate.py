"""The five actions by Procrastinate, a job per action, each deferring the next after its commit."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final
from uuid import UUID

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONDict
from psycopg import AsyncConnection

from bench import _job
from bench._journey import Journey
from runtime.database import create_pool

# More jobs at once bring nothing: a worker fetches them one by one.
CONCURRENCY: Final = 10


async def run(journey: Journey) -> float:
    """Enrol every contact and run one worker; gives the seconds from the commit to the last end."""
    world = journey.world
    app = App(
        connector=PsycopgConnector(
            conninfo=world.dsn, min_size=2, max_size=CONCURRENCY, configure=_autocommit
        )
    )
    pool = await create_pool(world.dsn, world.settings, size=CONCURRENCY)
    left = len(world.contact_ids)
    finished = asyncio.Event()

    async def act(execution_id: str, contact_id: str, number: int) -> None:
        nonlocal left
        async with pool.acquire() as db, db.transaction():
            await _job.perform(db, journey, number, UUID(execution_id), UUID(contact_id))
        if number < _job.LAST:
            await task.defer_async(
                execution_id=execution_id, contact_id=contact_id, number=number + 1
            )
            return
        left -= 1
        if left == 0:
            finished.set()

    task = app.task(name="act", queue="bench")(act)
    async with app.open_async():
        executions = await _job.begin(journey)
        await task.batch_defer_async(
            *(_arguments(execution, contact) for execution, contact in executions)
        )
        began = time.perf_counter()
        worker = asyncio.create_task(
            app.run_worker_async(
                queues=["bench"],
                concurrency=CONCURRENCY,
                delete_jobs="successful",
                install_signal_handlers=False,
            )
        )
        await _first(worker, finished)
        seconds = time.perf_counter() - began
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
    await pool.close()
    return seconds


def _arguments(execution_id: UUID, contact_id: UUID) -> JSONDict:
    return {"execution_id": str(execution_id), "contact_id": str(contact_id), "number": 0}


async def _autocommit(connection: AsyncConnection) -> None:
    await connection.set_autocommit(True)


async def _first(worker: asyncio.Task[None], finished: asyncio.Event) -> None:
    """Wait for the end; a worker that stops before raises what stopped it."""
    waiting = asyncio.create_task(finished.wait())
    await asyncio.wait({worker, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not finished.is_set():
        waiting.cancel()
        await worker
        raise RuntimeError("Procrastinate's worker stopped before the work was done")
