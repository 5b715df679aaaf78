"""Texts per second, beside a bare loop with the same client and the same counterpart."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from actors.integrations import Integration
from actors.twilio_client import make_client, new_session
from bench._reporting import Report
from bench._sending import send_to
from bench._texting import FROM, Counterpart, counterpart, integrate, keys_of, queries, with_keys
from bench._worker import running
from bench._world import World, new_world
from runtime.definitions import CompiledVersion
from runtime.settings import Settings

MESSAGES: Final = 2_000
SMALL_MESSAGES: Final = 100
ROUNDS: Final = 5
CALLBACK: Final = "http://127.0.0.1:8100/hooks/twilio/x/messages/x"
TEXT: Final[dict[str, Any]] = {
    "message": "Hi {{contact.first_name}}, your order is on its way.",
    "from_number": FROM,
    "purpose": "transactional",
    "respect_quiet_hours": False,
}


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report; exit code 1 if anything was lost or sent twice."""
    parser = argparse.ArgumentParser(prog="run.py bench sms")
    messages = SMALL_MESSAGES if small else MESSAGES
    parser.add_argument("--messages", type=int, default=messages, metavar="N")
    messages = parser.parse_args(argv).messages
    rounds = 1 if small else ROUNDS
    return asyncio.run(_measure(with_keys(settings), Report("sms", json=json), messages, rounds))


async def _measure(settings: Settings, report: Report, messages: int, rounds: int) -> int:
    total = messages * rounds
    async with (
        counterpart() as other_side,
        new_world(settings, contacts=total) as world,
    ):
        integration = await integrate(world, other_side.url)
        version = await world.workflow("Texts", [("send_sms", TEXT)])
        await world.settle()
        race = _Race(world, version, integration, messages, rounds)
        ours, bare = await _rates(report, race)
        complaints = await _complaints(world, other_side, total)
        conditions = {
            "messages": messages,
            "rounds": rounds,
            "slots": settings.slots_of("sms"),
            **await world.conditions(),
        }
    if complaints:
        return report.fail(complaints)
    figures: dict[str, Any] = {
        "per_s": round(statistics.median(ours), 1),
        "bare_per_s": round(statistics.median(bare), 1),
        "of_bare": round(statistics.median(ours) / statistics.median(bare), 3),
    }
    report.table(
        "texts, from enrolment to recorded result", ["what", "figure"], list(figures.items())
    )
    return report.finish(figures, conditions)


@dataclass(frozen=True, slots=True)
class _Race:
    """What both run: so many texts in each round, by this workflow or barely."""

    world: World
    version: CompiledVersion
    integration: Integration
    messages: int
    rounds: int


async def _rates(report: Report, race: _Race) -> tuple[list[float], list[float]]:
    """Texts per second by turns: Callboard's, and a bare loop's to the same numbers."""
    ours, bare = [], []
    world, messages = race.world, race.messages
    slots = world.settings.slots_of("sms")
    environment = {"CALLBOARD_SECRET_KEYS": keys_of(world.settings)}
    async with running(world, ["sms"], environment) as worker:
        for number in range(race.rounds):
            people = world.contact_ids[number * messages : (number + 1) * messages]
            report.say(f"round {number + 1}: {messages:,} texts each")
            seconds = await send_to(world, worker, race.version, people, "sms")
            ours.append(messages / seconds)
            bare.append(messages / await _text_barely(world, race.integration, people, slots))
    return ours, bare


async def _text_barely(
    world: World, integration: Integration, people: Sequence[UUID], slots: int
) -> float:
    """Seconds for as many texts by a loop that does nothing else, as many at once."""
    rows = await world.pool.fetch(queries.phones, people)
    phones = iter([row["phone"] for row in rows])
    async with new_session() as session:
        client = make_client(integration, session)

        async def send() -> None:
            for phone in phones:
                await client.messages.create_async(
                    to=phone,
                    from_=FROM,
                    body="Hi First1, your order is on its way.",
                    status_callback=CALLBACK,
                )

        began = time.perf_counter()
        await asyncio.gather(*(send() for _ in range(slots)))
        return time.perf_counter() - began


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
    # Each number got a text of Callboard's and one of the loop's.
    if (counts["messages"], counts["numbers"], counts["refused"]) != (2 * total, total, 0):
        complaints.append(f"the other side counted {counts}")
    return complaints
