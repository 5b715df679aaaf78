"""A world whose texts and calls go to the fake Twilio, and come back by the API's webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from actors.integrations import place_of
from runtime.secrets import vault_of
from tests.api_desk import Desk, open_desk
from tests.counterparts.twilio.server import ACCOUNT_SID, AUTH_TOKEN, Twilio, twilio
from tests.stand_ins import WorldWith
from tests.world import World

PUBLIC_URL: Final = "https://callboard.example"
FROM: Final = "+14155550199"
TO: Final = "+14155550100"


@dataclass
class Board:
    """The world, the fake and the integration that leads to it."""

    world: World
    fake: Twilio
    integration_id: UUID
    desk: Desk

    @property
    def pool(self) -> asyncpg.Pool:
        return self.world.pool

    @property
    def texts_url(self) -> str:
        """Where the fake sends what people text."""
        return f"{PUBLIC_URL}/hooks/twilio/{self.integration_id}/texts"

    async def texting(self, *more: Any, **config: Any) -> UUID:
        """Make a workflow of a text, and of what follows it."""
        text = {
            "message": "Hi {{contact.first_name}}",
            "from_number": FROM,
            "purpose": "transactional",
            "respect_quiet_hours": False,
            **config,
        }
        return await self.world.workflow(("send_sms", text), *more)

    async def calling(self, *more: Any, **config: Any) -> UUID:
        """Make a workflow of a call to an external number, and of what follows it."""
        call = {
            "from_number": FROM,
            "destination_type": "external",
            "destination_value": "+14155550177",
            "purpose": "transactional",
            "respect_quiet_hours": False,
            **config,
        }
        return await self.world.workflow(("make_call", call), *more)

    async def run(self, workflow: UUID, **contact: Any) -> UUID:
        """Let a contact run through a workflow, until nothing moves any more."""
        contact.setdefault("phone", TO)
        contact_id = await self.world.contact(**contact)
        execution = await self.world.run(workflow, contact_id)
        await self.settle()
        return execution

    async def settle(self) -> None:
        """Let callbacks come, and the engine do what follows from them."""
        await self.fake.is_quiet()
        await self.world.settle()
        await self.fake.is_quiet()
        await self.world.settle()

    async def advance(self, **by: float) -> None:
        """Move the clock and let everything happen that has fallen due."""
        await self.world.advance(**by)
        await self.settle()

    async def effects(self) -> list[asyncpg.Record]:
        return await self.pool.fetch("SELECT * FROM effects ORDER BY id")

    async def effect(self) -> asyncpg.Record:
        (effect,) = await self.effects()
        return effect

    async def attempts(self) -> list[str]:
        """How the attempts of all effects ended, late ones apart."""
        rows = await self.pool.fetch(
            "SELECT outcome FROM effect_attempts WHERE NOT is_late ORDER BY effect_id, attempt"
        )
        return [row["outcome"] for row in rows]

    async def events(self, event_type: str) -> list[asyncpg.Record]:
        return await self.pool.fetch(
            "SELECT * FROM domain_events WHERE event_type = $1 ORDER BY id", event_type
        )


async def add_integration(
    world: World, base_url: str, *, auth_token: str = AUTH_TOKEN, number: str = FROM, **columns: Any
) -> UUID:
    """Make a Twilio integration of the world's account."""
    integration_id, account_id = uuid4(), columns.pop("account_id", world.account_id)
    vault = vault_of(world.settings)
    sealed = vault.seal(auth_token, place_of(account_id, integration_id, "auth_token"))
    await world._add(
        "integrations",
        id=integration_id,
        account_id=account_id,
        kind="twilio",
        name="Twilio",
        settings={"account_sid": ACCOUNT_SID, "base_url": base_url},
        secrets={"auth_token": sealed},
        **columns,
    )
    await world._add(
        "sender_addresses",
        account_id=account_id,
        kind="twilio",
        address=number,
        integration_id=integration_id,
    )
    return integration_id


@asynccontextmanager
async def open_board(world_with: WorldWith, **settings: Any) -> AsyncIterator[Board]:
    """Open the fake, the API that it calls back, and a world that sends by it."""
    world = await world_with(public_url=PUBLIC_URL, **settings)
    async with (
        twilio() as fake,
        open_desk(world.pool, world.settings) as desk,
        world.worker._effects["sms"].open(),
        world.worker._effects["voice"].open(),
    ):
        fake.webhooks.stands_for[PUBLIC_URL] = str(desk.client.make_url("")).rstrip("/")
        yield Board(world, fake, await add_integration(world, fake.url), desk)
