"""The API in the test's own process, spoken to over HTTP by callers of several accounts."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import asyncpg
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from actors import registry as all_actions
from api.calls import Call
from api.server import create_app
from api.tokens import create_for
from runtime.database import Connection
from runtime.registry import Registry
from runtime.settings import Settings
from tests.contract import Contract

READY = {"tag_name": "vip"}
"""A complete config of add_tag."""


@dataclass
class Answer:
    """A response, read."""

    status: int
    headers: Mapping[str, str]
    data: Any

    @property
    def code(self) -> str:
        """The problem's code."""
        code: str = self.data["code"]
        return code

    @property
    def faults(self) -> list[tuple[str, str]]:
        """The problem's wrong fields: path and code."""
        return [(fault["path"], fault["code"]) for fault in self.data.get("errors", [])]


@dataclass
class Caller:
    """Somebody who calls the API with a token (or without one)."""

    client: TestClient[Any, Any]
    token: str | None

    async def call(self, method: str, path: str, json_body: Any = None, **more: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= more.pop("headers", {})
        if json_body is not None:
            more["data"] = io.BytesIO(json.dumps(json_body).encode())  # bytes warn from 1 MiB on
            headers.setdefault("Content-Type", "application/json")
        response = await self.client.request(method, path, headers=headers, **more)
        return await _read(response)

    async def get(self, path: str, **query: str) -> Any:
        return await self._ok("GET", path, params=query)

    async def post(self, path: str, body: Any = None) -> Any:
        return await self._ok("POST", path, body)

    async def put(self, path: str, body: Any) -> Any:
        return await self._ok("PUT", path, body)

    async def delete(self, path: str) -> None:
        await self._ok("DELETE", path)

    async def _ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        answer = await self.call(method, path, body, **more)
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.data}"
        return answer.data

    async def refused(self, method: str, path: str, body: Any = None) -> Answer:
        """Call for a Problem."""
        answer = await self.call(method, path, body)
        assert 400 <= answer.status < 500, f"{method} {path}: {answer.status} {answer.data}"
        return answer

    async def workflow(self, *configs: Any, name: str = "Welcome") -> str:
        """Make a draft of add_tag actions with these configs; gives its path."""
        made = await self.post("/api/v1/workflows", {"name": name})
        path = f"/api/v1/workflows/{made['id']}"
        for config in configs:
            body = {"action_type": "add_tag", "action_config": config}
            await self.post(f"{path}/actions", body)
        return path

    async def chain(self, path: str) -> list[dict[str, Any]]:
        """The workflow's actions."""
        items: list[dict[str, Any]] = (await self.get(f"{path}/actions"))["items"]
        return items


async def _read(response: ClientResponse) -> Answer:
    raw = await response.read()
    is_json = response.content_type.endswith("json")
    if response.status >= 400 and response.method != "HEAD":
        assert response.content_type == "application/problem+json"
    data = json.loads(raw) if raw and is_json else raw
    return Answer(response.status, response.headers, data)


@dataclass
class Desk:
    """The API, its database, and what it rang."""

    client: TestClient[Any, Any]
    pool: asyncpg.Pool
    rung: list[str] = field(default_factory=list)

    async def caller(self, account: str = "Acme", role: str = "admin") -> Caller:
        """Somebody with this role in the account of this name."""
        async with self.pool.acquire() as db:
            return Caller(self.client, await create_for(db, account, role, "test"))

    def stranger(self, token: str | None = None) -> Caller:
        """Somebody without a token, or with this one."""
        return Caller(self.client, token)


_HOLDS_CONNECTION: ContextVar[bool] = ContextVar("holds_connection", default=False)


@contextmanager
def second_connections_refused() -> Iterator[None]:
    """Fail where a request asks for a connection while it holds one; see Call.transaction."""
    name = "_acquire"  # what all of a pool's methods go through
    acquire, transaction = getattr(asyncpg.Pool, name), Call.transaction

    async def acquired(pool: asyncpg.Pool, *arguments: Any) -> Any:
        assert not _HOLDS_CONNECTION.get(), "a second connection inside a transaction"
        return await acquire(pool, *arguments)

    @asynccontextmanager
    async def held(call: Call) -> AsyncIterator[Connection]:
        async with transaction(call) as db:
            before = _HOLDS_CONNECTION.set(True)
            try:
                yield db
            finally:
                _HOLDS_CONNECTION.reset(before)

    with patch.object(asyncpg.Pool, name, acquired), patch.object(Call, "transaction", held):
        yield


@asynccontextmanager
async def open_desk(
    pool: asyncpg.Pool, settings: Settings, registry: Registry = all_actions
) -> AsyncIterator[Desk]:
    """Serve the API on a free port inside the block; all it answers must be declared."""
    rung: list[str] = []

    async def ring(families: Iterable[str]) -> None:
        rung.extend(families)

    app = create_app(pool, registry, settings, ring)
    contract = Contract()
    contract.watch(app)
    with second_connections_refused():
        async with TestClient(TestServer(app)) as client:
            yield Desk(client, pool, rung)
    contract.assert_kept()
