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


Stand = dict[str, Any]
"""The effect that a report is about, as earlier reports of the same batch have left it."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A report that was taken in: the effect as it was found (None: there is none), and whether
    it was new.
    """

    report: Report
    effect: Stand | None
    is_new: bool = False


async def take_reports(
    db: Connection, reports: Sequence[Report], now: datetime
) -> tuple[list[Reported], Bells]:
    """Take reports in, in the caller's transaction, as if they had come one after the other.

    A fixed number of statements for any number of them. Locks the effects' rows, in one order,
    before it looks. A report of an earlier attempt is kept and changes nothing.
    """
    asked = [(r.account_id, r.effect_id, r.integration_id) for r in reports]
    rows = await db.fetch(queries.lock_effects, *map(list, zip(*asked, strict=True)))
    stands: dict[UUID, Stand] = {row["id"]: dict(row) for row in rows}
    of = [_stand_of(stands, report) for report in reports]
    attempts = await _add(db, [(r, s) for r, s in zip(reports, of, strict=True) if s], now)
    taken, changes = [], _Changes()
    for report, stand in zip(reports, of, strict=True):
        attempt = attempts.pop(_key(report), None) if stand else None
        found = dict(stand) if stand else None
        taken.append(Reported(report, found, is_new=attempt is not None))
        if stand and attempt is not None and _is_current(stand, report, attempt):
            changes.apply(stand, report)
    return taken, await changes.write(db, now)


def _stand_of(stands: Mapping[UUID, Stand], report: Report) -> Stand | None:
    stand = stands.get(report.effect_id)
    is_its = stand is not None and (stand["account_id"], stand["integration_id"]) == (
        report.account_id,
        report.integration_id,
    )
    return stand if is_its else None


def _is_current(stand: Stand, report: Report, attempt: int) -> bool:
    is_same = stand["provider_id"] in (None, report.provider_id)
    return attempt >= stand["attempt"] and is_same


_Key = tuple[UUID, str, str]


def _key(report: Report) -> _Key:
    return report.effect_id, report.provider_id, report.status


async def _add(
    db: Connection, known: Sequence[tuple[Report, Stand]], now: datetime
) -> dict[_Key, int]:
    """Keep reports, each once; gives the attempts that those belong to which are new."""
    if not known:
        return {}
    columns = [
        (
            report.effect_id,
            report.provider_id,
            report.status,
            stand["account_id"],
            stand["attempt"],
            report.failure.code if report.failure else None,
            {} if "erased" in stand["request"] else dict(report.detail),
        )
        for report, stand in known
    ]
    rows = await db.fetch(queries.add_reports, *map(list, zip(*columns, strict=True)), now)
    return {(row["effect_id"], row["provider_id"], row["status"]): row["attempt"] for row in rows}


class _Changes:
    """What reports change about effects."""

    def __init__(self) -> None:
        self._notes: dict[UUID, tuple[str, str, dict[str, str] | None]] = {}
        self._settled: dict[UUID, Stand] = {}
        self._lost: list[tuple[Stand, Failure]] = []

    def apply(self, stand: Stand, report: Report) -> None:
        """Let a report change its effect."""
        if stand["status"] not in ("dispatched", "succeeded", "unknown"):
            return
        is_further = rank(report.status) > rank(stand["delivery_status"])
        if is_further:
            stand["delivery_status"] = report.status
        failure = report.failure if is_further else None
        is_in_hand = stand["status"] == "dispatched"
        if failure and is_in_hand:
            # Kept for the recording, which may find it long after this report.
            stand["delivery_failure"] = {"kind": failure.kind.value, "code": failure.code}
        elif is_further:
            stand["delivery_failure"] = None
        stand["provider_id"] = report.provider_id
        status, kept = stand["delivery_status"], stand["delivery_failure"]
        self._notes[stand["id"]] = report.provider_id, status, kept
        if stand["status"] == "unknown":
            self._settled[stand["id"]] = stand
            stand["status"] = "succeeded"
        if failure and not is_in_hand:
            self._lost.append((stand, failure))
            stand["status"] = "undelivered"

    async def write(self, db: Connection, now: datetime) -> Bells:
        """Write it all."""
        if self._notes:
            notes = [(id_, *note) for id_, note in self._notes.items()]
            await db.execute(queries.note_deliveries, *map(list, zip(*notes, strict=True)))
        if self._settled:
            settled = [
                (
                    stand["id"],
                    stand["attempt"],
                    stand["account_id"],
                    {"sid": stand["provider_id"], "status": stand["delivery_status"]},
                )
                for stand in self._settled.values()
            ]
            await db.execute(queries.log_settled, *map(list, zip(*settled, strict=True)), now)
        return await undelivered(db, self._lost, now) if self._lost else Bells()


def rank(status: str | None) -> int:
    """How far a word is along the way; 0 for words that are not on it."""
    return _RANKS.get(status or "", 0)


async def undelivered(
    db: Connection,
    rows: Sequence[tuple[asyncpg.Record | Stand, Failure]],
    now: datetime,
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
