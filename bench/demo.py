"""The demo: 1,000 contacts through all 13 types that can run, on a clock that is moved along.

A server with API and worker runs in its own process, on a database of its own; everything that
the API can do is done over HTTP. The waits of the workflow are days long: whenever nothing is
left to do, the demo moves Callboard's clock to the next instant at which something falls due.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from api.tokens import create_for
from bench._demo_account import CSV, Account, Api, queries, set_up
from bench._demo_report import check, show
from bench._world import scratch_database
from runtime import clock
from runtime.bell import Bell
from runtime.database import create_pool
from runtime.settings import Settings

RUN = Path(__file__).resolve().parent.parent / "run.py"
PATIENCE_SECONDS = 300.0
EVENTS_AT_ONCE = 20
ACCOUNT = "Callboard demo"

console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Server:
    """The server process and where it listens."""

    address: str
    pid: int


def main(settings: Settings, *, contacts: int, keep: bool) -> int:
    """Run the demo; 0 when everything ended as it should, 1 otherwise."""
    try:
        return asyncio.run(_main(settings, contacts, keep))
    except (RuntimeError, TimeoutError) as error:
        console.print(f"The demo failed: {error}", style="bold red", markup=False)
        return 1


async def _main(settings: Settings, contacts: int, keep: bool) -> int:
    async with scratch_database(settings, "callboard_demo") as dsn:
        pool = await create_pool(dsn, settings, size=4, application_name="callboard demo")
        async with pool.acquire() as db:
            token = await create_for(db, ACCOUNT, "admin", "demo")
            account_id: UUID = await db.fetchval(queries.make_account, ACCOUNT)
        try:
            async with (
                _server(dsn) as server,
                aiohttp.ClientSession(
                    server.address, headers={"Authorization": f"Bearer {token}"}
                ) as session,
            ):
                console.print(f"API and worker (process {server.pid}) on {server.address}")
                api = Api(session)
                account = await set_up(pool, api, account_id, contacts)
                console.print(f"{contacts:,} contacts from {CSV.name}, 2 workflows active")
                seconds = await _journey(pool, api, account, settings)
                await show(console, pool, seconds)
                complaints = await check(pool, account)
                for complaint in complaints:
                    console.print(
                        f"NOT AS IT SHOULD BE: {complaint}", style="bold red", markup=False
                    )
                if keep:
                    await _stay(server, token, dsn)
        finally:
            pool.terminate()
    if not complaints:
        console.print("Everything ended as it should.", style="bold green")
    return 1 if complaints else 0


@asynccontextmanager
async def _server(dsn: str) -> AsyncIterator[Server]:
    """Run `run.py serve` on this database; it is stopped at the end, as by Ctrl-C."""
    environment = {
        **os.environ,
        "DATABASE_URL": dsn,
        "CALLBOARD_API_PORT": "0",
        "CALLBOARD_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(RUN), "serve", stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        if "http://" not in line:
            raise RuntimeError(f"the server did not start: {line.strip() or 'it ended'}")
        yield Server(line.split()[-1], process.pid)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _journey(pool: asyncpg.Pool, api: Api, account: Account, settings: Settings) -> float:
    """Enrol everybody and see the journey through; gives the seconds that it took."""
    bell = Bell(pool, timedelta(milliseconds=settings.wake_bucket_ms))
    began = time.monotonic()
    path = f"/workflows/{account.workflow_id}/enroll"
    for start in range(0, len(account.contact_ids), 10_000):
        await api.post(path, {"contact_ids": account.contact_ids[start : start + 10_000]})
    total = len(account.contact_ids)
    answered = False
    with _progress() as progress:
        bar = progress.add_task("", total=total * 15, day="day 0")
        while True:
            state = await pool.fetchrow(queries.progress, account.workflow_id)
            assert state is not None
            day = (await clock.offset(pool)).days
            progress.update(bar, completed=state["ended"], day=f"day {day}")
            if state["over"] == total and state["busy"] == 0:
                return time.monotonic() - began
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError(f"after {PATIENCE_SECONDS:.0f} s: {dict(state)}")
            if state["busy"]:
                await asyncio.sleep(0.05)
            elif state["waiting"] == total and not answered:
                await _submit_forms(api, account)
                answered = True
            elif state["next_at"] is not None:
                ahead = state["next_at"] - await clock.current_instant(pool)
                now = await clock.advance(pool, max(ahead, timedelta()))
                await bell.ring_wakeups([now])
                await asyncio.sleep(0.05)


async def _submit_forms(api: Api, account: Account) -> None:
    """Every other contact submits the form; the others let the time-out come."""
    places = asyncio.Semaphore(EVENTS_AT_ONCE)

    async def submit(contact_id: str) -> None:
        async with places:
            event = {"event_type": "form_submit", "contact_id": contact_id}
            await api.post("/events", {**event, "dedupe_key": f"form-{contact_id}"})

    await asyncio.gather(*(submit(contact_id) for contact_id in account.contact_ids[::2]))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.fields[day]:>7}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("actions"),
        TimeElapsedColumn(),
        console=console,
    )


async def _stay(server: Server, token: str, dsn: str) -> None:
    console.print("\nStill running; Ctrl-C ends it and drops the database.", style="bold")
    console.print(f"  API       {server.address}/api/v1/executions", markup=False)
    console.print(f"  token     {token}", markup=False)
    command = f"DATABASE_URL='{dsn}' python3 {RUN} db psql"
    console.print(f"  psql      {command}", markup=False, soft_wrap=True)
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
