"""Mails per second, beside bare loops that build each mail, and that send ready-made bytes."""

from __future__ import annotations

import argparse
import asyncio
import statistics
from dataclasses import dataclass
from typing import Any, Final

from bench._barely_mailing import build_and_send, send_bytes
from bench._mailing import CONNECTIONS, HTML, Counterpart, counterpart, integrate, queries
from bench._reporting import Report
from bench._sending import send_to
from bench._worker import running
from bench._world import World, new_world
from runtime.definitions import CompiledVersion
from runtime.settings import Settings

MESSAGES: Final = 2_000
SMALL_MESSAGES: Final = 100
ROUNDS: Final = 5


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report; exit code 1 if anything was lost or sent twice."""
    parser = argparse.ArgumentParser(prog="run.py bench email")
    messages = SMALL_MESSAGES if small else MESSAGES
    parser.add_argument("--messages", type=int, default=messages, metavar="N")
    messages = parser.parse_args(argv).messages
    rounds = 1 if small else ROUNDS
    return asyncio.run(_measure(settings, Report("email", json=json), messages, rounds))


async def _measure(settings: Settings, report: Report, messages: int, rounds: int) -> int:
    total = messages * rounds
    async with (
        counterpart() as other_side,
        new_world(settings, contacts=total) as world,
    ):
        config = await integrate(world, other_side.port)
        version = await world.workflow("Mails", [("send_email", config)])
        await world.settle()
        rates = await _rates(report, _Race(world, version, other_side.port, messages, rounds))
        complaints = await _complaints(world, other_side, total)
        conditions = {
            "messages": messages,
            "rounds": rounds,
            "html_bytes": len(HTML.encode()),
            "connections": CONNECTIONS,
            "slots": world.settings.slots_of("email"),
            **await world.conditions(),
        }
    if complaints:
        return report.fail(complaints)
    ours, bare, by_bytes = map(statistics.median, rates)
    figures: dict[str, Any] = {
        "per_s": round(ours, 1),
        "bare_per_s": round(bare, 1),
        "bytes_per_s": round(by_bytes, 1),
        "of_bare": round(ours / bare, 3),
        "of_bytes": round(ours / by_bytes, 3),
    }
    report.table(
        "mails, from enrolment to recorded result", ["what", "figure"], list(figures.items())
    )
    return report.finish(figures, conditions)


@dataclass(frozen=True, slots=True)
class _Race:
    """What all three run: so many mails in each round, by this workflow or barely."""

    world: World
    version: CompiledVersion
    port: int
    messages: int
    rounds: int


async def _rates(report: Report, race: _Race) -> tuple[list[float], list[float], list[float]]:
    """Mails per second by turns, to the same people."""
    rates: tuple[list[float], list[float], list[float]] = ([], [], [])
    world, messages = race.world, race.messages
    async with running(world, ["email"]) as worker:
        for number in range(race.rounds):
            people = world.contact_ids[number * messages : (number + 1) * messages]
            rows = await world.pool.fetch(queries.recipients, people)
            recipients = [(row["email"], row["first_name"]) for row in rows]
            report.say(f"round {number + 1}: {messages:,} mails each")
            seconds = (
                await send_to(world, worker, race.version, people, "email"),
                await build_and_send(race.port, recipients),
                await send_bytes(race.port, recipients),
            )
            for rate, taken in zip(rates, seconds, strict=True):
                rate.append(messages / taken)
    return rates


async def _complaints(world: World, other_side: Counterpart, total: int) -> list[str]:
    counts = await other_side.counts()
    found = await world.pool.fetchrow(queries.complaints)
    assert found is not None
    wanted = {"effects": total, "others": 0, "steps": total}
    complaints = [
        f"{name}: {found[name]} instead of {number}"
        for name, number in wanted.items()
        if found[name] != number
    ]
    # Each address got a mail of Callboard's and one of each loop's.
    if (counts["mails"], counts["recipients"], counts["refusals"]) != (3 * total, total, 0):
        complaints.append(f"the other side counted {counts}")
    return complaints
