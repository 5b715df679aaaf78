"""Bulk work over the API: enrolling 10,000 contacts in one call, importing 100,000 from CSV."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import aiohttp
from aiohttp import web

from actors import registry
from api.server import create_app
from api.tokens import create_for
from bench._reporting import Report
from bench._worker import Worker, running
from bench._world import World, new_world
from runtime.bell import Bell
from runtime.log import configure
from runtime.settings import Settings

ROWS: Final = 100_000
SMALL_ROWS: Final = 2_000
CONTACTS: Final = 10_000
SMALL_CONTACTS: Final = 500
_LOOK_SECONDS: Final = 0.05
_STUCK_SECONDS: Final = 600


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="run.py bench bulk")
    parser.add_argument("--rows", type=int, default=SMALL_ROWS if small else ROWS, metavar="N")
    rows: int = parser.parse_args(argv).rows
    configure(settings.model_copy(update={"log_level": "warning"}))
    contacts = SMALL_CONTACTS if small else CONTACTS
    return asyncio.run(_measure(settings, Report("bulk", json=json), contacts, rows))


async def _measure(settings: Settings, report: Report, contacts: int, rows: int) -> int:
    async with new_world(settings, contacts=contacts) as world, _client(world) as client:
        report.say(f"{contacts:,} contacts in one call, no worker beside it")
        enrol_seconds = await _enrol(world, client)
        report.say(f"{rows:,} rows of CSV, one worker, which has nothing else to do")
        async with running(world, ["notification"]) as worker:
            import_seconds, created = await _import(worker, client, rows)
        conditions = {"contacts": contacts, "rows": rows, **await world.conditions()}
    figures: dict[str, Any] = {
        "enrol_seconds": round(enrol_seconds, 2),
        "import_seconds": round(import_seconds, 2),
        "import_rows_per_second": round(rows / import_seconds),
    }
    report.table("bulk work, from request to commit", ["what", "figure"], list(figures.items()))
    if created != rows:
        return report.fail([f"{created:,} contacts were made of {rows:,} rows"])
    return report.finish(figures, conditions)


@asynccontextmanager
async def _client(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve the API in this process, and speak to it as an editor of the world's account."""
    bell = Bell(world.pool, world.wake_bucket)
    app = create_app(
        world.pool,
        registry,
        world.settings,
        bell.ring_families,
        bell.ring_events,
        ring_operations=bell.ring_operations,
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    async with world.pool.acquire() as db:
        token = await create_for(db, "Benchmark", "editor", "bench")
    headers = {"Authorization": f"Bearer {token}"}
    patience = aiohttp.ClientTimeout(total=timedelta(minutes=10).total_seconds())
    try:
        async with aiohttp.ClientSession(
            f"http://{host}:{port}", headers=headers, timeout=patience
        ) as session:
            yield session
    finally:
        await runner.cleanup()


async def _enrol(world: World, client: aiohttp.ClientSession) -> float:
    version = await world.workflow("Welcome", [("add_tag", {"tag_name": "customer"})])
    body = {"contact_ids": [str(contact_id) for contact_id in world.contact_ids]}
    began = time.perf_counter()
    url = f"/api/v1/workflows/{version.workflow_id}/enroll"
    async with client.post(url, json=body, raise_for_status=True) as response:
        answer = await response.json()
    assert answer["enrolled"] == len(body["contact_ids"])
    return time.perf_counter() - began


async def _import(worker: Worker, client: aiohttp.ClientSession, rows: int) -> tuple[float, int]:
    """Seconds from the request to the end of the operation, and how many contacts it made."""
    raw = _file(rows)
    began = time.perf_counter()
    headers = {"Content-Type": "text/csv"}
    async with client.post(
        "/api/v1/contacts/import", data=raw, headers=headers, raise_for_status=True
    ) as response:
        url = response.headers["Location"]
    while True:
        async with client.get(url, raise_for_status=True) as response:
            operation = await response.json()
        if operation["completed_at"] is not None:
            return time.perf_counter() - began, operation["done"]
        worker.check()
        if time.perf_counter() - began > _STUCK_SECONDS:
            raise TimeoutError("the import does not come to its end")
        await asyncio.sleep(_LOOK_SECONDS)


def _file(rows: int) -> bytes:
    """Names, an e-mail address and a phone number of everybody."""
    lines = [
        f"Ann{n},O'Neill,ann.{n}@import.example.com,+1 415 {200 + n % 700} {n % 10_000:04}"
        for n in range(rows)
    ]
    return "\n".join(["first_name,last_name,email,phone", *lines]).encode()
