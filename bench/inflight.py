"""10,000 executions inside a webhook call at the same time in one worker; the answer is slow."""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench._reporting import Report
from bench._sending import send_to
from bench._worker import running
from bench._world import World, new_world
from runtime.settings import Settings
from sql import Queries

queries = Queries(Path(__file__).with_name("_inflight.sql"))

EXECUTIONS: Final = 10_000
SMALL: Final = 200
ANSWERS_AFTER_SECONDS: Final = 5.0
SMALL_SECONDS: Final = 1.0
GOAL_SECONDS: Final = 15
GOAL_MB: Final = 700

_ROOT: Final = Path(__file__).resolve().parent.parent
_SPARE_FILES: Final = 500


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="run.py bench inflight")
    number = SMALL if small else EXECUTIONS
    parser.add_argument("--executions", type=int, default=number, metavar="N")
    executions: int = parser.parse_args(argv).executions
    seconds = SMALL_SECONDS if small else ANSWERS_AFTER_SECONDS
    return asyncio.run(_measure(settings, Report("inflight", json=json), executions, seconds))


async def _measure(settings: Settings, report: Report, executions: int, slow: float) -> int:
    files = _raise_the_limit_of_open_files(executions + _SPARE_FILES)
    if files < executions + _SPARE_FILES:
        return report.fail([f"only {files:,} files may be open here: raise `ulimit -Hn`"])
    report.say(f"{executions:,} executions call a webhook that answers after {slow:g} s")
    async with (
        new_world(settings, contacts=executions) as world,
        _counterpart(slow) as (url, session),
        running(world, ["webhook"], _environment(url, executions)) as worker,
    ):
        action = {"url": url, "method": "POST", "payload": {"contact": "{{contact.id}}"}}
        version = await world.workflow("Call", [("webhook_call", action)])
        await world.pool.execute(queries.let_all_through, world.account_id, _host(url), executions)
        seconds = await send_to(world, worker, version, world.contact_ids, "webhook")
        peak_mb = worker.peak_mb()
        async with session.get("/counts") as answer:
            counts = await answer.json()
        complaints = await _complaints(world, counts, executions)
        conditions = {
            "executions": executions,
            "answers_after_s": slow,
            "most_at_once": counts["most_at_once"],
            **await world.conditions(),
        }
    if complaints:
        return report.fail(complaints)
    figures: dict[str, Any] = {
        "seconds": round(seconds, 2),
        "failed": 0,
        "peak_mb": round(peak_mb, 1),
    }
    report.table("in flight at once", ["what", "figure"], list(figures.items()))
    return report.finish(figures, conditions)


def _environment(url: str, executions: int) -> dict[str, str]:
    return {
        "CALLBOARD_SLOTS": f'{{"webhook": {executions}}}',
        "CALLBOARD_INSIDE_HOSTS": _host(url),
    }


async def _complaints(world: World, counts: dict[str, int], executions: int) -> list[str]:
    ended = {row["status"]: row["number"] for row in await world.pool.fetch(queries.ends)}
    found = []
    if ended != {"completed": executions}:
        found.append(f"executions ended as {ended}")
    if counts["distinct"] != executions or counts["calls"] != executions:
        found.append(f"the other side saw {counts}")
    return found


def _host(url: str) -> str:
    return url.split("/")[2]


def _raise_the_limit_of_open_files(wanted: int) -> int:
    """Let this process and its children open more files, as far as they may; gives how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft


@asynccontextmanager
async def _counterpart(slow: float) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Serve what is slow, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench._slow",
        str(slow),
        cwd=_ROOT,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(_ROOT)},
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession(url) as session:
            yield f"{url}/call", session
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
