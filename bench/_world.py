"""What benchmarks run in: a scratch database, an account with contacts, a workflow."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
from uuid_utils.compat import uuid7

from actors import registry
from runtime.activation import activate
from runtime.clock import current_instant
from runtime.database import create_pool, resolve_dsn
from runtime.definitions import CompiledVersion
from runtime.settings import Settings
from runtime.versions import Versions
from sql import Queries
from sql.migrate import migrate

queries = Queries(Path(__file__).with_name("_world.sql"))

_SEEDED = (
    "contacts, contact_tags, workflow_executions, workflow_action_executions, "
    "workflow_action_attempts"
)

Action = tuple[str, dict[str, Any]]
"""An action's type and its config."""


@dataclass(frozen=True, slots=True)
class World:
    """An account with one user and some contacts, in a database of its own."""

    dsn: str
    settings: Settings
    pool: asyncpg.Pool
    account_id: UUID
    user_id: UUID
    contact_ids: Sequence[UUID]

    @property
    def wake_bucket(self) -> timedelta:
        """How wide the buckets of wake-ups are."""
        return timedelta(milliseconds=self.settings.wake_bucket_ms)

    async def tag(self, name: str, *, everybody: bool = False) -> UUID:
        """Make a tag; with `everybody` every contact gets it."""
        tag_id: UUID = await self.pool.fetchval(queries.make_tag, self.account_id, name)
        if everybody:
            await self.pool.execute(queries.tag_everybody, self.account_id, tag_id)
        return tag_id

    async def workflow(self, name: str, actions: Sequence[Action]) -> CompiledVersion:
        """Make a workflow of these actions and activate it; gives its compiled version."""
        async with self.pool.acquire() as db, db.transaction():
            workflow_id = await db.fetchval(queries.make_workflow, self.account_id, name)
            await db.execute(
                queries.make_actions,
                self.account_id,
                workflow_id,
                [uuid7() for _ in actions],
                [action_type for action_type, _ in actions],
                [config for _, config in actions],
            )
            now = await current_instant(db)
            active = await activate(db, now, registry, self.account_id, workflow_id, None)
        return await Versions(self.pool, registry).get(active.version_id)

    async def is_over(self, version: CompiledVersion) -> bool:
        """Whether no execution of a workflow runs any more."""
        over: bool = await self.pool.fetchval(queries.is_over, version.workflow_id)
        return over

    async def settle(self) -> None:
        """Bring statistics and the disk up to date, so that every contestant begins alike."""
        async with self.pool.acquire() as db:
            await db.execute("SET statement_timeout = 0")
            await db.execute(f"VACUUM (ANALYZE) {_SEEDED}")
            await db.execute("CHECKPOINT")

    async def conditions(self) -> dict[str, Any]:
        """What a figure depends on besides the code."""
        server = await self.pool.fetchrow(queries.server)
        return {
            "python": platform.python_version(),
            **dict(server or {}),
            "cores": _cores(),
            "batch_size": self.settings.batch_size,
        }


@asynccontextmanager
async def new_world(
    settings: Settings, *, contacts: int, pool_size: int = 4
) -> AsyncIterator[World]:
    """Make a migrated database with an account and contacts; it is dropped at the end.

    It stands on the server that the settings name, else on the embedded one; the role must be
    allowed to make databases.
    """
    async with scratch_database(settings, "callboard_bench") as dsn:
        # A million rows are seeded by one statement, and a contestant may think for a while.
        patient = settings.model_copy(
            update={"statement_timeout_ms": 600_000, "idle_in_transaction_timeout_ms": 600_000}
        )
        pool = await create_pool(dsn, patient, size=pool_size, application_name="callboard bench")
        try:
            account = await pool.fetchrow(queries.make_account)
            assert account is not None
            account_id, user_id = account
            rows = await pool.fetch(queries.make_contacts, account_id, user_id, contacts)
            ids = [row["id"] for row in rows]
            yield World(dsn, settings, pool, account_id, user_id, ids)
        finally:
            pool.terminate()


@asynccontextmanager
async def scratch_database(settings: Settings, name: str) -> AsyncIterator[str]:
    """Make a migrated database on the server that the settings name; it is dropped at the end."""
    server_dsn = await resolve_dsn(settings)
    name = f"{name}_{uuid4().hex[:12]}"
    await _execute(server_dsn, f"CREATE DATABASE {name} TEMPLATE template0")
    dsn = urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
    try:
        await migrate(dsn)
        yield dsn
    finally:
        await _execute(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
