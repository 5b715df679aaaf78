"""The demo: 1,000 contacts through all 24 types of action, on a clock that is moved along.

A server with API and worker runs in its own process, on a database of its own; everything that
the API can do is done over HTTP. Everybody outside (Twilio, Facebook, the mail server, the system
that webhooks call, and the people who open, click, answer and complain) is played by another
process, which counts what arrives. The waits of the workflow are days long: whenever nothing is
left to do, the demo moves Callboard's clock to the next instant at which something falls due.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import aiohttp
import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from api.tokens import create_for
from bench._demo_account import ACCOUNT, CSV, Account, Api, queries, set_up
from bench._demo_report import Ledger, check, compare, show, show_speed
from bench._demo_workflow import journey
from bench._outsiders import Outsiders, outsiders
from bench._people import Person
from bench._serving import RUN, Server, serving
from bench._texting import with_keys
from bench._world import scratch_database
from runtime import clock
from runtime.bell import Bell
from runtime.database import create_pool
from runtime.settings import Settings

PATIENCE_SECONDS = 600.0
LOOK_SECONDS = 0.05
ENROLLED_AT_ONCE = 10_000
READING = timedelta(hours=1)
"""How long people take to read what has come: who opens a mail within seconds is a machine."""
SCENES = {"wait_for_event": "mail", "wait_time": "texts"}
"""What people do while all runs stand at an action of this type."""

console = Console(highlight=False)


def main(settings: Settings, *, contacts: int, keep: bool) -> int:
    """Run the demo; 0 when everything ended as it should, 1 otherwise."""
    try:
        return asyncio.run(_main(with_keys(settings), contacts, keep))
    except (RuntimeError, TimeoutError) as error:
        console.print(f"The demo failed: {error}", style="bold red", markup=False)
        return 1


async def _main(settings: Settings, contacts: int, keep: bool) -> int:
    async with scratch_database(settings, "callboard_demo") as dsn:
        pool = await create_pool(dsn, settings, size=4, application_name="callboard demo")
        bell = Bell(pool, timedelta(milliseconds=settings.wake_bucket_ms))
        async with pool.acquire() as db:
            token = await create_for(db, ACCOUNT, "admin", "demo")
        try:
            async with outsiders() as outside, serving("serve", dsn, settings, outside) as server:
                console.print(f"API and worker (process {server.pid}) on {server.address}")
                console.print(f"Everybody outside (process {outside.pid}) on {outside.control}")
                headers = {"Authorization": f"Bearer {token}"}
                async with aiohttp.ClientSession(server.address, headers=headers) as session:
                    api = Api(session, server.address, token)
                    complaints = await _show_it(pool, bell, api, outside, contacts)
                    if keep:
                        await _stay(server, token, dsn)
        finally:
            pool.terminate()
    if not complaints:
        console.print("Everything ended as it should.", style="bold green")
    return 1 if complaints else 0


async def _show_it(
    pool: asyncpg.Pool, bell: Bell, api: Api, outside: Outsiders, contacts: int
) -> list[str]:
    """Bring everybody through and show what came of it; gives what is not as it should be."""
    account = await set_up(pool, api, outside, (Person.number, journey), contacts)
    console.print(f"{contacts:,} contacts from {CSV.name}, 2 workflows active")
    way = _Journey(pool, api, outside, account, bell)
    seconds = await way.see_through()
    await show(console, pool)
    ledger = await Ledger.read(pool, account.workflow_id)
    complaints = compare(console, account, ledger, await outside.counts(), way.done)
    complaints += await check(pool, account)
    await show_speed(console, pool, seconds)
    await api.delete(f"/files/{account.audio_file_id}?force=true")
    for complaint in complaints:
        console.print(f"NOT AS IT SHOULD BE: {complaint}", style="bold red", markup=False)
    return complaints


class _Journey:
    """Everybody's way through the workflow, with what people do on the way."""

    def __init__(
        self, pool: asyncpg.Pool, api: Api, outside: Outsiders, account: Account, bell: Bell
    ) -> None:
        self._pool = pool
        self._api = api
        self._outside = outside
        self._account = account
        self._bell = bell
        self._to_come = dict(SCENES)
        self.done: Counter[str] = Counter()
        """How often people did what."""

    async def see_through(self) -> float:
        """Enrol everybody and see the journey through; gives the seconds that it took."""
        self.done.update(await self._outside.play("page"))
        began = time.monotonic()
        await self._enrol()
        total = len(self._account.contact_ids)
        with _progress() as progress:
            bar = progress.add_task("", total=total * self._account.actions, day="day 0")
            while True:
                state = await self._state()
                day = (await clock.offset(self._pool)).days
                progress.update(bar, completed=state["ended"], day=f"day {day}")
                if time.monotonic() - began > PATIENCE_SECONDS:
                    raise TimeoutError(f"after {PATIENCE_SECONDS:.0f} s: {dict(state)}")
                if state["busy"]:
                    await asyncio.sleep(LOOK_SECONDS)
                elif state["over"] == total:
                    return time.monotonic() - began
                else:
                    await self._go_on(state, under_way=total - state["over"])

    async def _enrol(self) -> None:
        ids = self._account.contact_ids
        for start in range(0, len(ids), ENROLLED_AT_ONCE):
            part = {"contact_ids": ids[start : start + ENROLLED_AT_ONCE]}
            await self._api.post(f"/workflows/{self._account.workflow_id}/enroll", part)

    async def _state(self) -> asyncpg.Record:
        """How far everything is; if nothing is busy here, then nothing is under way outside."""
        state = await self._look()
        if state["busy"]:
            return state
        await self._outside.be_quiet()
        return await self._look()

    async def _look(self) -> asyncpg.Record:
        state = await self._pool.fetchrow(queries.progress, self._account.workflow_id)
        assert state is not None
        return state

    async def _go_on(self, state: asyncpg.Record, *, under_way: int) -> None:
        """Let people act if all runs stand where they do; else let the time go by."""
        at = state["standing_at"]
        if at in self._to_come and state["standing"] == under_way:
            await clock.advance(self._pool, READING)
            self.done.update(await self._outside.play(self._to_come.pop(at)))
        elif state["next_at"] is not None:
            ahead = state["next_at"] - await clock.current_instant(self._pool)
            now = await clock.advance(self._pool, max(ahead, timedelta()))
            await self._bell.ring_wakeups([now])
            await asyncio.sleep(LOOK_SECONDS)
        else:
            raise RuntimeError(f"nothing is due any more: {dict(state)}")


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
