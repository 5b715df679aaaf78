"""A world whose mails go to the fake SMTP server, and whose readers come back by the API."""

from __future__ import annotations

import html as entities
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from tests.api_desk import Desk, open_desk
from tests.counterparts.smtp.server import PostOffice, post_office
from tests.stand_ins import WorldWith
from tests.world import World

PUBLIC_URL: Final = "https://callboard.example"
FROM: Final = "ada@acme.com"
TO: Final = "bo@x.test"
READER: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
}
HTML: Final = (
    "<html><body><p>Hi {{contact.first_name}}</p>"
    '<a href="https://acme.test/a?b=1&amp;c=2">A</a> <a href="mailto:ada@acme.test">B</a>'
    "</body></html>"
)  # fmt: skip


@dataclass
class Read:
    """What a reader's mail program or browser was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Board:
    """The world, the server and the integration that leads to it."""

    world: World
    office: PostOffice
    integration_id: UUID
    desk: Desk
    template_id: UUID = field(init=False)

    @property
    def pool(self) -> asyncpg.Pool:
        return self.world.pool

    async def template(self, html: str = HTML, purpose: str = "transactional") -> UUID:
        """Make a template."""
        self.template_id = await add_template(self.world, html, purpose)
        return self.template_id

    def mail(self, **config: Any) -> tuple[str, dict[str, Any]]:
        """The action that sends the template made last."""
        return "send_email", {
            "template_id": str(self.template_id),
            "subject": "Hello",
            "from_name": "Ada",
            "from_email": FROM,
            **config,
        }

    async def mailing(
        self, *more: Any, html: str = HTML, purpose: str = "transactional", **config: Any
    ) -> UUID:
        """Make a workflow of a mail, and of what follows it."""
        await self.template(html, purpose)
        return await self.world.workflow(self.mail(**config), *more)

    async def run(self, workflow: UUID, **contact: Any) -> UUID:
        """Let a contact run through a workflow, until nothing moves any more."""
        contact.setdefault("email", TO)
        return await self.world.run(workflow, await self.world.contact(**contact))

    def html(self, number: int = -1) -> str:
        """The HTML of a mail that came."""
        return self.office.mails[number].body("html")

    def links(self, number: int = -1) -> list[str]:
        """Where the links of a mail lead, in order."""
        found = re.findall(r'<a href="(.*?)"', self.html(number))
        return list(map(entities.unescape, found))

    def pixel(self, number: int = -1) -> str:
        """Where the pixel of a mail is."""
        found = re.search(r'<img src="(.*?)"', self.html(number))
        assert found is not None, "it is not tracked"
        return entities.unescape(found[1])

    async def ask(self, url: str, method: str = "GET", **headers: str) -> Read:
        """Ask for an address of ours, as a person's program unless `headers` say otherwise."""
        path = url.removeprefix(PUBLIC_URL)
        told = {**READER, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.desk.client.request(
            method, path, headers=told, allow_redirects=False
        ) as answer:
            return Read(answer.status, answer.headers, await answer.read())

    async def effects(self) -> list[asyncpg.Record]:
        return await self.pool.fetch("SELECT * FROM effects ORDER BY id")

    async def effect(self) -> asyncpg.Record:
        (effect,) = await self.effects()
        return effect

    async def events(self, *event_types: str) -> list[asyncpg.Record]:
        return await self.pool.fetch(
            "SELECT * FROM domain_events WHERE event_type = ANY ($1) ORDER BY id", event_types
        )

    async def event_types(self) -> list[str]:
        """What has happened to mails, in order."""
        rows = await self.pool.fetch(
            "SELECT event_type FROM domain_events WHERE event_type LIKE 'email%' ORDER BY id"
        )
        return [row["event_type"] for row in rows]

    async def opt_outs(self) -> dict[str, str]:
        rows = await self.pool.fetch(
            "SELECT address, reason FROM channel_addresses WHERE opted_out_at IS NOT NULL"
        )
        return {row["address"]: row["reason"] for row in rows}


async def add_template(world: World, html: str = HTML, purpose: str = "transactional") -> UUID:
    """Make a template with its first version."""
    now = await world.pool.fetchval("SELECT current_instant()")
    own = {"account_id": world.account_id, "created_at": now}
    id_ = uuid4()
    await world._add(
        "message_templates", id=id_, name="T", purpose=purpose, version=1, updated_at=now, **own
    )
    await world._add("message_template_versions", template_id=id_, version=1, html=html, **own)
    return id_


async def add_integration(world: World, port: int, **columns: Any) -> UUID:
    """Make an SMTP integration of the world's account."""
    integration_id, account_id = uuid4(), columns.pop("account_id", world.account_id)
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        **columns.pop("settings", {}),
    }
    await world._add(
        "integrations",
        id=integration_id,
        account_id=account_id,
        kind="smtp",
        name="Mail",
        settings=settings,
        **columns,
    )
    await world._add(
        "sender_addresses",
        account_id=account_id,
        kind="smtp",
        address="@acme.com",
        integration_id=integration_id,
    )
    return integration_id


@asynccontextmanager
async def open_board(
    world_with: WorldWith, integration: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Board]:
    """Open the server, the API that readers come back to, and a world that sends by it.

    `integration`: further settings of the integration.
    """
    world = await world_with(public_url=PUBLIC_URL, **settings)
    async with (
        post_office() as office,
        open_desk(world.pool, world.settings) as desk,
        world.worker._effects["email"].open(),
    ):
        id_ = await add_integration(world, office.port, settings=dict(integration or {}))
        yield Board(world, office, id_, desk)
