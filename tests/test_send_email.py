"""send_email: mails over SMTP to a real server of the protocol, and the way out of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from runtime.settings import Settings
from tests.api_desk import Desk, open_desk
from tests.stand_ins import WorldWith
from tests.world import World

TO = "bo@x.test"
FROM = "ada@acme.test"
HTML = "<html><body><p>Hi {{contact.first_name}}</p></body></html>"


@dataclass
class Server:
    """The other side: takes mails, answers as scripted, then always with 250."""

    port: int = 0
    came: list[Envelope] = field(default_factory=list)
    script: list[str] = field(default_factory=list)
    """Answers to RCPT."""
    data_script: list[str] = field(default_factory=list)
    connections: int = 0

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self,
        _server: SMTP,
        session: Session,
        _envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        self.connections += 1
        return responses

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if self.script and (said := self.script.pop(0)) != "250":
            return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self.came.append(envelope)
        if self.data_script:
            said = self.data_script.pop(0)
            if said == "drop":
                assert isinstance(server.transport, asyncio.Transport)
                server.transport.abort()
            return said
        return "250 taken as 42"

    def mail(self, number: int = -1) -> EmailMessage:
        content = self.came[number].content
        assert isinstance(content, bytes)
        read = message_from_bytes(content, policy=POLICY)
        assert isinstance(read, EmailMessage)
        return read


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    peer = Server()
    listening = await asyncio.get_running_loop().create_server(
        lambda: SMTP(peer, enable_SMTPUTF8=True), "127.0.0.1"
    )
    peer.port = listening.sockets[0].getsockname()[1]
    yield peer
    listening.close()


@pytest.fixture
async def world(world_with: WorldWith) -> World:
    return await world_with(public_url="https://callboard.example")


@pytest.fixture(autouse=True)
async def opened(world: World) -> AsyncIterator[None]:
    async with world.worker._effects["email"].open():
        yield


async def mailing(
    world: World,
    server: Server,
    *more: Any,
    html: str = HTML,
    purpose: str = "transactional",
    **config: Any,
) -> UUID:
    """A workflow of one mail, with its template and its integration."""
    integration, template = uuid4(), uuid4()
    await world._add(
        "integrations",
        id=integration,
        account_id=world.account_id,
        kind="smtp",
        name="Mail",
        settings={"host": "127.0.0.1", "port": server.port, "security": "none"},
    )
    await world._add(
        "sender_addresses",
        account_id=world.account_id,
        kind="smtp",
        address="@acme.test",
        integration_id=integration,
    )
    now = await world.pool.fetchval("SELECT current_instant()")
    own = {"account_id": world.account_id, "created_at": now}
    await world._add(
        "message_templates",
        id=template,
        name="T",
        purpose=purpose,
        version=1,
        updated_at=now,
        **own,
    )
    await world._add("message_template_versions", template_id=template, version=1, html=html, **own)
    mail = {
        "template_id": str(template),
        "subject": "Hello {{contact.first_name}}",
        "from_name": "Ada {{contact.last_name}}",
        "from_email": "{{'ada@acme.test'}}",
        **config,
    }
    return await world.workflow(("send_email", mail), *more)


async def test_send_email_action(world: World, server: Server) -> None:
    """The template goes out with the contact's data; escaped in HTML only, one connection kept."""
    workflow = await mailing(world, server, reply_to="desk@acme.com")
    for name in ("A & B", "Grüße " * 20):
        contact = await world.contact(first_name=name, email=f"{name[0].lower()}@x.test")
        execution = await world.run(workflow, contact)
        assert await world.statuses(execution) == ["completed"]
    first, second = server.mail(0), server.mail(1)
    assert (first["To"], first["Subject"]) == ("a@x.test", "Hello A & B")
    assert (first["From"], first["Reply-To"]) == ("Ada <ada@acme.test>", "desk@acme.com")
    text, html = first.get_body(("plain",)), first.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content() == "Hi A & B\r\n"
    assert html.get_content().startswith("<html><body><p>Hi A &amp; B</p><img src=")
    assert str(second["Subject"]) == "Hello " + ("Grüße " * 20).strip()
    assert "List-Unsubscribe" not in first
    ids = await world.pool.fetch("SELECT id, result FROM effects ORDER BY id")
    assert first["Message-ID"] == f"<{ids[0]['id']}@acme.test>" == ids[0]["result"]["message_id"]
    assert ids[0]["result"]["reply"] == "taken as 42"
    assert server.connections == 1


