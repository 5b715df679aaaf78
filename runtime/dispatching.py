"""Dispatch: the commit just before the wire, and the opt-outs that race with it.

From this commit on, and only from here, a death leaves an unknown outcome. It checks everything
again that may have changed since the claim. An opt-out and a dispatch both lock the row of
(account, channel, normalised address) first and look in a second statement: in one statement
the second of them would still see what was there before it waited. A resumption and a dispatch
meet at the row of the execution in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.effect import Effect
from runtime.performing import TRANSIENT
from sql import load

queries = load("effects")

TRIES: Final = 3


async def dispatch(
    db: Connection, effects: Sequence[Effect], worker_id: UUID
) -> tuple[list[Effect], Bells]:
    """Commit that these effects go out now; gives those that do.

    Left out, with their rows saying why: addresses that have opted out, paused work, and
    whatever was cancelled or taken away since the claim, be it that this worker's lease ran out.
    Locks addresses, then executions, then effects. A deadlock is tried again.
    """
    for _ in range(TRIES - 1):
        with suppress(*TRANSIENT):
            return await _dispatch(db, effects, worker_id)
    return await _dispatch(db, effects, worker_id)


async def _dispatch(
    db: Connection, effects: Sequence[Effect], worker_id: UUID
) -> tuple[list[Effect], Bells]:
    ids = [e.id for e in effects]
    async with db.transaction():
        addressed = [e for e in effects if e.channel is not None and e.address is not None]
        if addressed:
            columns = (
                [e.account_id for e in addressed],
                [e.channel for e in addressed],
                [e.address for e in addressed],
            )
            await db.execute(queries.know_addresses, *columns)
            await db.execute(queries.lock_addresses, *columns)
        await db.execute(queries.lock_executions, ids)
        now = await current_instant(db)
        attempts = [e.attempt for e in effects]
        rows = await db.fetch(queries.dispatch_effects, ids, attempts, worker_id, now)
        ended = {r["step_id"] for r in rows if r["status"] == "suppressed" and r["gates_step"]}
        families = await settle(db, ended, now)
    going = {row["id"] for row in rows if row["status"] == "dispatched"}
    return [e for e in effects if e.id in going], Bells(families=families)


async def settle(db: Connection, step_ids: Iterable[UUID | None], now: datetime) -> set[str]:
    """Make steps ready whose gating effects have all ended; gives the families to ring."""
    ids = [step_id for step_id in step_ids if step_id is not None]
    if not ids:
        return set()
    await db.execute(queries.lock_steps, ids)
    return {row["family"] for row in await db.fetch(queries.settle_steps, ids, now)}


async def opt_out(
    db: Connection, account_id: UUID, channel: str, address: str, reason: str
) -> Bells:
    """Keep an address of a channel from being written to, from now on.

    Whatever is addressed there and not yet dispatched is suppressed, to whichever contact it
    belongs. Runs in a transaction of its own or the caller's.
    """
    async with db.transaction():
        now = await current_instant(db)
        await db.execute(queries.opt_out, account_id, channel, address, now, reason)
        rows = await db.fetch(queries.suppress_effects, account_id, channel, address, now)
        families = await settle(db, {r["step_id"] for r in rows if r["gates_step"]}, now)
    return Bells(families=families)


async def opt_in(db: Connection, account_id: UUID, channel: str, address: str) -> None:
    """Let an address be written to again, after its owner said so."""
    await db.execute(queries.opt_in, account_id, channel, address)
