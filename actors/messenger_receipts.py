"""How far messages have come: receipts of people's devices, and echoes of what a page has sent.

A receipt names an instant, its watermark: all that was sent to the person before has come so far
(Messenger Platform, Webhooks reference: message_deliveries, message_reads). Both come in any order,
repeated, and many at once; a fixed number of statements takes them in. One that is told before the
answer to the call is recorded is looked at once more by a timer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from runtime.database import Connection
from runtime.deliveries import rank
from runtime.registry import TimerType
from runtime.stage import Stage
from runtime.timers import Timer
from sql import load

queries = load("messenger_receipts")

KIND: Final = "messenger.receipts"
LOOK_AGAIN: Final = timedelta(seconds=30)
"""When the answer to a call has been recorded: calls have ended by then, or are unknown."""


@dataclass(frozen=True, slots=True)
class Echo:
    """What Facebook tells of a message of ours: the effect in its metadata, and its own id."""

    effect_id: UUID
    address: str
    mid: str


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the messages to a person have come by what was told, in whatever order it was."""

    address: str
    delivered_until: datetime | None
    read_until: datetime | None
    mids: tuple[str, ...] = ()


async def take_echoes(
    db: Connection, account_id: UUID, echoes: Sequence[Echo], now: datetime
) -> None:
    """Note that messages have arrived at Facebook, in the caller's transaction.

    An outcome that was unknown is known by it. Locks the effects.
    """
    if not echoes:
        return
    told = [e.effect_id for e in echoes], [e.address for e in echoes], [e.mid for e in echoes]
    rows = await db.fetch(queries.echoed, account_id, *told)
    await _keep(db, account_id, [(row["id"], row["mid"], "sent") for row in rows], now)


async def take_receipts(
    db: Connection, account_id: UUID, marks: Iterable[Mark], now: datetime
) -> None:
    """Note how far messages have come, in the caller's transaction; locks the effects."""
    marks = [m for m in marks if m.delivered_until or m.read_until or m.mids]
    if not marks:
        return
    named = [(mark.address, mid) for mark in marks for mid in mark.mids]
    until = (
        [mark.address for mark in marks],
        [mark.delivered_until for mark in marks],
        [mark.read_until for mark in marks],
    )
    rows = await db.fetch(
        queries.due,
        account_id,
        *until,
        [address for address, _ in named],
        [mid for _, mid in named],
    )
    await _keep(db, account_id, [(r["id"], r["provider_id"], r["status"]) for r in rows], now)
    await db.execute(queries.look_again, account_id, *until, KIND, now + LOOK_AGAIN)


async def _keep(
    db: Connection, account_id: UUID, told: Sequence[tuple[UUID, str, str]], now: datetime
) -> None:
    """Keep each report once; say on the messages the furthest that each is known to have come."""
    if not told:
        return
    rows = await db.fetch(queries.lock, account_id, list({id_ for id_, _, _ in told}))
    stands = {row["id"]: row for row in rows}
    columns = [list(column) for column in zip(*told, strict=True)]
    new = await db.fetch(queries.add_reports, account_id, *columns, now)
    furthest: dict[UUID, tuple[str, str]] = {}
    for id_, mid, status, attempt in new:
        stand = stands[id_]
        # A report of an earlier try is kept and changes nothing.
        if attempt < stand["attempt"] or stand["provider_id"] not in (None, mid):
            continue
        so_far = furthest[id_][1] if id_ in furthest else stand["delivery_status"]
        furthest[id_] = mid, status if rank(status) > rank(so_far) else so_far
    if furthest:
        ids, (mids, statuses) = list(furthest), zip(*furthest.values(), strict=True)
        await db.execute(queries.log_settled, account_id, ids, mids, statuses, now)
        await db.execute(queries.note, account_id, ids, mids, statuses)


async def fire(stage: Stage, timers: Sequence[Timer]) -> None:
    """Look once more at receipts that came before the answers to the calls were recorded."""
    effects: dict[UUID, list[UUID]] = defaultdict(list)
    for timer in timers:
        effects[timer.account_id].append(UUID(timer.payload["effect_id"]))
    for account_id, ids in sorted(effects.items()):
        rows = await stage.db.fetch(queries.marks_of, account_id, ids)
        await take_receipts(stage.db, account_id, [Mark(*row) for row in rows], stage.now)


TIMER = TimerType(KIND, fire)
