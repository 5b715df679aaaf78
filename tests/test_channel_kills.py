"""A worker dies before the dispatch, behind it, and behind the provider's answer, on each channel.

One death each: with one message claimed, one on the wire that the provider has not taken, and one
that it has taken and answered, whose recording was on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from runtime.bells import Bells
from runtime.clock import current_instant
from tests.conftest import SECRET_KEYS
from tests.counterparts.twilio.script import Callbacks, Delay, Hang
from tests.counterparts.twilio.server import Twilio, twilio
from tests.processes import MORTAL, Crew, until
from tests.stand_ins import WorldWith
from tests.twilio_board import FROM, add_integration
from tests.world import World

CLAIMED, ON_WIRE, ANSWERED = "+14155550101", "+14155550102", "+14155550103"
TERMS = {"from_number": FROM, "purpose": "transactional", "respect_quiet_hours": False}


@dataclass(frozen=True)
class Type:
    """An action that sends, and how often its provider may get what a dead worker had in hand."""

    action: str
    family: str
    config: dict[str, Any]
    taken: dict[str, int]
    """How many messages the provider ends with, by address."""
    statuses: dict[str, str]
    """How the effects end, by address."""


# A second text or call is worse than none: what was dispatched is not sent again.
ONCE: dict[str, int] = {CLAIMED: 1, ANSWERED: 1}
UNKNOWN = {CLAIMED: "succeeded", ON_WIRE: "unknown", ANSWERED: "unknown"}

TYPES = [
    Type("send_sms", "sms", {"message": "Hi"}, ONCE, UNKNOWN),
    Type("send_voicemail", "voice", {}, ONCE, UNKNOWN),
    Type(
        "make_call",
        "voice",
        {"destination_type": "queue", "destination_value": "Sales"},
        ONCE,
        UNKNOWN,
    ),
]


@pytest.fixture
async def fake() -> AsyncIterator[Twilio]:
    async with twilio() as fake:
        fake.callbacks = Callbacks(are_sent=False)
        yield fake


@pytest.fixture
def crew(dsn: str, tmp_path: Path) -> Any:
    crew = Crew(dsn, tmp_path, has_real_actors=True)
    yield crew
    crew.end()


async def audio(world: World) -> str:
    """A file that can be played; nobody will."""
    return str(
        await world._add(
            "files",
            id=uuid4(),
            account_id=world.account_id,
            name="hello.wav",
            media_type="audio/wav",
            size=1,
            sha256=bytes(32),
            created_at=await current_instant(world.pool),
        )
    )


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.action)
async def test_a_worker_s_death_sends_nothing_twice_and_says_what_is_unknown(
    world_with: WorldWith, fake: Twilio, crew: Crew, type_: Type
) -> None:
    world = await world_with()
    await add_integration(world, fake.url)
    config = {**TERMS, **type_.config}
    if type_.action == "send_voicemail":
        config["audio_file_id"] = await audio(world)
    workflow = await world.workflow((type_.action, config))

    async def enrol(phone: str) -> None:
        await world.enrol(workflow, await world.contact(phone=phone))
        await world.ring(Bells(families={type_.family}))

    killed = crew.start(secret_keys=SECRET_KEYS, **MORTAL)
    fake.script = [Hang(), Delay()]
    await enrol(ON_WIRE)
    await fake.has_come(1)
    await enrol(ANSWERED)
    await fake.has_come(2)
    async with world.pool.acquire() as db, db.transaction():
        await db.execute("SELECT FROM effects WHERE address = $1 FOR UPDATE", ANSWERED)
        fake.delayed.set()
        await until(lambda: waits_for_a_lock(world), "the answer's recording waits")
        await db.execute(
            "INSERT INTO channel_addresses (account_id, channel, address) VALUES ($1, $2, $3)",
            world.account_id,
            type_.family,
            CLAIMED,
        )
        await enrol(CLAIMED)
        await until(lambda: has_claimed(world), "the third is claimed, and waits for its dispatch")
        killed.kill()
    crew.start(secret_keys=SECRET_KEYS)
    await until(lambda: have_ended(world), "all three have ended")
    taken = Counter([one.to for one in fake.messages] + [one.to for one in fake.calls])
    assert taken == type_.taken
    rows = await world.pool.fetch("SELECT address, status, step_id FROM effects")
    assert {row["address"]: row["status"] for row in rows} == type_.statuses
    unknown = [row["step_id"] for row in rows if row["status"] == "unknown"]
    await until(lambda: have_failed(world, unknown), "their steps say so")


async def waits_for_a_lock(world: World) -> bool:
    found: bool = await world.pool.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    return found


async def has_claimed(world: World) -> bool:
    status = await world.pool.fetchval("SELECT status FROM effects WHERE address = $1", CLAIMED)
    return bool(status == "claimed")


async def have_ended(world: World) -> bool:
    rows = await world.pool.fetch("SELECT status FROM effects")
    return len(rows) == 3 and {row["status"] for row in rows} <= {"succeeded", "unknown"}


async def have_failed(world: World, steps: list[UUID]) -> bool:
    count: int = await world.pool.fetchval(
        "SELECT count(*) FROM workflow_action_executions"
        " WHERE id = ANY ($1) AND status = 'failed' AND error_code = 'outcome_unknown'",
        steps,
    )
    return count == len(steps)
