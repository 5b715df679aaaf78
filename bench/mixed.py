"""All 24 types of action in one workflow, everybody outside on the same cores.

Everybody is enrolled and sleeps (wait_time comes first); then the clock is moved to the end of the
wait, and what is measured is the time until the last run has ended. Each family works in a worker
process of its own, so that its CPU time is what the system says of that process.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg

from actors import registry
from api.tokens import create_for
from bench._cpu import cpu_seconds
from bench._demo_account import ACCOUNT, Account, Api, set_up
from bench._mixed_workflow import journey
from bench._outsiders import Outsiders, outsiders
from bench._people import Person
from bench._reporting import Report
from bench._serving import Server, environment_of, serving
from bench._texting import with_keys
from bench._worker import Worker, running
from bench._world import World, scratch_database
from runtime import clock
from runtime.bell import Bell
from runtime.database import create_pool
from runtime.settings import Settings
from sql import Queries

queries = Queries(Path(__file__).with_name("_mixed.sql"))

CONTACTS: Final = 3_000
SMALL: Final = 40
TYPES: Final = 24
GOAL_PER_S: Final = 1_000
_LOOK_SECONDS: Final = 0.25
_STUCK_SECONDS: Final = 900
_ENROLLED_AT_ONCE: Final = 10_000


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report; exit code 1 if anything failed, was lost or done twice."""
    parser = argparse.ArgumentParser(prog="run.py bench mixed")
    parser.add_argument("--contacts", type=int, default=SMALL if small else CONTACTS, metavar="N")
    contacts: int = parser.parse_args(argv).contacts
    return asyncio.run(_measure(with_keys(settings), Report("mixed", json=json), contacts))


@dataclass(frozen=True, slots=True)
class _House:
    """Everything that runs."""

    world: World
    outside: Outsiders
    server: Server
    workers: Mapping[str, Worker]
    account: Account


async def _measure(settings: Settings, report: Report, contacts: int) -> int:
    report.say(f"{contacts:,} contacts through all {TYPES} types")
    async with _house(settings, contacts) as house:
        await _fall_asleep(house)
        await house.world.settle()
        began, before = time.perf_counter(), await _cpu(house)
        await _wake(house)
        await _until_over(house)
        seconds, after = time.perf_counter() - began, await _cpu(house)
        tally = await house.world.pool.fetchrow(queries.tally, house.account.workflow_id)
        assert tally is not None
        by_family = await house.world.pool.fetch(queries.by_family)
        complaints = _complaints(tally, await house.outside.counts(), contacts)
        conditions = {"contacts": contacts, **await house.world.conditions()}
    done = {row["family"]: row["n"] for row in by_family}
    spent = {name: round(after[name] - before[name], 2) for name in after}
    report.table(
        "CPU time",
        ["of", "actions", "CPU seconds", "ms per action"],
        [
            (
                name,
                done.get(name, 0),
                cpu,
                round(cpu * 1000 / done[name], 2) if name in done else "",
            )
            for name, cpu in spent.items()
        ],
    )
    figures = {
        "actions_per_s": round(tally["actions"] / seconds, 1),
        "seconds": round(seconds, 1),
        "failed": tally["failed"],
        "families": spent,
    }
    shown = [(name, figures[name]) for name in ("actions_per_s", "seconds", "failed")]
    report.table("all types together", ["what", "figure"], shown)
    if complaints:
        return report.fail(complaints)
    return report.finish(figures, conditions)


@asynccontextmanager
async def _house(settings: Settings, contacts: int) -> AsyncIterator[_House]:
    async with scratch_database(settings, "callboard_bench") as dsn:
        pool = await create_pool(dsn, settings, size=4, application_name="callboard bench")
        try:
            async with (
                outsiders() as outside,
                serving("api", dsn, settings, outside) as server,
                AsyncExitStack() as stack,
            ):
                account, world = await _account(settings, dsn, pool, (outside, server), contacts)
                environment = {
                    **environment_of(settings, outside),
                    "CALLBOARD_PUBLIC_URL": server.address,
                    "CALLBOARD_DATABASE_POOL_SIZE": "4",
                }
                workers = {
                    family: await stack.enter_async_context(running(world, [family], environment))
                    for family in registry.families()
                }
                yield _House(world, outside, server, workers, account)
        finally:
            pool.terminate()


async def _account(
    settings: Settings,
    dsn: str,
    pool: asyncpg.Pool,
    others: tuple[Outsiders, Server],
    contacts: int,
) -> tuple[Account, World]:
    outside, server = others
    async with pool.acquire() as db:
        token = await create_for(db, ACCOUNT, "admin", "bench")
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(server.address, headers=headers) as session:
        api = Api(session, server.address, token)
        cast = Person.plain, journey
        account = await set_up(pool, api, outside, cast, contacts, answers_at_once=True)
        await outside.play("page")
        for start in range(0, contacts, _ENROLLED_AT_ONCE):
            ids = account.contact_ids[start : start + _ENROLLED_AT_ONCE]
            await api.post(f"/workflows/{account.workflow_id}/enroll", {"contact_ids": ids})
    owner = await pool.fetchrow(queries.somebody)
    assert owner is not None
    world = World(dsn, settings, pool, owner["account_id"], owner["id"], ())
    return account, world


async def _fall_asleep(house: _House) -> None:
    """Wait until everybody sleeps."""
    async with asyncio.timeout(_STUCK_SECONDS):
        while await house.world.pool.fetchval(queries.asleep) < len(house.account.people):
            _check(house)
            await asyncio.sleep(_LOOK_SECONDS)


async def _wake(house: _House) -> None:
    now = await clock.advance(house.world.pool, timedelta(minutes=1))
    await Bell(house.world.pool, house.world.wake_bucket).ring_wakeups([now])


async def _until_over(house: _House) -> None:
    async with asyncio.timeout(_STUCK_SECONDS):
        while not await house.world.pool.fetchval(queries.is_over, house.account.workflow_id):
            _check(house)
            await asyncio.sleep(_LOOK_SECONDS)


def _check(house: _House) -> None:
    for worker in house.workers.values():
        worker.check()


async def _cpu(house: _House) -> dict[str, float]:
    """CPU seconds so far: of each family's worker, and of all others that share the cores."""
    backends = [row["pid"] for row in await house.world.pool.fetch(queries.backends)]
    groups = {family: [worker.pid] for family, worker in house.workers.items()}
    others = {"api": [house.server.pid], "outside": [house.outside.pid], "postgres": backends}
    return cpu_seconds({**groups, **others})


def _complaints(tally: asyncpg.Record, counts: Mapping[str, Any], contacts: int) -> list[str]:
    found = {
        "runs completed": tally["completed"],
        "mails": counts["mails"].get("Offer", 0),
        "texts": counts["texts"].get("Offer", 0),
        "calls to everybody": counts["calls"] // 2,
        "calls connected": counts["connected"],
        "Messenger messages": counts["messages"],
        "webhook calls": counts["webhooks"],
    }
    complaints = [
        f"{name}: {number:,} instead of {contacts:,}"
        for name, number in found.items()
        if number != contacts
    ]
    if tally["failed"] or tally["types"] != TYPES:
        complaints.append(f"{tally['failed']:,} failed; {tally['types']} types were completed")
    if counts["refused"] or counts["callbacks_refused"] or counts["webhooks_again"]:
        complaints.append(f"the other side counted {counts}")
    return complaints
