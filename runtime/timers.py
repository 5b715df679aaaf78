"""Timers: future instants that belong to no execution, such as the expiry of a course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection, is_lost
from runtime.recording import write_events
from runtime.registry import Registry
from runtime.stage import ActiveVersion, Outside, Stage
from sql import load

queries = load("timers")
log = structlog.get_logger(__name__)

INSTALMENT: Final = 500


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that has fallen due."""

    id: int
    account_id: UUID
    kind: str
    due_at: datetime
    payload: Mapping[str, Any]


async def set_timer(
    db: Connection,
    account_id: UUID,
    kind: str,
    due_at: datetime,
    payload: Mapping[str, Any],
    *,
    dedupe_key: str | None = None,
) -> None:
    """Set a timer in the caller's transaction; one with the same key is moved instead."""
    await db.execute(queries.set_timer, account_id, kind, due_at, dict(payload), dedupe_key)


async def fire_due(
    pool: asyncpg.Pool, registry: Registry, outside: Outside, active: ActiveVersion
) -> Bells:
    """Fire all due timers kind by kind, in transactions that remove them.

    A timer that fails is put off by a minute and takes no other along.
    """
    bells = Bells()
    for kind in registry.timers:
        bells |= await _fire_kind(pool, registry, kind, outside, active)
    return bells


async def _fire_kind(
    pool: asyncpg.Pool, registry: Registry, kind: str, outside: Outside, active: ActiveVersion
) -> Bells:
    bells = Bells()
    at_once, is_more = INSTALMENT, True
    while is_more:
        rows: list[asyncpg.Record] = []
        async with pool.acquire() as db:
            try:
                async with db.transaction():
                    stage = Stage(db, await current_instant(db), outside, active)
                    rows = await db.fetch(queries.take_due, kind, stage.now, at_once)
                    bells |= await _fire(stage, registry, rows)
            except Exception as error:
                if is_lost(db, error):
                    raise
                if len(rows) <= 1:
                    log.exception("timer.failed", kind=kind)
                    ids = [row["id"] for row in rows]
                    await db.execute(queries.put_off, ids, await current_instant(db))
                # From here on one at a time, so that only the culprit is put off.
                at_once = 1
        is_more = len(rows) >= at_once
    return bells


async def _fire(stage: Stage, registry: Registry, rows: Sequence[asyncpg.Record]) -> Bells:
    if not rows:
        return Bells()
    timers = [Timer(**dict(row)) for row in rows]
    await registry.timers[timers[0].kind].fire(stage, timers)
    events = await write_events(stage.db, stage.events, stage.now)
    return Bells(families=set(stage.ready), events=events)
