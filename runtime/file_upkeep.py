"""Upkeep of files: objects that no row stands for are removed from the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from runtime import log
from runtime.storage import Storage
from sql import load

queries = load("files")
logger = log.get(__name__)

# Far longer than an upload may take. By the store's clock, which is the real one.
STALE_AFTER: Final = timedelta(days=1)


async def remove_stale(pool: asyncpg.Pool, storage: Storage) -> int:
    """Remove what an upload that died, a deletion or a deleted account left; gives how much."""
    written_before = datetime.now(UTC) - STALE_AFTER
    removed = 0
    async for objects in storage.walk():
        old = [(account, file) for account, file, written in objects if written < written_before]
        rows = await pool.fetch(queries.kept, [file for _, file in old])
        kept = {row["id"] for row in rows}
        stale = [(account, file) for account, file in old if file not in kept]
        await storage.delete(stale)
        removed += len(stale)
    if removed:
        logger.info("files.stale_removed", count=removed)
    return removed
