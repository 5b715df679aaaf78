"""Recording the ends of effects, in batches, fenced by the attempt.

A late result, of an attempt that was taken away meanwhile, is logged and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import LOST_CONNECTION, Connection, is_lost
from runtime.dispatching import settle
from runtime.effect import Effect, Result, Sent
from runtime.failures import Failure, Kind, backoff
from runtime.performing import is_transient
from sql import load

queries = load("effects")
log = structlog.get_logger(__name__)

# Kinds of failure that speak of the other side's health; a refusal is an answer.
UNHEALTHY: Final = frozenset({Kind.NETWORK_TIMEOUT, Kind.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Ended:
    """An effect whose sending has ended, in this worker."""

    effect: Effect
    started_at: datetime
    finished_at: datetime
    result: Result


async def record_apart(db: Connection, ended: Sequence[Ended], worker_id: UUID) -> Bells:
    """Record the ends of effects; one that cannot be stored takes no other along.

    Its end is recorded without what the other side said. Raises only when the database is lost;
    then part of it may have been recorded, and recording it again changes nothing.
    """
    bells = Bells()
    parts = [list(ended)]
    while parts:
        part = parts.pop()
        try:
            bells |= await record(db, part, worker_id)
        except LOST_CONNECTION:
            raise
        except Exception as error:
            if is_lost(db):
                raise
            log.warning("results.not_recorded", effects=len(part), error=type(error).__name__)
            parts += _smaller(part, error)
    return bells


def _smaller(part: list[Ended], error: Exception) -> list[list[Ended]]:
    if is_transient(error):
        return [part]
    middle = len(part) // 2
    if middle:
        return [part[:middle], part[middle:]]
    bare = replace(part[0], result=_bare(part[0].result))
    if bare == part[0]:
        raise error
    return [[bare]]


def _bare(result: Result) -> Result:
    what = "what the other side said could not be stored"
    if isinstance(result, Sent):
        return Sent({"note": what})
    return replace(result, code="result_unstorable", message=what)


async def record(db: Connection, ended: Sequence[Ended], worker_id: UUID) -> Bells:
    """Record the ends of effects in one transaction: results, attempts, steps, breakers."""
    async with db.transaction():
        now = await current_instant(db)
        verdicts = [_verdict(e, now) for e in ended]
        rows = await db.fetch(
            queries.record_effects, *_columns([v[:8] for v in verdicts]), worker_id, now
        )
        counted = {row["id"] for row in rows}
        await _log(db, ended, [v[2] for v in verdicts], counted, worker_id)
        steps = {r["step_id"] for r in rows if r["gates_step"] and r["status"] != "scheduled"}
        bells = Bells(families=await settle(db, steps, now))
        bells.wake_at = {v[6] for v in verdicts if v[6] is not None and v[0] in counted}
        bells |= await _tell_breakers(db, [e for e in ended if e.effect.id in counted], now)
    return bells


def _verdict(ended: Ended, now: datetime) -> tuple[Any, ...]:
    effect, result = ended.effect, ended.result
    retries = dict(effect.retries)
    row: tuple[Any, ...]
    if isinstance(result, Sent):
        row = ("succeeded", dict(result.result), None, None, None)
    elif result.kind is Kind.UNKNOWN_OUTCOME:
        row = ("unknown", None, result.code, result.message, None)
    elif (delay := backoff(result, retries.get(result.kind, 0))) is not None:
        retries[result.kind.value] = retries.get(result.kind, 0) + 1
        row = ("scheduled", None, result.code, result.message, now + delay)
    else:
        row = ("failed", None, result.code, result.message, None)
    return (effect.id, effect.attempt, *row, retries)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


OUTCOMES: Final = {
    "succeeded": "succeeded",
    "unknown": "unknown",
    "scheduled": "retried",
    "failed": "failed",
}


async def _log(
    db: Connection,
    ended: Sequence[Ended],
    statuses: Sequence[str],
    counted: set[UUID],
    worker_id: UUID,
) -> None:
    rows = []
    for e, status in zip(ended, statuses, strict=True):
        failure = e.result if isinstance(e.result, Failure) else None
        rows.append(
            (
                e.effect.id,
                e.effect.attempt,
                e.effect.account_id,
                worker_id,
                e.started_at,
                e.finished_at,
                OUTCOMES[status],
                e.effect.id not in counted,
                failure.kind.value if failure else None,
                failure.code if failure else None,
                failure.message if failure else None,
                dict(e.result.result) if isinstance(e.result, Sent) else None,
            )
        )
    await db.execute(queries.log_effect_attempts, *_columns(rows))


async def _tell_breakers(db: Connection, ended: Sequence[Ended], now: datetime) -> Bells:
    """Count results at the breakers; an opening one holds its lanes, a closing one frees them."""
    results: dict[UUID, tuple[list[UUID], list[UUID]]] = defaultdict(lambda: ([], []))
    for e in ended:
        if e.effect.integration_id is not None:
            failed = isinstance(e.result, Failure) and e.result.kind in UNHEALTHY
            results[e.effect.integration_id][failed].append(e.effect.id)
    bells = Bells()
    for integration in sorted(results):
        change = await db.fetchval(queries.tell_breaker, integration, *results[integration], now)
        if change is not None:
            await db.execute(queries.breaker_event, integration, f"breaker_{change}", now)
        if change == "opened":
            bells.wake_at.add(await db.fetchval(queries.hold_integration, integration))
        elif change == "closed":
            rows = await db.fetch(queries.release_integration, integration, "breaker_open")
            bells.families |= {row["family"] for row in rows}
    if results:
        for row in await db.fetch(queries.integrations_freed, list(results)):
            freed = await db.fetch(
                queries.release_integration, row["integration_id"], "concurrency_limit"
            )
            bells.families |= {r["family"] for r in freed}
    return bells
