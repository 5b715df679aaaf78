"""What providers report on an effect after they took it: in any order, repeated, early or late.

A report is kept once. The effect says how far it has come, and a report that carries its id settles
an outcome that was unknown. What was accepted and then not delivered is tried again by the retry
table, as if the call itself had failed that way. A report that comes before the answer to the call
is recorded leaves the row in its worker's hand; the recording then sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from runtime.bells import Bells
from runtime.database import Connection
from runtime.dispatching import settle
from runtime.failures import Failure, Kind, backoff
from sql import load

queries = load("deliveries")

_RANKS: Final[dict[str, int]] = {
    "accepted": 1,
    "queued": 2,
    "initiated": 2,
    "sending": 3,
    "ringing": 3,
    "sent": 4,
    "in_progress": 4,
    "deferred": 5,
    "detected": 5,
    "connected": 5,
    "recorded": 5,
    "delivered": 6,
    "undelivered": 6,
    "failed": 6,
    "completed": 6,
    "busy": 6,
    "no_answer": 6,
    "canceled": 6,
    "read": 7,
    "opened": 7,
    "clicked": 8,
    "bounced": 9,
    "complained": 10,
}
"""How far each word of a report is along the way; of two as far, the first stays.

A mail that was delivered may still come back, and who complains has had it.
"""

LAST: Final = frozenset(status for status, rank in _RANKS.items() if rank == 6)
"""Words after which nothing more is decided."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a provider says of an effect; `failure` where it says that it will not arrive."""

    account_id: UUID
    integration_id: UUID
    effect_id: UUID
    provider_id: str
    status: str
    failure: Failure | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reported:
    """A report that was taken in: the effect as it was found, whether it was new."""

    effect: asyncpg.Record | None
    is_new: bool = False
    bells: Bells = field(default_factory=Bells)


async def take_report(db: Connection, report: Report, now: datetime) -> Reported:
    """Take a report in, in the caller's transaction; `effect` is None where there is none.

    Locks the effect's row before it looks. A report of an earlier attempt is kept and changes
    nothing.
    """
    row = await db.fetchrow(
        queries.lock_effect, report.account_id, report.effect_id, report.integration_id
    )
    if row is None:
        return Reported(None)
    attempt = await db.fetchval(
        queries.add_report,
        row["id"],
        report.provider_id,
        report.status,
        row["account_id"],
        row["attempt"],
        report.failure.code if report.failure else None,
        {} if "erased" in row["request"] else dict(report.detail),
        now,
    )
    if attempt is None:
        return Reported(row)
    if attempt < row["attempt"] or row["provider_id"] not in (None, report.provider_id):
        return Reported(row, is_new=True)
    return Reported(row, is_new=True, bells=await _apply(db, row, report, now))


async def _apply(db: Connection, row: asyncpg.Record, report: Report, now: datetime) -> Bells:
    if row["status"] not in ("dispatched", "succeeded", "unknown"):
        return Bells()
    is_further = rank(report.status) > rank(row["delivery_status"])
    status = report.status if is_further else row["delivery_status"]
    failure = report.failure if is_further else None
    is_in_hand = row["status"] == "dispatched"
    # Kept for the recording, which may find it long after this report.
    kept = {"kind": failure.kind.value, "code": failure.code} if failure and is_in_hand else None
    await db.execute(queries.note_delivery, row["id"], report.provider_id, status, kept)
    if row["status"] == "unknown":
        said = {"sid": report.provider_id, "status": status}
        await db.execute(
            queries.log_settled, row["id"], row["attempt"], row["account_id"], now, said
        )
    if failure is None or is_in_hand:
        return Bells()
    return await undelivered(db, [(row, failure)], now)


def rank(status: str | None) -> int:
    """How far a word is along the way; 0 for words that are not on it."""
    return _RANKS.get(status or "", 0)


async def undelivered(
    db: Connection, rows: Sequence[tuple[asyncpg.Record, Failure]], now: datetime
) -> Bells:
    """Send once more what was accepted and not delivered, or fail it, as the retry table says."""
    ended, bells = [], Bells()
    columns: list[tuple[Any, ...]] = []
    for row, failure in rows:
        retries = dict(row["retries"])
        delay = backoff(failure, retries.get(failure.kind, 0))
        due = None if delay is None else now + delay
        if due is None:
            ended.append(row["step_id"] if row["gates_step"] else None)
        else:
            retries[failure.kind.value] = retries.get(failure.kind, 0) + 1
            bells.wake_at.add(due)
        columns.append((row["id"], due, failure.code, failure.message, retries))
    await db.execute(queries.undelivered, *map(list, zip(*columns, strict=True)), now)
    bells.families |= await settle(db, ended, now)
    return bells


def failure_kept(row: asyncpg.Record) -> Failure | None:
    """Give the failed delivery that was reported before the answer to the call was recorded."""
    kept = row["delivery_failure"]
    if kept is None:
        return None
    return Failure(Kind(kept["kind"]), kept["code"], "it was accepted and then not delivered")
