"""Creating actions with 50 clients while the engine is at full load, beside a bare handler."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from api.drafts import MOST_ACTIONS
from api.tokens import create_for
from bench._bare import queries
from bench._journey import prepare
from bench._reporting import Report, percentile
from bench._worker import running
from bench._world import World, new_world
from runtime.bell import Bell
from runtime.settings import Settings

CLIENTS: Final = 50
EACH: Final = 40
SMALL_EACH: Final = 2
CONTACTS: Final = 150_000
SMALL_CONTACTS: Final = 2_000
BOUND_MS: Final = 200
"""What the specification allows for creating an action."""

_ROOT: Final = Path(__file__).resolve().parent.parent
_ACTION: Final = {"action_type": "add_tag", "action_config": {"tag_name": "customer"}}
_LOOK_SECONDS: Final = 0.05
_START_SECONDS: Final = 30


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="run.py bench api")
    parser.add_argument("--each", type=int, default=SMALL_EACH if small else EACH, metavar="N")
    each: int = parser.parse_args(argv).each
    contacts = SMALL_CONTACTS if small else CONTACTS
    return asyncio.run(_measure(settings, Report("api", json=json), contacts, each))


async def _measure(settings: Settings, report: Report, contacts: int, each: int) -> int:
    report.say(f"{CLIENTS} clients, {each} actions each; a worker brings {contacts:,} through")
    async with new_world(settings, contacts=contacts) as world:
        journey = await prepare(world)
        await world.pool.execute(queries.make_bare)
        token = await _token(world)
        async with running(world, ["crm"]), _api(world, token) as api, _bare(world) as bare:
            await journey.enrol(world.contact_ids)
            await Bell(world.pool, world.wake_bucket).ring_families(["crm"])
            paths = [await _workflows(api, each + 1) for _ in range(CLIENTS)]
            found, floor = [], []
            # Neither is asked for what its connections do but once: prepare statements.
            await _all(api, [([path[-1]], range(1)) for path in paths])
            await _all(bare, [(["/actions"], range(1))] * CLIENTS)
            # In turn, so that both meet the same load.
            for part in _parts(each):
                found += await _all(api, [(path, part) for path in paths])
                floor += await _all(bare, [(["/actions"] * each, part)] * CLIENTS)
            was_loaded = not await journey.world.is_over(journey.version)
        conditions = {
            "clients": CLIENTS,
            "each": each,
            "engine_at_full_load_until_the_end": was_loaded,
            **await world.conditions(),
        }
    figures = _figures(found, floor)
    report.table("creating an action, ms", ["what", "figure"], list(figures.items()))
    return report.finish(figures, conditions)


def _figures(found: list[float], floor: list[float]) -> dict[str, Any]:
    p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
    bare_p50, bare_p99 = percentile(floor, 0.5), percentile(floor, 0.99)
    return {
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "bare_p50_ms": round(bare_p50, 1),
        "bare_p99_ms": round(bare_p99, 1),
        "times_bare_p50": round(p50 / bare_p50, 2),
        "times_bare_p99": round(p99 / bare_p99, 2),
        "within_bound": p99 <= BOUND_MS,
    }


def _parts(each: int) -> list[range]:
    """Cut what a client does into rounds."""
    step = max(1, each // 4)
    return [range(begin, min(begin + step, each)) for begin in range(0, each, step)]


async def _all(session: aiohttp.ClientSession, work: list[tuple[list[str], range]]) -> list[float]:
    found = await asyncio.gather(*(_client(session, paths, part) for paths, part in work))
    return [took for one in found for took in one]


async def _client(session: aiohttp.ClientSession, paths: list[str], part: range) -> list[float]:
    """Create one action after the other; gives how many milliseconds each took."""
    found = []
    for number in part:
        began = time.perf_counter()
        async with session.post(paths[number], json=_ACTION) as response:
            await response.read()
            response.raise_for_status()
        found.append((time.perf_counter() - began) * 1000)
    return found


async def _workflows(session: aiohttp.ClientSession, each: int) -> list[str]:
    """Make enough drafts for a client; gives where each of its actions goes."""
    paths = []
    for _ in range(-(-each // MOST_ACTIONS)):
        async with session.post("/api/v1/workflows", json={"name": "Draft"}) as response:
            paths.append(f"/api/v1/workflows/{(await response.json())['id']}/actions")
    return [paths[number // MOST_ACTIONS] for number in range(each)]


async def _token(world: World) -> str:
    async with world.pool.acquire() as db:
        return await create_for(db, "Benchmark", "editor", "bench")


@asynccontextmanager
async def _api(world: World, token: str) -> AsyncIterator[aiohttp.ClientSession]:
    port = _free_port()
    environment = {
        "CALLBOARD_API_PORT": str(port),
        "CALLBOARD_API_RATE_PER_SECOND": "0",  # all clients share a token
        "DATABASE_URL": world.dsn,
    }
    command = [str(_ROOT / "run.py"), "api"]
    headers = {"Authorization": f"Bearer {token}"}
    async with _process(command, environment, port, headers) as session:
        yield session


@asynccontextmanager
async def _bare(world: World) -> AsyncIterator[aiohttp.ClientSession]:
    port = _free_port()
    command = ["-m", "bench._bare", world.dsn, str(world.account_id), str(port)]
    async with _process(command, {"PYTHONPATH": str(_ROOT)}, port, {}) as session:
        yield session


@asynccontextmanager
async def _process(
    command: list[str], environment: dict[str, str], port: int, headers: dict[str, str]
) -> AsyncIterator[aiohttp.ClientSession]:
    """Run a server and talk to it; it is stopped at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=_ROOT,
        stdout=sys.stderr,
        env={"CALLBOARD_LOG_LEVEL": "warning", **os.environ, **environment},
    )
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    try:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers=headers, connector=connector
        ) as session:
            async with asyncio.timeout(_START_SECONDS):
                while not await _answers(session):  # noqa: ASYNC110 (another process's port)
                    await asyncio.sleep(_LOOK_SECONDS)
            yield session
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/healthz"):
            return True
    except aiohttp.ClientConnectionError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
