"""Actions per second inside the house, beside the floor and beside a job per action elsewhere.

Every contestant has a database of its own and writes the same rows, which are counted at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bench._floor import Floor
from bench._journey import ACTIONS, Journey, prepare
from bench._reporting import Report
from bench._through import through
from bench._worker import running
from bench._world import new_world
from runtime.settings import Settings

CONTACTS: Final = 40_000
SMALL: Final = 300
CONNECTIONS: Final = 2  # of the floor, as many as a worker has actors of a family
# Their rate does not depend on it, and nobody wants to wait for theirs at our size.
PEER_CONTACTS: Final = {"procrastinate": 400, "pgqueuer": 1_500}
SMALL_PEERS: Final = 20

Run = Callable[[Journey], Awaitable[float]]
"""Brings every contact through; gives the seconds from the enrolment's commit to the last end."""


class WrongResultError(Exception):
    """A contestant did not leave exactly the rows that it should have."""


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Run all contestants and report; exit code 1 if one of them left wrong rows."""
    parser = argparse.ArgumentParser(prog="run.py bench inward")
    parser.add_argument("--contacts", type=int, default=SMALL if small else CONTACTS, metavar="N")
    contacts: int = parser.parse_args(argv).contacts
    report = Report("inward", json=json)
    try:
        return asyncio.run(_compare(settings, report, contacts, small=small))
    except WrongResultError as error:
        return report.fail([str(error)])


async def _compare(settings: Settings, report: Report, contacts: int, *, small: bool) -> int:
    contest = _Contest(settings, report)
    callboard = await contest.rate("Callboard", contacts, callboard_run)
    floor = await contest.rate("floor", contacts, floor_run(hops=len(ACTIONS)))
    one_hop = await contest.rate("floor, one action per commit", contacts, floor_run(hops=1))
    peers: dict[str, float] = {}
    peer_contacts: dict[str, int] = {}
    for name, most in PEER_CONTACTS.items():
        if importlib.util.find_spec(name) is None:
            report.say(f"{name} is not installed here and is left out")
            continue
        peer_contacts[name] = min(contacts, SMALL_PEERS if small else most)
        run: Run = importlib.import_module(f"bench._{name}").run
        peers[name] = await contest.rate(name, peer_contacts[name], run)
    report.table(
        f"{len(ACTIONS)} inward actions for each contact",
        ["how", "contacts", "actions/s", "of Callboard's"],
        contest.rows(),
    )
    figures: dict[str, Any] = {
        "actions_per_s": round(callboard, 1),
        "floor_per_s": round(floor, 1),
        "floor_one_hop_per_s": round(one_hop, 1),
        "of_floor": round(callboard / floor, 3),
        "peers": {name: round(rate, 1) for name, rate in peers.items()},
    }
    conditions = {"contacts": contacts, "peer_contacts": peer_contacts, **contest.conditions}
    return report.finish(figures, conditions)


class _Contest:
    """Runs contestants one after the other, each in a new world, and keeps their figures."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self.conditions: dict[str, Any] = {}
        self._settings = settings
        self._report = report
        self._rates: list[tuple[str, int, float]] = []

    async def rate(self, name: str, contacts: int, run: Run) -> float:
        """Let one contestant bring so many contacts through; gives actions per second."""
        self._report.say(f"{name}: {contacts:,} contacts")
        async with new_world(self._settings, contacts=contacts) as world:
            journey = await prepare(world)
            await world.settle()
            seconds = await run(journey)
            complaints = await journey.complaints(world.contact_ids)
            self.conditions = await world.conditions() | {"connections": CONNECTIONS}
        if complaints:
            raise WrongResultError(f"{name}: {'; '.join(complaints)}")
        rate = contacts * len(ACTIONS) / seconds
        self._rates.append((name, contacts, rate))
        return rate

    def rows(self) -> list[tuple[str, int, float, str]]:
        """One row per contestant, each beside the first."""
        first = self._rates[0][2]
        return [(name, n, rate, f"{rate / first:.2%}") for name, n, rate in self._rates]


async def callboard_run(journey: Journey) -> float:
    """Callboard itself: a worker in its own process, woken by tickets."""
    async with running(journey.world, ["crm"]) as worker:
        return await through(journey, worker, journey.world.contact_ids)


def floor_run(*, hops: int) -> Run:
    """The hand-made batches, with so many actions of an execution in one commit."""

    async def run(journey: Journey) -> float:
        await journey.enrol(journey.world.contact_ids)
        return await Floor(journey, hops).run(connections=CONNECTIONS)

    return run
