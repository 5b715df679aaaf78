"""A call: one request with its caller and what handlers may use. The way into every handler."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web

from api.access import Caller, Permission, require
from api.answers import encode
from api.bodies import LARGEST_BODY, Body, BodyModel, keep_body, read_body
from api.credentials import Gate
from api.idempotency import Attempt, fingerprint, key_of, once
from api.parameters import Parameters, ParametersModel, read_parameters
from api.problems import not_found
from api.request_keys import LIMITS, REQUEST_ID
from runtime import log
from runtime.database import Connection
from runtime.house import House
from runtime.link_keys import LinkKeys
from runtime.redaction import redacted
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.versions import Versions
from sql import load

logger = log.get(__name__)
audit = load("audit")

Ring = Callable[[Iterable[str]], Awaitable[None]]
"""Rings families that have ready work."""

RingEvents = Callable[[], Awaitable[None]]
"""Rings for domain events that are to be handed on."""

RingOperations = Callable[[], Awaitable[None]]
"""Rings for operations that wait for a worker."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Services:
    """What all calls of one application share."""

    pool: asyncpg.Pool
    registry: Registry
    settings: Settings
    ring: Ring
    ring_events: RingEvents
    ring_operations: RingOperations
    versions: Versions
    house: House
    gate: Gate
    turns: asyncio.Semaphore
    """As many as the pool has connections; see `turns_at`."""


def turns_at(pool: asyncpg.Pool) -> asyncio.Semaphore:
    """Make the queue in which requests wait for a connection, first come first served.

    The pool's own queue is none: whoever gives a connection back and asks for one again, as every
    request does between the look at its token and its transaction, overtakes all who wait. With
    50 clients that made the slowest hundredth five times as slow as the middle.
    """
    return asyncio.Semaphore(pool.get_max_size())


SERVICES = web.AppKey("services", Services)
LINK_KEYS = web.AppKey("link_keys", LinkKeys)


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a known caller. Everything raises Problems for what the client got wrong."""

    request: web.Request
    caller: Caller
    services: Services
    route: Route
    attempt: Attempt | None = None

    @property
    def account_id(self) -> UUID:
        """The account that this call may see."""
        return self.caller.account_id

    @property
    def pool(self) -> asyncpg.Pool:
        """The pool, for reading outside a transaction."""
        return self.services.pool

    def id(self, name: str) -> UUID:
        """Read an id of the path, {workflow_id}; what is no UUID cannot exist: 404."""
        text = self.request.match_info[name]
        if not _UUID.fullmatch(text):
            raise not_found(name.removesuffix("_id"))
        return UUID(text)

    async def body(self, model: type[BodyModel], largest: int = LARGEST_BODY) -> BodyModel:
        """Read the body, as the model that the route declares."""
        assert model is self.route.body, f"{self.route.path} declares another body"
        return await read_body(self.request, model, largest)

    def parameters(self, model: type[ParametersModel]) -> ParametersModel:
        """Read the query string, as the model that the route declares."""
        assert model is self.route.parameters, f"{self.route.path} declares other parameters"
        return read_parameters(self.request, model)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction, committed at the end and rolled back by a raise.

        Who has it must not ask the pool for a second one: as many such requests as there are
        connections would wait for each other. Tests refuse it on every route.
        Under an Idempotency-Key the first one's commit is what happens once.
        """
        async with self.services.turns, self.pool.acquire() as db, db.transaction():
            if self.attempt is not None:
                await self.attempt.mark(db)
            yield db
        if self.attempt is not None:
            self.attempt.is_committed = True

    async def ring(
        self, families: Iterable[str] = (), *, events: bool = False, operations: bool = False
    ) -> None:
        """Ring after the commit. A bell that fails costs seconds, not the answer: see DESIGN 1."""
        try:
            await self.services.ring(families)
            if events:
                await self.services.ring_events()
            if operations:
                await self.services.ring_operations()
        except Exception:  # whatever it is, the work is committed
            logger.warning("api.ring_failed", exc_info=True)

    async def record(
        self, db: Connection, change: str, entity: tuple[str, UUID], before: Any, after: Any
    ) -> None:
        """Write to the audit log, without secrets, in the transaction of the change itself."""
        await db.execute(audit.record, *self.change(change, entity, before, after))

    def change(
        self, change: str, entity: tuple[str, UUID], before: Any, after: Any
    ) -> tuple[Any, ...]:
        """Give the arguments of the SQL function record_change, without secrets."""
        texts = [
            None if shown is None else encode(redacted(shown)).decode() for shown in (before, after)
        ]
        caller = self.caller
        who = (caller.account_id, caller.user_id, caller.token_id, caller.jwt_id)
        return (*who, self.request[REQUEST_ID], change, *entity, *texts)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API: who answers it, who may ask, and its contract.

    The contract is what the OpenAPI document says, and `Call` holds handlers to it: the models of
    body and query string, and what each status of success shows (a model or any type that
    pydantic can describe; None: no content); `upload` names the media types of a body that is taken
    as it is, such as text/csv. `problems` are the statuses of refusal beyond those
    that follow from the rest (401, 403, 429, 503 everywhere; 404 for a path with ids; 400, 408,
    413, 415 and 422 for a body; 422 for a query string). The handler's docstring is the
    operation's description.
    """

    method: str
    path: str
    handler: Handler
    permission: Permission
    body: type[Body] | None = None
    parameters: type[Parameters] | None = None
    answers: Mapping[int, Any] = field(default_factory=lambda: {200: Any})
    problems: frozenset[int] = frozenset()
    upload: tuple[str, ...] = ()
    body_is_optional: bool = False
    keeps_answer: bool = True
    """Whether the answer may be kept under an Idempotency-Key: not if it holds a secret."""

    @property
    def refusals(self) -> frozenset[int]:
        """Every status with which the operation may be refused."""
        found = {401, 403, 429, 503} | self.problems
        if self.method == "POST":
            found |= {400, 408, 409, 413, 422}  # of an Idempotency-Key, for which a body is read
        if "{" in self.path:
            found.add(404)
        if self.body or self.upload:
            found |= {400, 408, 413, 415, 422}
        if self.upload and self.method == "POST":
            found.add(411)
        if self.parameters:
            found.add(422)
        if self.method != "GET":  # If-Match
            found |= {400, 412}
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """An operation without a bearer token, for providers and for people who got a message.

    The handler itself proves who asks: by the provider's signature or by the signed token in the
    path. It belongs to no account until then. With `answers` it is part of the OpenAPI document.
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    answers: Mapping[int, Any] = field(default_factory=dict)
    problems: frozenset[int] = frozenset()

    @property
    def refusals(self) -> frozenset[int]:
        """Every status with which the operation may be refused."""
        return self.problems


