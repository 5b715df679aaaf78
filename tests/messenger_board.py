"""A world whose messages go to the fake Graph API, and come back by the API's webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from actors.integrations import place_of
from runtime import clock
from runtime.secrets import vault_of
from tests.api_desk import Desk, open_desk
from tests.counterparts.graph.server import (
    APP_SECRET,
    PAGE,
    TOKEN,
    VERIFY_TOKEN,
    Graph,
    graph,
)
from tests.stand_ins import WorldWith
from tests.world import World

PSID: Final = "7700000000000001"


@dataclass
class Board:
    """The world, the fake and the page that leads to it."""

    world: World
    fake: Graph
    page_id: UUID
    desk: Desk

    @property
    def pool(self) -> asyncpg.Pool:
        return self.world.pool

    async def messaging(self, *more: Any, fallback: int | None = None, **config: Any) -> UUID:
        """Make a workflow of a message, and of what follows it."""
        message = {
            "page_id": str(self.page_id),
            "message_type": "text",
            "content": {"text": "Hi {{contact.first_name}}"},
            **config,
        }
        action: dict[str, Any] = {"action_type": "send_messenger", "action_config": message}
        if fallback is not None:
            action["fallback"] = fallback
        return await self.world.workflow(action, *more)

    async def person(self, psid: str = PSID, *, wrote: bool = True, **contact: Any) -> UUID:
        """Make a contact that is a person of the page, and let the person write."""
        contact_id = await self.world.contact(**contact)
        await self.pool.execute(
            "INSERT INTO messenger_people (account_id, page, psid, contact_id)"
            " VALUES ($1, $2, $3, $4)",
            self.world.account_id, PAGE, psid, contact_id,
        )  # fmt: skip
        await self.tick()
        if wrote:
            assert await self.fake.write(psid, "Hello") == 200
            await self.world.settle()
        self.fake.wrote_at.setdefault(psid, self.fake.now)
        return contact_id

    async def tick(self) -> None:
        """Let the fake know what time it is."""
        self.fake.now = await clock.current_instant(self.pool)

    async def advance(self, **by: float) -> None:
        """Move the clock and let everything happen that has fallen due."""
        await self.world.advance(**by)
        await self.world.settle()
        await self.tick()

    async def effect(self) -> asyncpg.Record:
        (effect,) = await self.pool.fetch("SELECT * FROM effects")
        return effect

    async def events(self, event_type: str) -> list[asyncpg.Record]:
        return await self.pool.fetch(
            "SELECT * FROM domain_events WHERE event_type = $1 ORDER BY id", event_type
        )


async def add_page(world: World, base_url: str, **columns: Any) -> UUID:
    """Make a Facebook page of the world's account."""
    id_, account_id = uuid4(), columns.pop("account_id", world.account_id)
    page = columns.pop("page", PAGE)
    vault = vault_of(world.settings)
    secrets = {"page_access_token": TOKEN, "app_secret": APP_SECRET, "verify_token": VERIFY_TOKEN}
    await world._add(
        "integrations",
        id=id_,
        account_id=account_id,
        kind="facebook",
        name="Page",
        settings={"base_url": base_url},
        secrets={n: vault.seal(s, place_of(account_id, id_, n)) for n, s in secrets.items()},
        **columns,
    )
    await world._add(
        "sender_addresses",
        account_id=account_id,
        kind="facebook",
        address=page,
        integration_id=id_,
    )
    return id_


@asynccontextmanager
async def open_board(world_with: WorldWith) -> AsyncIterator[Board]:
    """Open the fake, the API that it calls back, and a world that sends by it."""
    world = await world_with()
    async with (
        graph() as fake,
        open_desk(world.pool, world.settings) as desk,
        world.worker._effects["messenger"].open(),
    ):
        page_id = await add_page(world, fake.url)
        fake.webhook = str(desk.client.make_url(f"/hooks/messenger/{page_id}"))
        board = Board(world, fake, page_id, desk)
        await board.tick()
        yield board
