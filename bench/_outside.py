"""Everybody outside, in one process: Twilio, Facebook, a mail server, a customer's system, people.

`python -m bench._outside` prints one line of JSON with the addresses, and ends by SIGTERM. At
`control` it is told who the people are (`POST /people`), what they do now (`POST /scenes/{name}`),
and says whether all that it has begun is done (`POST /quiet`) and what came (`GET /counts`).
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.header import decode_header, make_header
from typing import Any, Final

import uvloop
from aiohttp import web
from standardwebhooks import Webhook

from bench._people import Person, from_json
from bench._scenes import Scenes, Setting
from tests.counterparts.graph.server import Graph, graph
from tests.counterparts.smtp.script import NO_SUCH_USER
from tests.counterparts.smtp.server import PostOffice, post_office
from tests.counterparts.twilio.script import Answer, Fate
from tests.counterparts.twilio.server import Twilio, twilio

_SUBJECT: Final = re.compile(rb"^Subject: (.*)\r$", re.MULTILINE)
_LANDLINE: Final = Fate(("sent", "undelivered"), 30006)


@dataclass
class Customer:
    """The system that webhooks call: takes each delivery once, by its id, if it is signed."""

    secret: str = ""
    came: Counter[str] = field(default_factory=Counter)
    unsigned: int = 0

    async def take(self, request: web.Request) -> web.Response:
        """Answer with what this system knows of a contact."""
        raw = await request.read()
        if not self._is_signed(request, raw):
            self.unsigned += 1
            return web.json_response({"error": "unsigned"}, status=401)
        self.came[request.headers["webhook-id"]] += 1
        number = len(json.loads(raw)["email"])
        return web.json_response({"orders": number, "total": number * 12.5})

    def _is_signed(self, request: web.Request, raw: bytes) -> bool:
        # Not by Webhook.verify: the demo's clock runs ahead, and that allows five minutes.
        id_ = request.headers.get("webhook-id", "")
        at = datetime.fromtimestamp(int(request.headers.get("webhook-timestamp", "0")), UTC)
        wanted = Webhook(self.secret).sign(id_, at, raw.decode())
        return wanted in request.headers.get("webhook-signature", "").split(" ")


@dataclass
class Outside:
    """All of them."""

    phones: Twilio
    page: Graph
    office: PostOffice
    customer: Customer = field(default_factory=Customer)
    people: list[Person] = field(default_factory=list)
    scenes: Scenes | None = None

    def app(self) -> web.Application:
        """Build the application of the customer's system and of the control."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/orders", self.customer.take)
        app.router.add_post("/people", self._know_people)
        app.router.add_post("/scenes/{name}", self._play)
        app.router.add_post("/quiet", self._be_quiet)
        app.router.add_get("/counts", self._count)
        return app

    async def _know_people(self, request: web.Request) -> web.Response:
        given = await request.json()
        self.people = from_json(given["people"])
        setting = Setting(**given["setting"])
        self.customer.secret = setting.webhook_secret
        self.page.webhook = setting.messenger_webhook
        for person in self.people:
            if person.mailbox == "gone":
                self.office.of_recipient[person.email] = NO_SUCH_USER
            if person.is_landline:
                self.phones.fates[person.phone] = _LANDLINE
            self.phones.answers[person.phone] = _answers(person)
        self.scenes = Scenes(self.phones, self.page, self.office, self.people, setting)
        if given["answers_at_once"]:
            self.phones.on_delivered = self.scenes.answer_at_once
        return web.Response(status=204)

    async def _play(self, request: web.Request) -> web.Response:
        assert self.scenes is not None, "nobody is known yet"
        return web.json_response(await self.scenes.play(request.match_info["name"]))

    async def _be_quiet(self, _request: web.Request) -> web.Response:
        await self.phones.is_quiet()
        return web.Response(status=204)

    async def _count(self, _request: web.Request) -> web.Response:
        wrong = [t for t in self.phones.webhooks.told if t.status >= 400]
        counts = {
            "mails": self._mails(),
            "refused_mails": self.office.refusals["550"],
            "texts": Counter(_first_word(message.body) for message in self.phones.messages),
            "calls": len(self.phones.calls),
            "played": sum(bool(call.played) for call in self.phones.calls),
            "connected": sum(bool(call.dialled) for call in self.phones.calls),
            "messages": len(self.page.messages),
            "webhooks": len(self.customer.came),
            "webhooks_again": self.customer.came.total() - len(self.customer.came),
            "refused": len(self.phones.refused) + len(self.page.refused) + self.customer.unsigned,
            "callbacks_refused": [asdict(told) for told in wrong[:3]],
        }
        return web.json_response(counts)

    def _mails(self) -> Counter[str]:
        """How many mails came, by the first word of their subject."""
        found = (_SUBJECT.search(mail.content) for mail in self.office.mails)
        return Counter(_first_word(match[1].decode()) for match in found if match)


def _first_word(text: str) -> str:
    """A subject's may be encoded (RFC 2047), where a name in it is not ASCII."""
    return str(make_header(decode_header(text))).split()[0].rstrip(":")


def _answers(person: Person) -> list[Answer]:
    match person.picks:
        case "busy first":
            return [Answer("busy"), Answer()]
        case "nobody":
            return [Answer("no-answer")]
        case "machine":
            return [Answer(answered_by="machine_end_beep")]
        case "person":
            return [Answer()]


@asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with twilio() as phones, graph() as page, post_office() as office:
        outside = Outside(phones, page, office)
        async with _serving(outside.app()) as url:
            addresses: dict[str, Any] = {
                "twilio": phones.url,
                "graph": page.url,
                "smtp_port": office.port,
                "control": url,
            }
            sys.stdout.write(f"{json.dumps(addresses)}\n")
            sys.stdout.flush()
            await stop.wait()
            if outside.scenes is not None:
                await outside.scenes.close()


if __name__ == "__main__":
    uvloop.run(_main())