def add_routes(app: web.Application, routes: Iterable[Route | PublicRoute]) -> None:
    """Put routes into an application. Only public ones lead past the caller's identity."""
    told = tuple(routes)
    for route in told:
        enter = _enter(route) if isinstance(route, Route) else route.handler
        app.router.add_route(route.method, _apart(route.path, told), enter)


def _apart(path: str, routes: Iterable[Route | PublicRoute]) -> str:
    """Keep the last variable part of a path from matching the words that stand in its place.

    Otherwise PUT …/actions/reorder would be taken for the action named reorder instead of being
    refused with the methods that …/actions/reorder has.
    """
    place, variable = path.rsplit("/", 1)
    if not re.fullmatch(r"\{\w+\}", variable):
        return path
    beside = [route.path.rsplit("/", 1) for route in routes]
    words = sorted({word for other, word in beside if other == place and word.isidentifier()})
    return f"{place}/{{{variable[1:-1]}:(?!(?:{'|'.join(words)})$)[^{{}}/]+}}" if words else path


def _enter(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def enter(request: web.Request) -> web.StreamResponse:
        services = request.app[SERVICES]
        caller = await services.gate.identify(request)
        request[LIMITS] = services.gate.admit(caller)  # for the answer, a Problem too
        require(caller, route.permission)
        return await _perform(route, Call(request, caller, services, route))

    return enter


async def _perform(route: Route, call: Call) -> web.StreamResponse:
    key = key_of(call.request) if route.method == "POST" else None
    if key is None:
        return await route.handler(call)
    body = None if route.upload else await keep_body(call.request)
    return await once(
        call.pool,
        call.caller,
        call.request,
        fingerprint(call.request, body),
        lambda attempt: route.handler(replace(call, attempt=attempt)),
        key=key,
        keeps_answer=route.keeps_answer,
        hours=call.services.settings.idempotency_hours,
    )
