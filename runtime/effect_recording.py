"""Recording the ends of effects, in batches, fenced by the attempt.

A late result, of an attempt that was taken away meanwhile, is logged and changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import LOST_CONNECTION, Connection, is_lost
from runtime.deliveries import failure_kept, undelivered
from runtime.dispatching import settle
from runtime.effect import Effect, Result, Sent, Suppressed
from runtime.failures import Failure, Kind, backoff
from runtime.log import log_context, some_ids
from runtime.performing import is_transient
from sql import load

queries = load("effects")
log = structlog.get_logger(__name__)

# Kinds of failure that speak of the other side's health; a refusal is an answer.
UNHEALTHY: Final = frozenset({Kind.NETWORK_TIMEOUT, Kind.SERVICE_UNAVAILABLE, Kind.UNKNOWN_OUTCOME})
TRIES: Final = 3

UNSTORABLE: Final = "what the other side said could not be stored"
NOTED: Final = Sent({"note": UNSTORABLE})
SET_ASIDE: Final = Failure(Kind.UNKNOWN_OUTCOME, "result_unstorable", UNSTORABLE)


@dataclass(frozen=True, slots=True)
class Ended:
    """An effect whose sending has ended, in this worker."""

    effect: Effect
    started_at: datetime
    finished_at: datetime
    result: Result


HandOver = Callable[[set[UUID]], None]
"""Takes, after the commit, the steps of which gating effects have ended."""


async def record_apart(
    db: Connection,
    ended: Sequence[Ended],
    worker_id: UUID,
    put_down: Callable[[Sequence[Ended]], None] = lambda _: None,
    hand_over: HandOver | None = None,
) -> Bells:
    """Record the ends of effects; one that cannot be stored takes no other along.

    Its end is recorded without what the other side said, at the worst as an unknown outcome.
    Tells `put_down` what is committed as soon as it is. Raises when the database is lost or
    somebody keeps it busy for too long; what was not put down is to be recorded again.
    """
    bells = Bells()
    parts = [(list(ended), 1)]
    while parts:
        part, tries = parts.pop()
        try:
            bells |= await record(db, part, worker_id, hand_over)
        except LOST_CONNECTION:
            raise
        except Exception as error:
            if is_lost(db):
                raise
            log.warning(
                "results.not_recorded",
                effects=len(part),
                effect_ids=some_ids(one.effect.id for one in part),
                error=type(error).__name__,
            )
            if not _may_pass(error):
                parts += [(smaller, 1) for smaller in _smaller(part, error)]
            elif tries < TRIES:
                parts.append((part, tries + 1))
            else:
                raise
        else:
            put_down(part)
    return bells


def _may_pass(error: Exception) -> bool:
    # A statement that took too long waited for somebody's lock: no fault of the results'.
    return is_transient(error) or isinstance(error, asyncpg.QueryCanceledError)


def _smaller(part: list[Ended], error: Exception) -> list[list[Ended]]:
    middle = len(part) // 2
    if middle:
        return [part[:middle], part[middle:]]
    bare = _bare(part[0].result)
    if bare is None:
        lost = part[0].effect
        with log_context(effect_id=lost.id, step_id=lost.step_id, execution_id=lost.execution_id):
            log.error("result.lost", exc_info=error)
        return []
    return [[replace(part[0], result=bare)]]


def _bare(result: Result) -> Result | None:
    """What is recorded instead of a result that cannot be stored; None: nothing is left to try."""
    if result == SET_ASIDE:
        return None
    if isinstance(result, Sent) and result != NOTED:
        return NOTED
    if isinstance(result, Failure) and result.code != SET_ASIDE.code:
        return replace(result, code=SET_ASIDE.code, message=UNSTORABLE)
    return SET_ASIDE


async def record(
    db: Connection,
    ended: Sequence[Ended],
    worker_id: UUID,
    hand_over: HandOver | None = None,
) -> Bells:
    """Record the ends of effects in one transaction: results, attempts, steps, breakers.

    Steps whose effects have all ended are made ready, unless `hand_over` takes care of that.
    """
    async with db.transaction():
        now = await current_instant(db)
        verdicts = [_verdict(e, now) for e in ended]
        rows = await db.fetch(
            queries.record_effects, *_columns([v[:8] for v in verdicts]), worker_id, now
        )
        counted = {row["id"] for row in rows}
        await _log(db, ended, [v[2] for v in verdicts], counted, worker_id)
        lost = [
            (row, failure)
            for row in rows
            if row["status"] == "succeeded" and (failure := failure_kept(row)) is not None
        ]
        bells = await undelivered(db, lost, now) if lost else Bells()
        again = {row["id"] for row, _ in lost}
        steps = {
            r["step_id"]
            for r in rows
            if r["gates_step"] and r["status"] != "scheduled" and r["id"] not in again
        }
        if hand_over is None:
            bells |= Bells(families=await settle(db, steps, now))
        bells.wake_at |= {v[6] for v in verdicts if v[6] is not None and v[0] in counted}
        bells |= await _tell_breakers(db, [e for e in ended if e.effect.id in counted], now)
    if hand_over is not None:
        hand_over(steps)
    return bells


def _verdict(ended: Ended, now: datetime) -> tuple[Any, ...]:
    effect, result = ended.effect, ended.result
    retries = dict(effect.retries)
    row: tuple[Any, ...]
    if isinstance(result, Sent):
        row = ("succeeded", dict(result.result), None, None, None)
    elif isinstance(result, Suppressed):
        row = ("suppressed", None, result.code, None, None)
    elif result.kind is Kind.UNKNOWN_OUTCOME:
        row = ("unknown", None, result.code, result.message, None)
    elif (delay := backoff(result, _retries_so_far(result, retries))) is not None:
        retries[result.kind.value] = retries.get(result.kind, 0) + 1
        row = ("scheduled", None, result.code, result.message, now + delay)
    else:
        row = ("failed", None, result.code, result.message, None)
    return (effect.id, effect.attempt, *row, retries)


def _retries_so_far(failure: Failure, retries: Mapping[str, int]) -> int:
    if failure.most_retries is not None:
        return sum(retries.values())
    return retries.get(failure.kind, 0)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


OUTCOMES: Final = {
    "succeeded": "succeeded",
    "unknown": "unknown",
    "scheduled": "retried",
    "failed": "failed",
    "suppressed": "suppressed",
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
    """Count results at the breakers; an opening one holds its lanes, a closing one frees them.

    First all breakers, then all lanes, each in the order of their ids. A breaker that is neither
    told of a failure nor half open has nothing to learn. An ended call lets another one run.
    """
    results: dict[UUID, tuple[list[UUID], list[UUID]]] = defaultdict(lambda: ([], []))
    for e in ended:
        if e.effect.integration_id is not None:
            succeeded, failed = results[e.effect.integration_id]
            kind = e.result.kind if isinstance(e.result, Failure) else None
            if kind in UNHEALTHY:
                failed.append(e.effect.id)
            elif kind is not Kind.INTERNAL:  # our own fault says nothing of the other side
                succeeded.append(e.effect.id)
    if not results:
        return Bells()
    half_open = {row[0] for row in await db.fetch(queries.half_open, list(results))}
    changed: dict[str, list[UUID]] = {"opened": [], "closed": []}
    for integration in sorted(results):
        if results[integration][1] or integration in half_open:
            told = integration, *results[integration], now
            change = await db.fetchval(queries.tell_breaker, *told)
            if change is not None:
                changed[change].append(integration)
                await db.execute(queries.breaker_event, integration, f"breaker_{change}", now)
    lanes = await db.fetch(queries.hold_or_release_lanes, list(results), *changed.values())
    return Bells(
        families={row["family"] for row in lanes if row["held_until"] is None},
        wake_at={row["held_until"] for row in lanes if row["held_until"] is not None},
    )
