"""The one clock: the database's time plus an offset that tests and rehearsals set."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from runtime.database import Connection
from sql import load

queries = load("clock")


async def current_instant(db: Connection | asyncpg.Pool) -> datetime:
    """Give the clock's instant, aware, in UTC."""
    instant: datetime = await db.fetchval(queries.current_instant)
    return instant


async def advance(db: Connection | asyncpg.Pool, by: timedelta) -> datetime:
    """Move the clock of everything that uses this database, and give its new instant.

    Workers' leases move along.
    """
    await db.execute(queries.advance, by)
    return await current_instant(db)


async def offset(db: Connection | asyncpg.Pool) -> timedelta:
    """Give how far the clock is ahead of the real time."""
    ahead: timedelta = await db.fetchval(queries.offset)
    return ahead
