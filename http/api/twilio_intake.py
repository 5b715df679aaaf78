"""Requests of Twilio: proved by their signature, bounded in number and size, read as forms.

What is signed is the address as Twilio knows it: CALLBOARD_PUBLIC_URL and the path, whatever Host a
proxy has put in. An unknown integration is refused like a wrong signature, so that nothing can be
learnt from the difference.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar
from uuid import UUID

import asyncpg
from aiohttp import web
from multidict import MultiMapping
from twilio.request_validator import RequestValidator

from actors.call_reports import take_provider_reports
from actors.integrations import Integration, Integrations
from api.calls import SERVICES
from api.gathering import FullError, Gathering
from api.problems import Problem, not_found
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.deliveries import Report, Reported
from runtime.performing import TRANSIENT

LARGEST_FORM: Final = 64 << 10
READ_SECONDS: Final = 10.0
MOST_AT_ONCE: Final = 4
"""Transactions of callbacks at once, of the connections that all requests share."""
MOST_WAITING: Final = 400
MOST_REPORTS: Final = 200
"""In one transaction."""
TRIES: Final = 3

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Made = TypeVar("Made")

Provider = Literal["twilio", "sendgrid"]


class Intake:
    """What all callbacks of one application share."""

    def __init__(
        self,
        integrations: Integrations,
        pool: asyncpg.Pool,
        ring: Callable[[Bells], Awaitable[None]],
    ) -> None:
        self.integrations = integrations
        self._pool = pool
        self._ring = ring
        self.reports = Gathering(self._take, MOST_REPORTS, MOST_WAITING)
        # Each provider has its own: a body of thousands of events holds up no other's callback.
        self._turns = defaultdict[Provider, asyncio.Semaphore](
            lambda: asyncio.Semaphore(MOST_AT_ONCE)
        )
        self._waiting = Counter[Provider]()

    async def report(self, report: Report) -> Reported:
        """Take a report in, with others that come meanwhile; a 503 Problem when too many wait."""
        try:
            return await self.reports.bring(report)
        except FullError:
            raise _too_many() from None

    async def end(self) -> None:
        """Take in what still waits."""
        await self.reports.end()

    async def _take(self, reports: Sequence[Report]) -> Sequence[Reported]:
        async def take(db: Connection) -> tuple[list[Reported], Bells]:
            return await take_provider_reports(db, reports, await current_instant(db))

        taken, bells = await _transact(self._pool, take)
        await self._ring(bells)
        return taken

    @asynccontextmanager
    async def turn(self, provider: Provider) -> AsyncIterator[None]:
        """Wait for a turn; a 503 Problem when too many of the provider's wait."""
        if self._waiting[provider] >= MOST_WAITING:
            raise _too_many()
        self._waiting[provider] += 1
        try:
            async with self._turns[provider]:
                yield
        finally:
            self._waiting[provider] -= 1


INTAKE = web.AppKey("twilio_intake", Intake)


@dataclass(frozen=True, slots=True)
class Callback:
    """A request that Twilio has signed."""

    request: web.Request
    integration: Integration
    form: MultiMapping[str] = field(repr=False)

    def text(self, name: str, longest: int = 2000) -> str:
        """Read a field; what PostgreSQL cannot store is left out."""
        return str(self.form.get(name, ""))[:longest].replace("\x00", "")

    def token(self, name: str) -> str:
        """Read an identifier or a word; a 422 Problem for anything else."""
        text = self.text(name)
        if not _TOKEN.fullmatch(text):
            raise Problem(422, "field_unusable", f"{name} is missing, or is no identifier.")
        return text

    def number(self, name: str) -> int | None:
        """Read a number; None where there is none."""
        text = self.text(name)
        return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None

    @property
    def effect_id(self) -> UUID:
        """The effect that the path names; a 404 Problem where it is no id."""
        return _id(self.request, "effect_id")

    async def report(self, report: Report) -> None:
        """Take in what is reported; a 404 Problem where there is no such effect."""
        taken = await self.request.app[INTAKE].report(report)
        if taken.effect is None:
            raise not_found("effect")

    async def transact(self, act: Callable[[Connection], Awaitable[Made]]) -> Made:
        """Act in a transaction when it is this callback's turn; a deadlock is tried again."""
        return await transact(self.request, act)


async def transact(request: web.Request, act: Callable[[Connection], Awaitable[Made]]) -> Made:
    """Act in a transaction when it is this request's turn; a deadlock is tried again."""
    async with request.app[INTAKE].turn("twilio"):
        return await _transact(request.app[SERVICES].pool, act)


async def _transact(pool: asyncpg.Pool, act: Callable[[Connection], Awaitable[Made]]) -> Made:
    for left in reversed(range(TRIES)):
        try:
            async with pool.acquire() as db, db.transaction():
                return await act(db)
        except TRANSIENT:
            if not left:
                raise
    raise AssertionError("unreachable")


async def receive(request: web.Request) -> Callback:
    """Read and verify a request of Twilio; a 403 Problem unless it has signed it."""
    if (request.content_length or 0) > LARGEST_FORM:
        raise Problem(413, "body_too_large", f"A callback has {LARGEST_FORM} bytes at most.")
    integration = await request.app[INTAKE].integrations.get(_id(request, "integration_id"))
    signature = request.headers.get("X-Twilio-Signature", "")
    if integration is None or integration.kind != "twilio" or not signature:
        raise _forbidden()
    async with asyncio.timeout(READ_SECONDS):
        form = await request.post()
    url = request.app[SERVICES].house.public_url + request.raw_path
    validator = RequestValidator(integration.secrets["auth_token"])
    if not _is_signed(validator, url, form, signature):
        raise _forbidden()
    return Callback(request, integration, form)  # type: ignore[arg-type]


def _is_signed(
    validator: RequestValidator, url: str, form: MultiMapping[object], signature: str
) -> bool:
    if any(not isinstance(value, str) for value in form.values()):
        return False  # an uploaded file: never of Twilio
    return bool(validator.validate(url, form, signature))


def _id(request: web.Request, name: str) -> UUID:
    text = request.match_info[name]
    if not _UUID.fullmatch(text):
        raise Problem(404, "route_not_found", "There is nothing at this address.")
    return UUID(text)


def _too_many() -> Problem:
    detail = "Too many callbacks at once."
    return Problem(503, "too_many_callbacks", detail, headers={"Retry-After": "5"})


def _forbidden() -> Problem:
    return Problem(403, "signature_invalid", "The request does not bear Twilio's signature.")
