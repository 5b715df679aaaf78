"""From the commit of one enrolment to the commit of its first action, on an idle worker."""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bench._reporting import Report, percentile
from bench._worker import Worker, running
from bench._world import World, new_world
from runtime.bell import Bell
from runtime.clock import current_instant
from runtime.definitions import CompiledVersion
from runtime.executions import enrol
from runtime.settings import Settings
from sql import Queries

queries = Queries(Path(__file__).with_name("_latency.sql"))

TIMES: Final = 300
SMALL: Final = 20
_WARM_UP: Final = 5
_LOOK_SECONDS: Final = 0.005
_STUCK_SECONDS: Final = 30


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="run.py bench latency")
    parser.add_argument("--times", type=int, default=SMALL if small else TIMES, metavar="N")
    times: int = parser.parse_args(argv).times
    return asyncio.run(_measure(settings, Report("latency", json=json), times))


async def _measure(settings: Settings, report: Report, times: int) -> int:
    report.say(f"{times} enrolments, one at a time")
    async with new_world(settings, contacts=times + _WARM_UP) as world:
        version = await world.workflow("Welcome", [("add_tag", {"tag_name": "customer"})])
        async with running(world) as worker:
            found = await _latencies(world, version, worker)
        conditions = {"times": times, **await world.conditions()}
    figures: dict[str, Any] = {
        "p50_ms": round(percentile(found[_WARM_UP:], 0.5), 2),
        "p99_ms": round(percentile(found[_WARM_UP:], 0.99), 2),
        "max_ms": round(max(found[_WARM_UP:]), 2),
    }
    report.table("enrolled → first action done", ["what", "ms"], list(figures.items()))
    return report.finish(figures, conditions)


async def _latencies(world: World, version: CompiledVersion, worker: Worker) -> list[float]:
    """Milliseconds for each contact, in turn.

    The database says when a step's completion is committed, so that nobody has to ask.
    """
    bell = Bell(world.pool, world.wake_bucket)
    completed: asyncio.Queue[float] = asyncio.Queue()
    async with world.pool.acquire() as listener:
        await listener.execute(queries.announce_completions)
        await listener.add_listener(
            "bench_step_completed", lambda *_: completed.put_nowait(time.perf_counter())
        )
        found = []
        for contact_id in world.contact_ids:
            await _until_idle(world, worker)
            committed = await _enrol(world, version, contact_id)
            await bell.ring_families(["crm"])
            ended = await asyncio.wait_for(completed.get(), _STUCK_SECONDS)
            found.append((ended - committed) * 1000)
        await listener.reset()
    return found


async def _enrol(world: World, version: CompiledVersion, contact_id: UUID) -> float:
    async with world.pool.acquire() as db, db.transaction():
        await enrol(db, await current_instant(db), version, [contact_id])
    return time.perf_counter()


async def _until_idle(world: World, worker: Worker) -> None:
    """Wait until no ticket is left: what the last enrolment rang must not carry the next."""
    while await world.pool.fetchval(queries.tickets_left):
        worker.check()
        await asyncio.sleep(_LOOK_SECONDS)
