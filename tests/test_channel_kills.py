"""A worker dies before the dispatch, behind it, and behind the provider's answer, on each channel.

One death each: with one message claimed, one on the wire that the provider has not taken, and one
that it has taken and answered, whose recording was on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from runtime.bells import Bells
from runtime.clock import current_instant
from tests.conftest import SECRET_KEYS
from tests.counterparts.graph import server as facebook
from tests.counterparts.twilio import script as twilio_script
from tests.counterparts.twilio.server import twilio
from tests.messenger_board import add_page
from tests.processes import MORTAL, Crew, until
from tests.stand_ins import WorldWith
from tests.twilio_board import FROM, add_integration
from tests.world import World

CLAIMED, ON_WIRE, ANSWERED = "+14155550101", "+14155550102", "+14155550103"
BY_PHONE = {"from_number": FROM, "purpose": "transactional", "respect_quiet_hours": False}


@dataclass(frozen=True)
class Type:
    """An action that sends, and how often its provider may get what a dead worker had in hand."""

    action: str
    family: str
    config: dict[str, Any]


TYPES = [
    Type("send_sms", "sms", {**BY_PHONE, "message": "Hi"}),
    Type("send_voicemail", "voice", BY_PHONE),
    Type(
        "make_call",
        "voice",
        {**BY_PHONE, "destination_type": "queue", "destination_value": "Sales"},
    ),
    Type("send_messenger", "messenger", {"message_type": "text", "content": {"text": "Hi"}}),
]


@pytest.fixture
def crew(dsn: str, tmp_path: Path) -> Any:
    crew = Crew(dsn, tmp_path, has_real_actors=True)
    yield crew
    crew.end()


@dataclass
class Provider:
    """The fake of a provider, and how a contact is somebody there."""

    fake: Any
    hang: Any
    delay: Any

    async def contact(self, world: World, phone: str) -> UUID:
        return await world.contact(phone=phone)

    def address(self, phone: str) -> str:
        return phone

    def taken(self) -> Counter[str]:
        return Counter([one.to for one in self.fake.messages] + [one.to for one in self.fake.calls])


@dataclass
class Messenger(Provider):
    """Facebook: a phone number without its plus is the person's number."""

    async def contact(self, world: World, phone: str) -> UUID:
        contact_id, psid = await world.contact(), phone[1:]
        await world.pool.execute(
            "INSERT INTO messenger_people (account_id, page, psid, contact_id, last_inbound_at)"
            " VALUES ($1, $2, $3, $4, (SELECT current_instant()))",
            *(world.account_id, facebook.PAGE, psid, contact_id),
        )
        self.fake.wrote_at[psid] = self.fake.now
        return contact_id

    def address(self, phone: str) -> str:
        return f"{facebook.PAGE}:{phone[1:]}"

    def taken(self) -> Counter[str]:
        return Counter(message.to for message in self.fake.messages)


@asynccontextmanager
async def provider(world: World, type_: Type) -> AsyncIterator[tuple[Provider, dict[str, Any]]]:
    """Serve what a type sends by; gives the config that leads there."""
    if type_.family == "messenger":
        async with facebook.graph() as fake:
            page_id = await add_page(world, fake.url)
            served: Provider = Messenger(fake, facebook.Hang(), facebook.Delay())
            yield served, {**type_.config, "page_id": str(page_id)}
        return
    async with twilio() as fake:
        fake.callbacks = twilio_script.Callbacks(are_sent=False)
        await add_integration(world, fake.url)
        file = {"audio_file_id": await audio(world)} if type_.action == "send_voicemail" else {}
        served = Provider(fake, twilio_script.Hang(), twilio_script.Delay())
        yield served, {**type_.config, **file}


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
    world_with: WorldWith, crew: Crew, type_: Type
) -> None:
    world = await world_with()
    async with provider(world, type_) as (served, config):
        await killed_with_three_in_hand(world, crew, type_, served, config)


async def killed_with_three_in_hand(
    world: World, crew: Crew, type_: Type, served: Provider, config: dict[str, Any]
) -> None:
    fake = served.fake
    workflow = await world.workflow((type_.action, config))
    claimed, on_wire, answered = map(served.address, (CLAIMED, ON_WIRE, ANSWERED))

    async def enrol(phone: str) -> None:
        await world.enrol(workflow, await served.contact(world, phone))
        await world.ring(Bells(families={type_.family}))

    killed = crew.start(secret_keys=SECRET_KEYS, **MORTAL)
    fake.script = [served.hang, served.delay]
    await enrol(ON_WIRE)
    await fake.has_come(1)
    await enrol(ANSWERED)
    await fake.has_come(2)
    async with world.pool.acquire() as db, db.transaction():
        await db.execute("SELECT FROM effects WHERE address = $1 FOR UPDATE", answered)
        fake.delayed.set()
        await until(lambda: waits_for_a_lock(world), "the answer's recording waits")
        await db.execute(
            "INSERT INTO channel_addresses (account_id, channel, address) VALUES ($1, $2, $3)",
            world.account_id,
            type_.family,
            claimed,
        )
        await enrol(CLAIMED)
        await until(lambda: has_claimed(world, claimed), "the third waits for its dispatch")
        killed.kill()
    crew.start(secret_keys=SECRET_KEYS)
    await until(lambda: have_ended(world), "all three have ended")
    # A second message or call is worse than none: what was dispatched is not sent again.
    assert served.taken() == {claimed: 1, answered: 1}
    rows = await world.pool.fetch("SELECT address, status, step_id FROM effects")
    statuses = {row["address"]: row["status"] for row in rows}
    assert statuses == {claimed: "succeeded", on_wire: "unknown", answered: "unknown"}
    unknown = [row["step_id"] for row in rows if row["status"] == "unknown"]
    await until(lambda: have_failed(world, unknown), "their steps say so")


async def waits_for_a_lock(world: World) -> bool:
    found: bool = await world.pool.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    return found


async def has_claimed(world: World, address: str) -> bool:
    status = await world.pool.fetchval("SELECT status FROM effects WHERE address = $1", address)
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
