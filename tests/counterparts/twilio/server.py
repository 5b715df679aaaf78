"""A stateful fake of Twilio that speaks its protocol: messages, calls, callbacks, replies.

It refuses what Twilio's own OpenAPI document refuses, and what Twilio refuses beyond that (a
message without sender or content). Used by tests in their own process, by the demo and, in a
process of its own, by the benchmarks: `python -m tests.counterparts.twilio`.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from typing import Any, Final

from aiohttp import web
from multidict import MultiMapping

from tests.counterparts.twilio.document import ROOT, complaints_of_form
from tests.counterparts.twilio.phone import Call, Phone
from tests.counterparts.twilio.script import (
    Answer,
    Callbacks,
    Delay,
    Drop,
    Fate,
    Hang,
    Misbehaviour,
    Refuse,
)
from tests.counterparts.twilio.webhooks import Told, Webhooks, text_params

ACCOUNT_SID: Final = f"AC{'a' * 32}"
AUTH_TOKEN: Final = "the auth token of the fake"  # no secret: of a fake on loopback

_MANY: Final = frozenset({"MediaUrl", "StatusCallbackEvent"})


@dataclass
class Message:
    """A message that was accepted."""

    sid: str
    form: Mapping[str, Any]
    status: str = "queued"
    error_code: int | None = None

    @property
    def to(self) -> str:
        """Who gets it."""
        return str(self.form["To"])

    @property
    def body(self) -> str:
        """What it says."""
        return str(self.form.get("Body", ""))


@dataclass
class Twilio:
    """The fake: what it was asked for, and how it is to behave."""

    url: str = ""
    messages: list[Message] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    refused: list[tuple[int, int]] = field(default_factory=list)
    """Status and code of every request that was refused."""
    script: list[Misbehaviour] = field(default_factory=list)
    """For the requests to come, one each; a request that the document refuses takes none."""
    always: Misbehaviour | None = None
    fates: dict[str, Fate] = field(default_factory=dict)
    """By number; others get `fate`."""
    fate: Fate = field(default_factory=Fate)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """Who picks up, by number, call after call; the last one stays."""
    callbacks: Callbacks = field(default_factory=Callbacks)
    webhooks: Webhooks = field(default_factory=lambda: Webhooks(AUTH_TOKEN))
    account_sid: str = ACCOUNT_SID
    auth_token: str = AUTH_TOKEN
    on_delivered: Callable[[Message], Awaitable[None]] | None = None
    """What happens once all has been reported of a message."""
    arrivals: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    delayed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to let go what hangs, and to answer what was delayed."""
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _numbers: Any = field(default_factory=lambda: count(1))

    # What tests and the demo do with it

    async def has_come(self, arrivals: int) -> None:
        """Wait until so many requests to make something have come, whatever became of them."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: self.arrivals >= arrivals)

    async def is_quiet(self) -> None:
        """Wait until every callback was sent and every call has ended; raises what they raised."""
        while self._tasks:
            await asyncio.gather(*list(self._tasks))

    async def text(
        self,
        url: str,
        from_: str,
        to: str,
        body: str,
        *,
        media: Sequence[str] = (),
        sid: str = "",
    ) -> Told:
        """Let a person text one of the account's numbers, whose webhook is at `url`."""
        params: dict[str, Any] = {
            "AccountSid": self.account_sid,
            "MessageSid": sid or self._sid("MM" if media else "SM"),
            "SmsStatus": "received",
            "From": from_,
            "To": to,
            "Body": body,
            "NumMedia": len(media),
            "NumSegments": 1,
        }
        for number, link in enumerate(media):
            params |= {f"MediaUrl{number}": link, f"MediaContentType{number}": "image/png"}
        return await self.webhooks.post(url, text_params(params))

    async def report(self, message: Message, status: str, error_code: int | None = None) -> Told:
        """Send one status callback of a message."""
        params = {
            "AccountSid": self.account_sid,
            "MessageSid": message.sid,
            "SmsSid": message.sid,
            "MessageStatus": status,
            "SmsStatus": status,
            "From": message.form.get("From"),
            "To": message.to,
            "ErrorCode": error_code,
        }
        return await self.webhooks.post(message.form["StatusCallback"], text_params(params))

    # The API

    def app(self) -> web.Application:
        """Build the application."""
        app = web.Application()
        root = ROOT.replace("{AccountSid}", "{account_sid}")
        app.router.add_post(f"{root}/Messages.json", self._create_message)
        app.router.add_get(f"{root}/Messages/{{sid}}.json", self._show_message)
        app.router.add_post(f"{root}/Calls.json", self._create_call)
        app.router.add_get(f"{root}/Calls/{{sid}}.json", self._show_call)
        app.router.add_get("/2010-04-01/Accounts/{account_sid}.json", self._show_account)
        app.router.add_get("/counts", self._count)
        return app

    async def _create_message(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if problem := await self._refusal(request, "/Messages.json", form):
            return problem
        if not form.keys() & {"From", "MessagingServiceSid"}:
            return self._refuse(Refuse(400, 21603, "A 'From' phone number is required."))
        if not form.keys() & {"Body", "MediaUrl", "ContentSid"}:
            return self._refuse(Refuse(400, 21602, "Message body is required."))
        if len(str(form.get("Body", ""))) > 1600:
            return self._refuse(Refuse(400, 21617, "The message body exceeds 1600 characters."))
        misbehaviour = await self._misbehave()
        if isinstance(misbehaviour, Refuse):
            return self._refuse(misbehaviour)
        message = Message(self._sid("MM" if "MediaUrl" in form else "SM"), _plain(form))
        self.messages.append(message)
        if self.callbacks.come_early:
            await self._deliver(message)
        else:
            self._begin(self._deliver(message))
        if isinstance(misbehaviour, Drop):
            return _drop(request)
        if isinstance(misbehaviour, Delay):
            await self.delayed.wait()
        return web.json_response(self.shown_message(message), status=201)

    async def _create_call(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        if problem := await self._refusal(request, "/Calls.json", form):
            return problem
        if not form.keys() & {"Url", "Twiml", "ApplicationSid"}:
            return self._refuse(Refuse(400, 21205, "Url parameter is required."))
        misbehaviour = await self._misbehave()
        if isinstance(misbehaviour, Refuse):
            return self._refuse(misbehaviour)
        answers = self.answers.get(str(form["To"]), [Answer()])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        call = Call(self._sid("CA"), _plain(form), answer)
        self.calls.append(call)
        phone = Phone(self.account_sid, self.webhooks)
        if self.callbacks.come_early:
            await phone.ring(call)
        elif self.callbacks.are_sent:
            self._begin(phone.ring(call))
        if isinstance(misbehaviour, Drop):
            return _drop(request)
        if isinstance(misbehaviour, Delay):
            await self.delayed.wait()
        return web.json_response(self.shown_call(call), status=201)

    async def _refusal(
        self, request: web.Request, path: str, form: MultiMapping[Any]
    ) -> web.Response | None:
        self.arrivals += 1
        async with self._arrival:
            self._arrival.notify_all()
        if not self._is_known(request):
            return self._refuse(Refuse(401, 20003, "Authenticate"))
        if complaints := complaints_of_form(ROOT + path, form):
            text = "; ".join(f"{c.field}: {c.reason}" for c in complaints)
            code = 21211 if {c.field for c in complaints} == {"To"} and "To" in form else 20001
            return self._refuse(Refuse(400, code, text))
        return None

    def _is_known(self, request: web.Request) -> bool:
        if request.match_info["account_sid"] != self.account_sid:
            return False
        wanted = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        return hmac.compare_digest(request.headers.get("Authorization", ""), f"Basic {wanted}")

    async def _misbehave(self) -> Misbehaviour | None:
        scripted = self.script.pop(0) if self.script else self.always
        if isinstance(scripted, Hang):
            await self.let_go.wait()
            return Refuse(503, None, "was asked to hang")
        return scripted

    def _refuse(self, refuse: Refuse) -> web.Response:
        code = refuse.code or (20000 + refuse.status)
        self.refused.append((refuse.status, code))
        headers = {} if refuse.retry_after is None else {"Retry-After": str(refuse.retry_after)}
        body = {
            "code": code,
            "message": refuse.message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": refuse.status,
        }
        return web.json_response(body, status=refuse.status, headers=headers)

    async def _deliver(self, message: Message) -> None:
        fate = self.fates.get(message.to, self.fate)
        message.status, message.error_code = fate.statuses[-1], fate.error_code
        if not self.callbacks.are_sent or "StatusCallback" not in message.form:
            return
        reports = list(fate.statuses) * self.callbacks.times
        if self.callbacks.are_reversed:
            reports.reverse()
        for status in reports:
            is_bad = status in ("undelivered", "failed")
            await self.report(message, status, fate.error_code if is_bad else None)
        if self.on_delivered is not None:
            await self.on_delivered(message)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sid(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):032x}"

    async def _show_message(self, request: web.Request) -> web.Response:
        found = [m for m in self.messages if m.sid == request.match_info["sid"]]
        if not self._is_known(request):
            return self._refuse(Refuse(401, 20003, "Authenticate"))
        if not found:
            return self._refuse(Refuse(404, 20404, "The requested resource was not found"))
        return web.json_response(self.shown_message(found[0]))

    async def _show_call(self, request: web.Request) -> web.Response:
        found = [c for c in self.calls if c.sid == request.match_info["sid"]]
        if not self._is_known(request):
            return self._refuse(Refuse(401, 20003, "Authenticate"))
        if not found:
            return self._refuse(Refuse(404, 20404, "The requested resource was not found"))
        return web.json_response(self.shown_call(found[0]))

    async def _show_account(self, request: web.Request) -> web.Response:
        if not self._is_known(request):
            return self._refuse(Refuse(401, 20003, "Authenticate"))
        return web.json_response(
            {"sid": self.account_sid, "friendly_name": "Fake", "status": "active", "type": "Full"}
        )

    async def _count(self, _request: web.Request) -> web.Response:
        counts = {"messages": len(self.messages), "calls": len(self.calls)}
        numbers = len({message.to for message in self.messages})
        return web.json_response({**counts, "numbers": numbers, "refused": len(self.refused)})

    def shown_message(self, message: Message) -> dict[str, Any]:
        """Show a message as the API does."""
        media = message.form.get("MediaUrl", [])
        path = f"/2010-04-01/Accounts/{self.account_sid}/Messages/{message.sid}"
        now = formatdate()
        return {
            "account_sid": self.account_sid,
            "api_version": "2010-04-01",
            "body": message.body,
            "date_created": now,
            "date_sent": None,
            "date_updated": now,
            "direction": "outbound-api",
            "error_code": message.error_code if message.status != "queued" else None,
            "error_message": None,
            "from": message.form.get("From"),
            "messaging_service_sid": message.form.get("MessagingServiceSid"),
            "num_media": str(len(media)),
            "num_segments": str(segments(message.body)),
            "price": None,
            "price_unit": "USD",
            "sid": message.sid,
            "status": "queued",
            "subresource_uris": {"media": f"{path}/Media.json"},
            "to": message.to,
            "uri": f"{path}.json",
        }

    def shown_call(self, call: Call) -> dict[str, Any]:
        """Show a call as the API does."""
        now = formatdate()
        return {
            "account_sid": self.account_sid,
            "annotation": None,
            "answered_by": None,
            "api_version": "2010-04-01",
            "date_created": now,
            "date_updated": now,
            "direction": "outbound-api",
            "duration": None,
            "from": call.form["From"],
            "parent_call_sid": None,
            "sid": call.sid,
            "status": call.status,
            "to": call.to,
            "uri": f"/2010-04-01/Accounts/{self.account_sid}/Calls/{call.sid}.json",
        }


def segments(body: str) -> int:
    """Count segments as a carrier does that knows no GSM-7: a check that is independent of ours."""
    units = len(body.encode("utf-16-be")) // 2
    if body.isascii():
        return 1 if units <= 160 else -(-units // 153)
    return 1 if units <= 70 else -(-units // 67)


def _plain(form: MultiMapping[Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in dict.fromkeys(form):
        plain[name] = form.getall(name) if name in _MANY else form[name]
    if "Record" in plain:
        plain["Record"] = plain["Record"].lower() == "true"
    return plain


def _drop(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@asynccontextmanager
async def twilio(port: int = 0) -> AsyncIterator[Twilio]:
    """Serve a fake Twilio on a free port of loopback."""
    fake = Twilio()
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
        for task in list(fake._tasks):
            task.cancel()
        await runner.cleanup()
        await fake.webhooks.close()
