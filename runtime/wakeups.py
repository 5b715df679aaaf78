"""Wake-ups: making ready what has fallen due, and ringing for the instants that are near.

Sleeping steps stand in a partial index of their own table; only the near future has tickets in
the queue `wake`, one per bucket of time. What was missed during an outage is caught up in
instalments, so that the rest of the work goes on beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from sql import load

queries = load("wakeups")

INSTALMENT: Final = 2_000
HORIZON: Final = timedelta(seconds=90)
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


async def wake(pool: asyncpg.Pool) -> tuple[Bells, bool]:
    """Make one instalment of due steps, effects and lanes ready.

    Gives what to ring, and whether there may be more. Exactly one of a wait's event and its
    time-out wins: both change the row only while it is `waiting`.
    """
    bells, more = Bells(), False
    async with pool.acquire() as db:
        now = await current_instant(db)
        for query in (queries.wake_steps, queries.time_out_waits, queries.wake_effects):
            rows = await db.fetch(query, now, INSTALMENT)
            bells.families |= {row["family"] for row in rows}
            more = more or sum(row["woken"] for row in rows) >= INSTALMENT
        bells.families |= {row["family"] for row in await db.fetch(queries.release_lanes, now)}
    return bells, more


def bucket_of(due: datetime, width: timedelta) -> datetime:
    """Give the end of the bucket that an instant falls into: never before the instant."""
    return due + (-(due - EPOCH)) % width


def near(instants: Iterable[datetime], now: datetime, width: timedelta) -> list[datetime]:
    """Give the buckets of those instants that need a ticket now; `plan` sees to the others."""
    return sorted({bucket_of(due, width) for due in instants if due <= now + HORIZON})


async def plan(db: Connection | asyncpg.Pool, width: timedelta) -> list[datetime]:
    """Give the buckets until the horizon in which anything falls due.

    One probe of each index per bucket, however many rows stand in it.
    """
    now = await current_instant(db)
    rows = await db.fetch(queries.due_buckets, bucket_of(now, width), now + HORIZON, width)
    return [row["bucket"] for row in rows]
