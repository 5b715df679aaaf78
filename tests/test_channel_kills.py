"""A worker dies before the dispatch, behind it, and behind the provider's answer, on each channel.

One death each: with one message claimed, one on the wire that the provider has not taken, and one
that it has taken and answered, whose recording was on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest

from runtime.bells import Bells
from runtime.clock import current_instant
from tests import mail_board, twilio_board
from tests.conftest import SECRET_KEYS
from tests.counterparts.graph import server as graph_server
from tests.counterparts.smtp import script as mail_script
from tests.counterparts.smtp.server import PostOffice, post_office
from tests.counterparts.twilio.script import Callbacks, Delay, Hang
from tests.counterparts.twilio.server import Twilio, twilio
from tests.messenger_board import add_page
from tests.processes import MORTAL, Crew, until
from tests.stand_ins import WorldWith
from tests.world import World

CLAIMED, ON_WIRE, ANSWERED = "claimed", "on the wire", "answered"
"""Where the three messages are when the worker dies."""


class Provider(Protocol):
    """The other side: hangs at the first message, and answers the second once it is let."""

    addresses: dict[str, str]

    async def contact(self, world: World, which: str) -> UUID: ...

    async def has_come(self, count: int) -> None: ...

    def answer(self) -> None: ...

    def taken(self) -> Counter[str]: ...


@dataclass
class Phones:
    """Twilio."""

    fake: Twilio
    addresses = {CLAIMED: "+14155550101", ON_WIRE: "+14155550102", ANSWERED: "+14155550103"}  # noqa: RUF012

    async def contact(self, world: World, which: str) -> UUID:
        return await world.contact(phone=self.addresses[which])

    async def has_come(self, count: int) -> None:
        await self.fake.has_come(count)

    def answer(self) -> None:
        self.fake.delayed.set()

    def taken(self) -> Counter[str]:
        return Counter([one.to for one in self.fake.messages] + [one.to for one in self.fake.calls])


@asynccontextmanager
async def phones(world: World) -> AsyncIterator[Phones]:
    async with twilio() as fake:
        fake.callbacks = Callbacks(are_sent=False)
        fake.script = [Hang(), Delay()]
        await twilio_board.add_integration(world, fake.url)
        yield Phones(fake)


@dataclass
class Mailboxes:
    """An SMTP server; each mail bears one Message-ID, however often it comes."""

    office: PostOffice
    addresses = {CLAIMED: "a@x.test", ON_WIRE: "b@x.test", ANSWERED: "c@x.test"}  # noqa: RUF012

    async def contact(self, world: World, which: str) -> UUID:
        return await world.contact(email=self.addresses[which])

    async def has_come(self, count: int) -> None:
        await self.office.has_reached("content", count)

    def answer(self) -> None:
        self.office.delayed.set()

    def taken(self) -> Counter[str]:
        mails = {(mail.recipients[0], mail.message["Message-ID"]) for mail in self.office.mails}
        assert len(mails) == len({address for address, _ in mails})
        return self.office.taken


@asynccontextmanager
async def mailboxes(world: World) -> AsyncIterator[Mailboxes]:
    async with post_office() as office:
        office.script["content"] = [mail_script.Hang(), mail_script.Delay()]
        await mail_board.add_integration(world, office.port)
        yield Mailboxes(office)


@dataclass
class Messenger:
    """Facebook."""

    fake: graph_server.Graph
    addresses = {  # noqa: RUF012
        at: f"{graph_server.PAGE}:1415555010{number}"
        for number, at in enumerate((CLAIMED, ON_WIRE, ANSWERED))
    }

    async def contact(self, world: World, which: str) -> UUID:
        contact_id = await world.contact()
        psid = self.addresses[which].partition(":")[2]
        await world.pool.execute(
            "INSERT INTO messenger_people (account_id, page, psid, contact_id, last_inbound_at)"
            " VALUES ($1, $2, $3, $4, (SELECT current_instant()))",
            *(world.account_id, graph_server.PAGE, psid, contact_id),
        )
        self.fake.wrote_at[psid] = self.fake.now
        return contact_id

    async def has_come(self, count: int) -> None:
        await self.fake.has_come(count)

    def answer(self) -> None:
        self.fake.delayed.set()

    def taken(self) -> Counter[str]:
        return Counter(message.to for message in self.fake.messages)


@asynccontextmanager
async def messenger(world: World) -> AsyncIterator[Messenger]:
    async with graph_server.graph() as fake:
        fake.script = [graph_server.Hang(), graph_server.Delay()]
        await add_page(world, fake.url)
        yield Messenger(fake)


Config = Callable[[World], Any]


@dataclass(frozen=True)
class Type:
    """An action that sends, and how often its provider may get what a dead worker had in hand."""

    action: str
    family: str
    provider: Callable[[World], AbstractAsyncContextManager[Provider]]
    config: Config
    taken: dict[str, int]
    """How many messages the provider ends with."""
    statuses: dict[str, str]
    """How the effects end."""


TERMS = {"from_number": twilio_board.FROM, "purpose": "transactional", "respect_quiet_hours": False}


async def texting(_world: World) -> dict[str, Any]:
    return {**TERMS, "message": "Hi"}


async def calling(_world: World) -> dict[str, Any]:
    return {**TERMS, "destination_type": "queue", "destination_value": "Sales"}


async def speaking(world: World) -> dict[str, Any]:
    """By a file that can be played; nobody will."""
    file_id = await world._add(
        "files",
        id=uuid4(),
        account_id=world.account_id,
        name="hello.wav",
        media_type="audio/wav",
        size=1,
        sha256=bytes(32),
        created_at=await current_instant(world.pool),
    )
    return {**TERMS, "audio_file_id": str(file_id)}


async def chatting(world: World) -> dict[str, Any]:
    page_id = await world.pool.fetchval("SELECT id FROM integrations WHERE kind = 'facebook'")
    return {"message_type": "text", "content": {"text": "Hi"}, "page_id": str(page_id)}


async def mailing(world: World) -> dict[str, Any]:
    template_id = await mail_board.add_template(world)
    return {
        "template_id": str(template_id),
        "subject": "Hello",
        "from_name": "Ada",
        "from_email": mail_board.FROM,
    }


# A second text or call is worse than none: what was dispatched is not sent again. A second mail is
# known by its Message-ID.
ONCE = {CLAIMED: 1, ANSWERED: 1}
UNKNOWN = {CLAIMED: "succeeded", ON_WIRE: "unknown", ANSWERED: "unknown"}
AGAIN = {CLAIMED: 1, ON_WIRE: 1, ANSWERED: 2}
SENT = dict.fromkeys(AGAIN, "succeeded")

TYPES = [
    Type("send_sms", "sms", phones, texting, ONCE, UNKNOWN),
    Type("send_voicemail", "voice", phones, speaking, ONCE, UNKNOWN),
    Type("make_call", "voice", phones, calling, ONCE, UNKNOWN),
    Type("send_messenger", "messenger", messenger, chatting, ONCE, UNKNOWN),
    Type("send_email", "email", mailboxes, mailing, AGAIN, SENT),
]


@pytest.fixture
def crew(dsn: str, tmp_path: Path) -> Any:
    crew = Crew(dsn, tmp_path, has_real_actors=True)
    yield crew
    crew.end()


@pytest.mark.parametrize("type_", TYPES, ids=lambda type_: type_.action)
async def test_a_worker_s_death_sends_nothing_twice_that_must_not_be_and_says_what_is_unknown(
    world_with: WorldWith, crew: Crew, type_: Type
) -> None:
    world = await world_with()
    async with type_.provider(world) as provider:
        addresses = provider.addresses
        workflow = await world.workflow((type_.action, await type_.config(world)))

        async def enrol(which: str) -> None:
            await world.enrol(workflow, await provider.contact(world, which))
            await world.ring(Bells(families={type_.family}))

        killed = crew.start(secret_keys=SECRET_KEYS, **MORTAL)
        await enrol(ON_WIRE)
        await provider.has_come(1)
        await enrol(ANSWERED)
        await provider.has_come(2)
        async with world.pool.acquire() as db, db.transaction():
            row = "SELECT FROM effects WHERE address = $1 FOR UPDATE"
            await db.execute(row, addresses[ANSWERED])
            provider.answer()
            await until(lambda: waits_for_a_lock(world), "the answer's recording waits")
            await db.execute(
                "INSERT INTO channel_addresses (account_id, channel, address) VALUES ($1, $2, $3)",
                world.account_id,
                type_.family,
                addresses[CLAIMED],
            )
            await enrol(CLAIMED)
            await until(
                lambda: is_claimed(world, addresses[CLAIMED]), "the third waits for its dispatch"
            )
            killed.kill()
        crew.start(secret_keys=SECRET_KEYS)
        await until(lambda: have_ended(world), "all three have ended")
        assert provider.taken() == {addresses[at]: times for at, times in type_.taken.items()}
        rows = await world.pool.fetch("SELECT address, status, step_id FROM effects")
        statuses = {row["address"]: row["status"] for row in rows}
        assert statuses == {addresses[at]: status for at, status in type_.statuses.items()}
        unknown = [row["step_id"] for row in rows if row["status"] == "unknown"]
        await until(lambda: have_failed(world, unknown), "their steps say so")


async def waits_for_a_lock(world: World) -> bool:
    found: bool = await world.pool.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    return found


async def is_claimed(world: World, address: str) -> bool:
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
