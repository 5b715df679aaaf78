"""Dispatch: the commit just before the wire, and the opt-outs that race with it.

From this commit on, and only from here, a death leaves an unknown outcome. It checks everything
again that may have changed since the claim. An opt-out and a dispatch both lock the row of
(account, channel, normalised address) first and look in a second statement: in one statement
the second of them would still see what was there before it waited. A resumption and a dispatch
meet at the row of the execution in the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection, is_lost
from runtime.effect import Effect, Verdict
from runtime.log import some_ids
from runtime.performing import TRANSIENT, is_transient
from runtime.registry import EffectType
from runtime.verdicts import Broken, ask, columns, has_checks
from sql import load

queries = load("effects")
log = structlog.get_logger(__name__)

TRIES: Final = 3
ENDED: Final = frozenset({"suppressed", "failed"})

# Who leaves a mailing list still gets invoices and receipts; whoever refuses texts, the calls that
# were agreed on. Everything else that keeps an address from being written to (stop, complaint,
# hard_bounce, …) goes for whatever is sent.
MARKETING_ONLY: Final = frozenset({"unsubscribed", "stopped_texts"})


async def dispatch(
    db: Connection,
    effects: Sequence[Effect],
    worker_id: UUID,
    types: Mapping[str, EffectType] = MappingProxyType({}),
) -> tuple[list[Effect], Bells]:
    """Commit that these effects go out now; gives those that do.

    Left out, with their rows saying why: what the check of its kind (in `types`) puts off or
    suppresses, addresses that have opted out, paused work, and whatever was cancelled or taken
    away since the claim, be it that this worker's lease ran out. Locks addresses, then executions,
    then effects. A deadlock is tried again; an effect whose check raises fails alone.
    """
    try:
        return await _patiently(db, effects, worker_id, types)
    except Exception as error:
        if not has_checks(effects, types) or _may_pass(db, error):
            raise
        log.warning(
            "dispatch.failed",
            effects=len(effects),
            effect_ids=some_ids(effect.id for effect in effects),
            error=type(error).__name__,
        )
    going, bells = list[Effect](), Bells()
    for effect in effects:
        one, rung = await _dispatch_alone(db, effect, worker_id, types)
        going, bells = going + one, bells | rung
    return going, bells


async def _dispatch_alone(
    db: Connection, effect: Effect, worker_id: UUID, types: Mapping[str, EffectType]
) -> tuple[list[Effect], Bells]:
    try:
        return await _patiently(db, [effect], worker_id, types)
    except Exception as error:
        if _may_pass(db, error):
            raise
        log.exception("effect.check_crashed", effect_id=str(effect.id), kind=effect.kind)
        broken = Broken(f"the check raised {type(error).__name__}")
        return await _dispatch(db, [effect], worker_id, {}, {effect.id: broken})


def _may_pass(db: Connection, error: Exception) -> bool:
    # A statement that took too long waited for somebody's lock: no fault of the check's.
    patience = isinstance(error, asyncpg.QueryCanceledError)
    return patience or is_transient(error) or is_lost(db, error)


async def _patiently(
    db: Connection, effects: Sequence[Effect], worker_id: UUID, types: Mapping[str, EffectType]
) -> tuple[list[Effect], Bells]:
    for _ in range(TRIES - 1):
        with suppress(*TRANSIENT):
            return await _dispatch(db, effects, worker_id, types)
    return await _dispatch(db, effects, worker_id, types)


async def _dispatch(
    db: Connection,
    effects: Sequence[Effect],
    worker_id: UUID,
    types: Mapping[str, EffectType],
    verdicts: Mapping[UUID, Verdict | Broken] | None = None,
) -> tuple[list[Effect], Bells]:
    ids = [e.id for e in effects]
    async with db.transaction():
        await _lock_addresses(db, effects)
        await db.execute(queries.lock_executions, ids)
        now = await current_instant(db)
        verdicts = verdicts or await ask(db, effects, types, now)
        told = columns(effects, verdicts, now)
        attempts = [e.attempt for e in effects]
        rows = await db.fetch(queries.dispatch_effects, ids, attempts, worker_id, now, *told)
        ended = {r["step_id"] for r in rows if r["status"] in ENDED and r["gates_step"]}
        families = await settle(db, ended, now)
    of_status: dict[str, set[UUID]] = defaultdict(set)
    for row in rows:
        of_status[row["status"]].add(row["id"])
    until = {t for e, t in zip(effects, told[3], strict=False) if e.id in of_status["scheduled"]}
    going = [e for e in effects if e.id in of_status["dispatched"]]
    return going, Bells(families=families, wake_at=until)


async def _lock_addresses(db: Connection, effects: Sequence[Effect]) -> None:
    addressed = [e for e in effects if e.channel is not None and e.address is not None]
    if addressed:
        await lock_addresses(
            db,
            [e.account_id for e in addressed],
            [e.channel for e in addressed],
            [e.address for e in addressed],
        )


async def lock_addresses(
    db: Connection,
    accounts: Sequence[UUID],
    channels: Sequence[str | None],
    addresses: Sequence[str | None],
) -> None:
    """Lock what a dispatch to these addresses locks first: it comes before this or sees it all."""
    await db.execute(queries.know_addresses, accounts, channels, addresses)
    await db.execute(queries.lock_addresses, accounts, channels, addresses)


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
    belongs; for some reasons (MARKETING_ONLY) only marketing is. Runs in a transaction of its own
    or the caller's.
    """
    return await opt_out_all(db, account_id, channel, [address], reason)


async def opt_out_all(
    db: Connection, account_id: UUID, channel: str, addresses: Sequence[str], reason: str
) -> Bells:
    """Do the same for any number of addresses; a fixed number of statements."""
    scope = "marketing" if reason in MARKETING_ONLY else "all"
    async with db.transaction():
        now = await current_instant(db)
        told = account_id, channel, list(addresses), now, reason, scope
        await db.execute(queries.opt_out, *told)
        rows = await db.fetch(queries.suppress_effects, *told)
        families = await settle(db, {r["step_id"] for r in rows if r["gates_step"]}, now)
    return Bells(families=families)


async def opt_in(
    db: Connection, account_id: UUID, channel: str, address: str, *, after: str | None = None
) -> None:
    """Let an address be written to again, after its owner said so.

    `after`: only if this was the reason of the opt-out.
    """
    await db.execute(queries.opt_in, account_id, channel, address, after)
    await db.execute(queries.opt_in_erased, account_id, channel, address, after)