@pytest.mark.parametrize(
    ("said", "status", "code", "suppressed"),
    [
        ("550 5.1.1 no such user", "failed", "bounced", True),
        ("550 no such user", "failed", "bounced", True),
        ("550 5.7.1 policy", "failed", "bounced", False),
        ("552 5.2.2 full", "failed", "bounced", False),
    ],
)
async def test_a_refused_recipient_is_a_bounce(
    world: World, server: Server, said: str, status: str, code: str, *, suppressed: bool
) -> None:
    server.script = [said]
    execution = await world.run(await mailing(world, server), await world.contact(email=TO))
    (step,) = await world.steps(execution)
    assert (step["status"], step["error_code"]) == (status, code)
    found = await world.pool.fetchval("SELECT reason FROM channel_addresses")
    assert (found == "hard_bounce") is suppressed
    assert server.came == []


async def test_a_deferred_recipient_is_tried_again(world: World, server: Server) -> None:
    server.script = ["451 4.7.1 greylisted"]
    execution = await world.run(await mailing(world, server), await world.contact(email=TO))
    assert server.came == []
    await world.advance(minutes=1)
    assert await world.statuses(execution) == ["completed"]
    assert len(server.came) == 1


async def test_accepted_then_the_connection_drops_it_goes_again_under_the_same_message_id(
    world: World, server: Server
) -> None:
    server.data_script = ["drop"]
    execution = await world.run(await mailing(world, server), await world.contact(email=TO))
    await world.advance(minutes=10)
    assert await world.statuses(execution) == ["completed"]
    assert len(server.came) == 2
    assert server.mail(0)["Message-ID"] == server.mail(1)["Message-ID"]


async def test_what_cannot_be_mailed_ends_with_its_reason(world: World, server: Server) -> None:
    workflow = await mailing(world, server, purpose="marketing")
    execution = await world.run(workflow, await world.contact())
    (step,) = await world.steps(execution)
    assert (step["status"], step["skip_reason"]) == ("skipped", "contact_has_no_email")
    execution = await world.run(workflow, await world.contact(email=TO))
    (step,) = await world.steps(execution)
    assert step["error_code"] == "postal_address_missing"
    await world.pool.execute("UPDATE message_templates SET deleted_at = now()")
    execution = await world.run(workflow, await world.contact(email="c@x.test"))
    (step,) = await world.steps(execution)
    assert step["error_code"] == "template_unknown"
    assert server.came == []


async def test_an_address_beyond_ascii_needs_smtputf8_and_a_domain_is_written_in_ascii(
    world: World, server: Server
) -> None:
    workflow = await mailing(world, server)
    await world.run(workflow, await world.contact(email="bo@bücher.test"))
    assert server.came[0].rcpt_tos == ["bo@xn--bcher-kva.test"]
    execution = await world.run(workflow, await world.contact(email="jörg@x.test"))
    assert await world.statuses(execution) == ["completed"]
    assert server.came[1].rcpt_tos == ["jörg@x.test"]
    assert server.mail(1)["To"] == "jörg@x.test"


@pytest.fixture
async def desk(world: World, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(world.pool, world.settings) as desk:
        yield desk


async def test_marketing_carries_address_and_link_and_one_post_unsubscribes(
    world: World, server: Server, desk: Desk
) -> None:
    await world.pool.execute("UPDATE accounts SET postal_address = E'1 <Way>\\nTown'")
    workflow = await mailing(world, server, purpose="marketing", track_opens=False)
    contact = await world.contact(email=TO)
    await world.run(workflow, contact)
    mail = server.mail()
    html = mail.get_body(("html",))
    assert html is not None
    assert "1 &lt;Way&gt;<br>Town" in html.get_content()
    assert html.get_content().rstrip().endswith("</div></body></html>")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = str(mail["List-Unsubscribe"]).strip("<>")
    assert url in html.get_content()
    path = url.removeprefix("https://callboard.example")

    async def reason() -> Any:
        return await world.pool.fetchval("SELECT reason FROM channel_addresses")

    for method in ("GET", "HEAD"):
        async with desk.client.request(method, path) as shown:
            assert shown.status == 200
            assert ("<form" in await shown.text()) is (method == "GET")
    assert await reason() is None
    async with desk.client.post(path[:-1] + ("A" if path[-1] != "A" else "B")) as refused:
        assert refused.status == 404
    form = aiohttp.FormData({"List-Unsubscribe": "One-Click"})
    with aiohttp.MultipartWriter("form-data") as parts:
        parts.append("One-Click").set_content_disposition("form-data", name="List-Unsubscribe")
    for data in (form, parts):
        async with desk.client.post(path, data=data) as done:
            assert done.status == 200
        assert await reason() == "unsubscribed"
    events = await world.pool.fetch(
        "SELECT event_type FROM domain_events WHERE action_id IS NOT NULL"
    )
    assert [row["event_type"] for row in events] == ["email_unsubscribed"]
    execution = await world.run(workflow, contact)
    (step,) = await world.steps(execution)
    assert (step["status"], step["skip_reason"]) == ("skipped", "opted_out")
    assert len(server.came) == 1
