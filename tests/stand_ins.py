"""Stand-ins: action types whose performance a test writes, and a counterpart that it scripts.

The action stands under the name of one of the 24 types, since the schema knows no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import aiohttp
from aiohttp import web

import actors
from actors.fields import Config, MergeText, PlainText
from runtime.effect import Effect, Result, Sent
from runtime.failures import Failure, Kind
from runtime.operations import OperationType
from runtime.outcomes import Dispatch, EffectRequest, Outcome
from runtime.registry import ActionType, EffectType, Performance, Registry, TimerType
from runtime.stage import Item, Stage
from tests.world import World


class Part(Config):
    """A config of one line, with merge fields."""

    line: MergeText = ""


class Calls(Config):
    """Effects that a step asks for: one for each name in `calls`."""

    calls: tuple[PlainText, ...] = ("call",)
    channel: PlainText | None = None
    address: MergeText | None = None
    integration_id: UUID | None = None
    gates: bool = True
    key: MergeText | None = None


def registry_with(
    *actions: ActionType,
    effects: Sequence[EffectType] = (),
    timers: Sequence[TimerType] = (),
    operations: Sequence[OperationType] = (),
) -> Registry:
    """The real registry with these types in it or instead."""
    return Registry(
        actions={**actors.registry.actions, **{a.name: a for a in actions}},
        effects={**actors.registry.effects, **{e.kind: e for e in effects}},
        timers={**actors.registry.timers, **{t.kind: t for t in timers}},
        operations={**actors.registry.operations, **{o.kind: o for o in operations}},
    )


def acting(perform: Performance, name: str = "custom_code", **options: Any) -> ActionType:
    """An inward action type that performs like this; by default it is fused with CRM actions."""
    return ActionType(name=name, family="crm", config=Part, perform=perform, **options)


def each(act: Callable[[Item], Outcome]) -> Performance:
    """A performance that acts on one item at a time."""

    async def perform(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        return [act(item) for item in items]

    return perform


async def call_out(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Ask for the configured effects of the kind test.call."""
    outcomes = []
    for item in items:
        config = item.config
        assert isinstance(config, Calls)
        requests = [
            EffectRequest(
                kind="test.call",
                request={"name": name},
                integration_id=config.integration_id,
                channel=config.channel,
                address=item.values["address"],
                idempotency_key=item.values["key"],
                gates_step=config.gates,
            )
            for name in config.calls
        ]
        outcomes.append(Dispatch(requests))
    return outcomes


WorldWith = Callable[..., Awaitable[World]]
"""What the fixture `world_with` gives: `world_with(registry, batch_size=2)`."""

Answer = tuple[int, Mapping[str, Any], Mapping[str, str]]


def answer(status: int = 200, body: Mapping[str, Any] | None = None, **headers: str) -> Answer:
    """An answer of the counterpart; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, body or {"ok": status < 300}, named


@dataclass
class Counterpart:
    """The other side of calls, on loopback: remembers what came and answers as scripted.

    `script` is used up first, call by call; then every call gets `always`. Calls whose name is
    in `hanging` get no answer until `let_go` is set.
    """

    url: str = ""
    came: list[tuple[str, str]] = field(default_factory=list)
    script: list[Answer] = field(default_factory=list)
    always: Answer = field(default_factory=answer)
    hanging: set[str] = field(default_factory=set)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    when_called: Callable[[], Awaitable[object]] | None = None
    session: aiohttp.ClientSession | None = None

    @property
    def names(self) -> list[str]:
        """The names of the calls that came."""
        return [name for name, _ in self.came]

    @property
    def keys(self) -> Counter[str]:
        """How often each idempotency key came."""
        return Counter(key for _, key in self.came)

    async def has_come(self, count: int) -> None:
        """Wait until so many calls have come."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.came) >= count)

    async def take_call(self, request: web.Request) -> web.Response:
        """Remember a call and answer it."""
        name = (await request.json())["name"]
        self.came.append((name, request.headers["Idempotency-Key"]))
        async with self._arrival:
            self._arrival.notify_all()
        if self.when_called is not None:
            await self.when_called()
        if name in self.hanging:
            await self.let_go.wait()
        status, body, headers = self.script.pop(0) if self.script else self.always
        return web.json_response(body, status=status, headers=headers)

    async def send(self, effect: Effect, _tools: object) -> Result:
        """Make the call, as the effect type test.call does."""
        assert self.session is not None
        headers = {"Idempotency-Key": effect.idempotency_key}
        async with self.session.post(self.url, json=effect.request, headers=headers) as reply:
            return _result(reply.status, await reply.json(), reply.headers)

    def effect(
        self, on_unknown: Literal["repeat", "fail"] = "repeat", **options: Any
    ) -> EffectType:
        """The effect type that calls this counterpart."""
        return EffectType(
            kind="test.call", family="webhook", send=self.send, on_unknown=on_unknown, **options
        )

    def registry(self, effect: EffectType | None = None) -> Registry:
        """The real registry, in which webhook_call calls this counterpart."""
        action = ActionType(name="webhook_call", family="webhook", config=Calls, perform=call_out)
        return registry_with(action, effects=[effect or self.effect()])


KINDS = {401: Kind.AUTHENTICATION, 408: Kind.NETWORK_TIMEOUT, 503: Kind.SERVICE_UNAVAILABLE}


def _result(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Result:
    if status < 300:
        return Sent(body)
    asked = headers.get("Retry-After")
    failure = Failure(KINDS.get(status, Kind.REFUSED), f"http_{status}", f"answered {status}")
    if status == 429:
        failure = replace(failure, kind=Kind.RATE_LIMIT)
    return replace(failure, retry_after=timedelta(seconds=int(asked)) if asked else None)


async def blocked_or_done(world: World, task: asyncio.Future[Any]) -> None:
    """Wait until a task has ended or one of this database's connections waits for a lock."""
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    while not (task.done() or await world.pool.fetchval(waiting)):
        pass


@asynccontextmanager
async def counterpart() -> AsyncIterator[Counterpart]:
    """Serve a counterpart on a free port of loopback."""
    side = Counterpart()
    app = web.Application()
    app.router.add_post("/call", side.take_call)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    side.url = f"http://{host}:{port}/call"
    async with aiohttp.ClientSession() as side.session:
        yield side
    side.let_go.set()
    await runner.cleanup()
