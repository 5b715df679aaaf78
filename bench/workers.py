"""One, two and four workers on one database: nothing done twice, nothing lost, nothing slower."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from bench._journey import ACTIONS, prepare
from bench._reporting import Report
from bench._through import through
from bench._worker import running
from bench._world import new_world
from runtime.settings import Settings
from sql import Queries

queries = Queries(Path(__file__).with_name("_workers.sql"))

COUNTS: Final = (1, 2, 4)
CONTACTS: Final = 20_000
SMALL: Final = 1_000
ROUNDS: Final = 3


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="run.py bench workers")
    parser.add_argument("--contacts", type=int, default=SMALL if small else CONTACTS, metavar="N")
    contacts: int = parser.parse_args(argv).contacts
    rounds = 1 if small else ROUNDS
    return asyncio.run(_measure(settings, Report("workers", json=json), contacts, rounds))


async def _measure(settings: Settings, report: Report, contacts: int, rounds: int) -> int:
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    doubles, lost, complaints, conditions = 0, 0, list[str](), dict[str, Any]()
    for _ in range(rounds):
        for count in COUNTS:  # in turn, so that all meet the same machine
            report.say(f"{count} workers, {contacts:,} contacts")
            async with new_world(settings, contacts=contacts) as world:
                journey = await prepare(world)
                await world.settle()
                async with AsyncExitStack() as stack:
                    workers = [
                        await stack.enter_async_context(running(world, ["crm"]))
                        for _ in range(count)
                    ]
                    seconds = await through(journey, workers[0], world.contact_ids)
                    tally = await world.pool.fetchrow(queries.tally)
                    assert tally is not None
                rates[count].append(contacts * len(ACTIONS) / seconds)
                doubles += tally["doubles"]
                lost += contacts * len(ACTIONS) - tally["done"]
                complaints += await journey.complaints(world.contact_ids)
                conditions = await world.conditions()
    per_s = {str(count): round(sorted(found)[len(found) // 2], 1) for count, found in rates.items()}
    report.table("the journey", ["workers", "actions/s"], list(per_s.items()))
    if complaints or doubles or lost:
        return report.fail([*complaints, f"{doubles} steps were done twice, {lost} were lost"])
    figures = {"per_s": per_s, "doubles": doubles, "lost": lost}
    return report.finish(figures, {"contacts": contacts, "rounds": rounds, **conditions})
