"""Timers: future instants that belong to no execution, such as the expiry of a course."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import LOST_CONNECTION, Connection
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
    """Fire due timers kind by kind, each kind in one transaction that removes its timers.

    A kind that fails keeps its timers, put off by a minute, and does not hold up the others.
    """
    bells = Bells()
    for kind in registry.timers:
        try:
            async with pool.acquire() as db, db.transaction():
                bells |= await _fire(db, registry, kind, outside, active)
        except LOST_CONNECTION:
            raise
        except Exception:
            log.exception("timers.failed", kind=kind)
            await pool.execute(queries.put_off, kind, await current_instant(pool))
    return bells


async def _fire(
    db: Connection, registry: Registry, kind: str, outside: Outside, active: ActiveVersion
) -> Bells:
    now = await current_instant(db)
    rows = await db.fetch(queries.take_due, kind, now, INSTALMENT)
    if not rows:
        return Bells()
    stage = Stage(db, now, outside, active)
    await registry.timers[kind].fire(stage, [Timer(**dict(row)) for row in rows])
    events = await write_events(db, stage.events, now)
    return Bells(families=set(stage.ready), events=events)
