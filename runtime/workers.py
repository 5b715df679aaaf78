"""Workers as rows: registered, kept alive by a heartbeat, taken away when their lease runs out."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from sql import load

queries = load("workers")


async def register(
    db: asyncpg.Pool, worker_id: UUID, families: Sequence[str], lease: timedelta
) -> None:
    """Say that this process is a worker; its lease begins now."""
    await db.execute(
        queries.register, worker_id, socket.gethostname(), os.getpid(), list(families), lease
    )


async def heartbeat(db: asyncpg.Pool, worker_id: UUID, lease: timedelta) -> bool:
    """Renew the lease on everything that the worker has in hand.

    False: the lease had run out and the sweep took the row away. Whatever was in hand may be in
    other hands by now; the worker must take a new identity.
    """
    return await db.fetchval(queries.heartbeat, worker_id, lease) is not None


async def begin_to_leave(db: asyncpg.Pool, worker_id: UUID) -> None:
    """Say that the worker begins nothing more; what it has in hand it brings to its end."""
    await db.execute(queries.begin_to_leave, worker_id)


async def leave(db: asyncpg.Pool, worker_id: UUID) -> None:
    """Say that the worker has stopped, with nothing in hand."""
    await db.execute(queries.leave, worker_id)
