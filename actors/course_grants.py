"""What grants of courses have in common: lessons that open, timers, events that a timer emits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from runtime.stage import Event, Stage
from runtime.timers import Timer
from sql import load

queries = load("courses")

REASON_LONGEST: Final = 2_000


async def hold(stage: Stage, timers: Sequence[Timer]) -> list[UUID]:
    """Lock the active grants of these timers of one kind.

    Batches lock a grant and then its timer, whereas timers are taken first here: what a batch
    holds is therefore not waited for, its timer is set again.
    """
    ids = [UUID(timer.payload["grant_id"]) for timer in timers]
    rows = await stage.db.fetch(queries.hold_grants, ids)
    held = [row["id"] for row in rows]
    if passed := sorted(set(ids) - set(held)):
        await stage.db.execute(queries.set_again, passed, timers[0].kind, stage.now)
    return held


async def open_and_set(stage: Stage, grant_ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """Open all lessons that are due, set the timers for what comes next, and give the opened."""
    if not grant_ids:
        return []
    opened: list[asyncpg.Record] = await stage.db.fetch(queries.open_lessons, grant_ids, stage.now)
    await stage.db.execute(queries.set_timers, grant_ids, stage.now)
    return opened


def emit(stage: Stage, event_type: str, row: asyncpg.Record, payload: dict[str, Any]) -> None:
    """Emit an event of a row's contact that no step has caused."""
    stage.events.append(
        Event(
            account_id=row["account_id"],
            event_type=event_type,
            contact_id=row["contact_id"],
            payload={"course_id": str(row["course_id"]), **payload},
            action_id=None,
            execution_id=None,
            event_depth=0,
            occurred_at=stage.now,
        )
    )
