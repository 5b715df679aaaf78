"""A stateful fake of Facebook's Graph API as far as Messenger goes: sends, errors, webhooks.

It refuses what the Send API's reference says that it refuses (tokens, people it does not know, the
24 hours, lengths), answers in the shape of developers.facebook.com/docs/messenger-platform/
error-codes, and calls its customer's webhook, signed over the raw bytes.

Tests and the demo serve it in their own process (`async with graph() as fake`); `python -m
tests.counterparts.graph` does in one of its own and prints its address. `GET /counts` there says
what has arrived: messages, people, refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import aiohttp
from aiohttp import web

PAGE: Final = "1020304050"
TOKEN: Final = "the page token of the fake"  # no secret: of a fake on loopback
APP_SECRET: Final = "the app secret of the fake"
VERIFY_TOKEN: Final = "the verify token of the fake"

_TAGS: Final = frozenset(
    {"CONFIRMED_EVENT_UPDATE", "POST_PURCHASE_UPDATE", "ACCOUNT_UPDATE", "HUMAN_AGENT"}
)
_OUTSIDE: Final = "This message is sent outside of allowed window."


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with an error, as the Graph API words it; nothing is made."""

    status: int = 400
    code: int | None = 100
    subcode: int | None = None
    message: str = "refused"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hang:
    """Take a request and never answer; nothing is made."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Make what was asked for, and drop the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Make what was asked for, and answer when `delayed` is set."""


Misbehaviour = Refuse | Hang | Drop | Delay


@dataclass
class Message:
    """A message that was accepted."""

    mid: str
    page: str
    body: Mapping[str, Any]

    @property
    def to(self) -> str:
        """Who gets it: page and person."""
        return f"{self.page}:{self.body['recipient']['id']}"

    @property
    def content(self) -> dict[str, Any]:
        """The message without its metadata."""
        return {k: v for k, v in self.body["message"].items() if k != "metadata"}


