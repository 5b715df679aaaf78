"""Housekeeping: what is past its retention is deleted, stalled tickets are finished.

A stalled ticket (its worker died with it in hand) is finished and its family rung anew by the
sweep; retrying it would collide with the queueing lock of a ticket that is queued already.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import asyncpg
import structlog

from runtime.clock import current_instant
from runtime.settings import Settings
from sql import load

queries = load("housekeeping")
operations = load("operations")
idempotency = load("idempotency")
log = structlog.get_logger(__name__)

INSTALMENT: Final = 1_000
MOST_INSTALMENTS: Final = 500
# Procrastinate's own bound for a worker without heartbeat.
STALLED_AFTER: Final = timedelta(seconds=30)


async def keep_house(pool: asyncpg.Pool, settings: Settings) -> dict[str, int]:
    """Do one round; gives how many rows went, by kind. Deletes in instalments, oldest first.

    Procrastinate's rows are judged by the real time, ours by the clock.
    """
    gone = {"stalled_tickets": await _count(pool, queries.finish_stalled, STALLED_AFTER)}
    now = await current_instant(pool)
    for name, query, days in (
        ("tickets", queries.delete_tickets, settings.retention_tickets_days),
        ("events", queries.delete_events, settings.retention_events_days),
        ("inbound_texts", queries.delete_inbound_texts, settings.retention_events_days),
        ("executions", queries.delete_executions, settings.retention_executions_days),
        ("refusals", queries.delete_refusals, settings.retention_executions_days),
        ("operations", operations.delete_operations, settings.retention_operations_days),
        ("idempotency_keys", idempotency.delete_keys, settings.idempotency_hours / 24),
        ("downloads", operations.delete_downloads, settings.retention_downloads_days),
    ):
        age = timedelta(days=days)
        arguments = (age,) if name == "tickets" else (now - age,)
        gone[name] = await _delete(pool, query, *arguments)
    gone["uploads"] = await _delete(pool, operations.delete_uploads_of_ended)
    if any(gone.values()):
        log.info("house.kept", **gone)
    return gone


async def _delete(pool: asyncpg.Pool, query: str, *arguments: object) -> int:
    total = 0
    for _ in range(MOST_INSTALMENTS):
        gone = await _count(pool, query, *arguments, INSTALMENT)
        total += gone
        if gone < INSTALMENT:
            break
    return total


async def _count(pool: asyncpg.Pool, query: str, *arguments: object) -> int:
    count: int = await pool.fetchval(query, *arguments)
    return count