@dataclass
class Graph:
    """The fake: what it was asked for, and how it is to behave."""

    url: str = ""
    page: str = PAGE
    messages: list[Message] = field(default_factory=list)
    refused: list[tuple[int, int | None]] = field(default_factory=list)
    script: list[Misbehaviour] = field(default_factory=list)
    always: Misbehaviour | None = None
    wrote_at: dict[str, datetime] = field(default_factory=dict)
    """When each person last wrote; who is not here is not known to the page."""
    holds_window: bool = False
    """Whether it refuses outside the 24 hours itself, by its own clock `now`."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    webhook: str = ""
    arrivals: int = 0
    told: list[tuple[int, str]] = field(default_factory=list)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    delayed: asyncio.Event = field(default_factory=asyncio.Event)
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    _numbers: Any = field(default_factory=lambda: count(1))
    _session: aiohttp.ClientSession | None = None

    async def has_come(self, arrivals: int) -> None:
        """Wait until so many messages have come, whatever became of them."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: self.arrivals >= arrivals)

    # The API

    def app(self) -> web.Application:
        """Build the application."""
        app = web.Application()
        app.router.add_post("/{version}/{page}/messages", self._send)
        app.router.add_get("/{version}/me", self._show_page)
        app.router.add_get("/counts", self._count)
        return app

    async def _send(self, request: web.Request) -> web.StreamResponse:
        self.arrivals += 1
        async with self._arrival:
            self._arrival.notify_all()
        body = await request.json()
        if refuse := self._refusal(request, body):
            return self._refuse(refuse)
        scripted = self.script.pop(0) if self.script else self.always
        if isinstance(scripted, Hang):
            await self.let_go.wait()
            return self._refuse(Refuse(503, 2, None, "was asked to hang"))
        if isinstance(scripted, Refuse):
            return self._refuse(scripted)
        message = Message(f"m_{next(self._numbers):040d}", self.page, body)
        self.messages.append(message)
        if isinstance(scripted, Drop):
            assert request.transport is not None
            request.transport.abort()
        if isinstance(scripted, Delay):
            await self.delayed.wait()
        said = {"recipient_id": body["recipient"]["id"], "message_id": message.mid}
        return web.json_response(said)

    def _refusal(self, request: web.Request, body: Mapping[str, Any]) -> Refuse | None:
        if not self._is_known(request) or request.match_info["page"] not in (self.page, "me"):
            return Refuse(401, 190, None, "Invalid OAuth access token.")
        psid, message = body.get("recipient", {}).get("id"), body.get("message", {})
        if psid not in self.wrote_at:
            return Refuse(400, 100, 2018001, "No matching user found")
        if not message.get("text") and not message.get("attachment"):
            return Refuse(
                400, 100, None, "Message cannot be empty, must provide text or attachment"
            )
        replies = message.get("quick_replies", [])
        if len(message.get("text", "")) > 2000 or len(replies) > 13:
            return Refuse(400, 100, None, "Length of param message[text] must be at most 2000")
        kind, tag = body.get("messaging_type"), body.get("tag")
        if kind not in ("RESPONSE", "UPDATE", "MESSAGE_TAG"):
            return Refuse(400, 100, None, "Param messaging_type must be one of …")
        if kind == "MESSAGE_TAG" and tag not in _TAGS:
            return Refuse(400, 100, None, "Param tag must be one of …")
        is_late = self.now - self.wrote_at[psid] >= timedelta(hours=24)
        if self.holds_window and is_late and kind != "MESSAGE_TAG":
            return Refuse(403, 10, 2018278, _OUTSIDE)
        return None

    def _is_known(self, request: web.Request) -> bool:
        proof = request.query.get("appsecret_proof")
        wanted = hmac.digest(APP_SECRET.encode(), TOKEN.encode(), hashlib.sha256).hex()
        is_proved = proof is None or hmac.compare_digest(proof, wanted)
        return is_proved and request.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse(self, refuse: Refuse) -> web.Response:
        self.refused.append((refuse.status, refuse.code))
        if refuse.code is None:
            return web.Response(status=refuse.status, headers=refuse.headers, text="<html>")
        error: dict[str, Any] = {
            "message": refuse.message,
            "type": "OAuthException",
            "code": refuse.code,
            "fbtrace_id": "AbCdEfGhIjK",
        }
        if refuse.subcode is not None:
            error["error_subcode"] = refuse.subcode
        body = {"error": error}
        return web.json_response(body, status=refuse.status, headers=refuse.headers)

    async def _show_page(self, request: web.Request) -> web.Response:
        if not self._is_known(request):
            return self._refuse(Refuse(400, 190, None, "Invalid OAuth access token."))
        return web.json_response({"id": self.page})

    async def _count(self, _request: web.Request) -> web.Response:
        people = len({message.to for message in self.messages})
        counts = {"messages": len(self.messages), "people": people}
        return web.json_response({**counts, "refused": len(self.refused)})

    # The webhook

    async def subscribe(self, verify_token: str = VERIFY_TOKEN) -> tuple[int, str]:
        """Ask the webhook whether it is the customer's, as when it is set up."""
        asked = {
            "hub.mode": "subscribe",
            "hub.verify_token": verify_token,
            "hub.challenge": "1158201444",
        }
        async with self._open().get(self.webhook, params=asked) as reply:
            return reply.status, await reply.text()

    async def write(
        self, psid: str, text: str, *, at: datetime | None = None, mid: str = "", **message: Any
    ) -> int:
        """Let a person write to the page."""
        at = at or self.now
        self.wrote_at[psid] = max(at, self.wrote_at.get(psid, at))
        said = {"mid": mid or f"m_in{next(self._numbers)}", "text": text, **message}
        return await self.tell(psid, at=at, message=said)

    async def echo(self, message: Message) -> int:
        """Tell the app what its page has sent."""
        return await self.post(self.items_of(message)[:1])

    async def deliver(self, message: Message) -> int:
        """Tell that a message was delivered."""
        return await self.post(self.items_of(message)[1:2])

    async def read(self, message: Message) -> int:
        """Tell that a person has read everything up to now."""
        return await self.post(self.items_of(message)[2:])

    def items_of(self, message: Message) -> list[dict[str, Any]]:
        """Give what is told of a message: its echo, that it was delivered, that it was read."""
        psid, now = message.body["recipient"]["id"], _ms(self.now)
        said = {**message.body["message"], "is_echo": True, "app_id": 1, "mid": message.mid}
        return [
            {"sender": {"id": self.page}, "recipient": {"id": psid}, "message": said},
            self.item(psid, delivery={"mids": [message.mid], "watermark": now}),
            self.item(psid, read={"watermark": now}),
        ]

    async def tell(self, psid: str, *, at: datetime | None = None, **what: Any) -> int:
        """Tell one event of a person."""
        return await self.post([self.item(psid, at=at, **what)])

    def item(self, psid: str, *, at: datetime | None = None, **what: Any) -> dict[str, Any]:
        """Give what is told of one event of a person."""
        parties = {"sender": {"id": psid}, "recipient": {"id": self.page}}
        return {**parties, "timestamp": _ms(at or self.now), **what}

    async def post(self, items: list[dict[str, Any]], *, secret: str = APP_SECRET) -> int:
        """Call the webhook with these events; gives the status of its answer."""
        entry = {"id": self.page, "time": _ms(self.now), "messaging": items}
        raw = json.dumps({"object": "page", "entry": [entry]}).encode()
        mac = hmac.digest(secret.encode(), raw, hashlib.sha256).hex()
        return await self.post_as(raw, {"X-Hub-Signature-256": f"sha256={mac}"})

    async def post_as(self, raw: bytes, headers: Mapping[str, str]) -> int:
        """Call the webhook with these bytes and headers, as a stranger would."""
        given = {"Content-Type": "application/json", **headers}
        async with self._open().post(self.webhook, data=raw, headers=given) as reply:
            self.told.append((reply.status, await reply.text()))
            return reply.status

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self._session

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


@asynccontextmanager
async def graph(port: int = 0) -> AsyncIterator[Graph]:
    """Serve a fake Graph API on a free port of loopback."""
    fake = Graph()
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    host, free_port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{free_port}"
    try:
        yield fake
    finally:
        fake.let_go.set()
        fake.delayed.set()
        await runner.cleanup()
        await fake.close()
