"""The safety sweep: whatever a lost ticket or a dead worker left behind is found within seconds.

It rings for ready work that nobody claims, catches up with what has fallen due, and gives back
what dead workers had in hand: steps and undispatched effects are claimed again, each alone;
dispatched effects have an unknown outcome, and their type says what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.dispatching import settle
from runtime.log import some_ids
from runtime.registry import FAMILIES, Registry
from sql import load

queries = load("sweep")
operations = load("operations")
log = structlog.get_logger(__name__)

# How often a step or an effect may be in hand when a worker dies before it counts as poison.
MOST_LOSSES: Final = 3
SLICE: Final = 2_000
FIRST_ID: Final = UUID(int=0)


async def sweep(
    pool: asyncpg.Pool, registry: Registry, behind: UUID | None = None
) -> tuple[Bells, UUID | None]:
    """Do one round of the sweep; gives what to ring.

    Steps with effects are looked at slice by slice, however many there are: give the second
    value to the next round as `behind`.
    """
    async with pool.acquire() as db:
        bells = await _bury_dead_workers(db, registry)
        bells.families |= {
            row["family"] for row in await db.fetch(queries.ready_families, list(FAMILIES))
        }
        bells.events = await db.fetchval(queries.has_undispatched_events)
        overdue = await db.fetchval(queries.overdue, list(registry.timers))
        bells.wake_at |= {overdue} if overdue is not None else set()
        bells.operations = await db.fetchval(operations.has_waiting_operations)
        settled, behind = await _settle_stragglers(db, behind)
    return bells | settled, behind


async def _bury_dead_workers(db: Connection, registry: Registry) -> Bells:
    """Take away workers whose lease has run out, with all that they had in hand."""
    async with db.transaction():
        now = await current_instant(db)
        dead = [row["id"] for row in await db.fetch(queries.take_dead_workers, now)]
        # Hands and claims of workers that are not registered (any more) count as well.
        bells = await _give_back_steps(db, dead)
        bells |= await _give_back_effects(db, dead, registry)
        await _give_back_operations(db)
    if dead:
        log.warning("workers.dead", workers=[str(worker) for worker in dead])
    return bells


async def _give_back_steps(db: Connection, dead: Sequence[object]) -> Bells:
    now = await current_instant(db)
    families = {row["family"] for row in await db.fetch(queries.isolate_steps_in_hand)}
    rows = await db.fetch(queries.give_back_running_steps, now, MOST_LOSSES)
    if families or rows:
        log.warning(
            "steps.given_back",
            running=len(rows),
            step_ids=some_ids(row["id"] for row in rows),
            execution_ids=some_ids(row["execution_id"] for row in rows),
            dead=len(dead),
        )
    return Bells(families=families | {row["family"] for row in rows})


async def _give_back_effects(db: Connection, dead: Sequence[object], registry: Registry) -> Bells:
    now = await current_instant(db)
    repeated = [kind for kind, type_ in registry.effects.items() if type_.on_unknown == "repeat"]
    rows = await db.fetch(queries.give_back_effects, now, MOST_LOSSES, repeated)
    if rows:
        log.warning(
            "effects.given_back",
            effects=len(rows),
            effect_ids=some_ids(row["id"] for row in rows),
            execution_ids=some_ids(row["execution_id"] for row in rows if row["execution_id"]),
            dead=len(dead),
        )
    ended = {r["step_id"] for r in rows if r["gates_step"] and r["status"] in ("unknown", "failed")}
    families = {r["family"] for r in rows if r["status"] == "pending"}
    return Bells(families=families | await settle(db, ended, now))


async def _give_back_operations(db: Connection) -> None:
    now = await current_instant(db)
    rows = await db.fetch(operations.give_back_operations, now, MOST_LOSSES)
    if rows:
        log.warning("operations.given_back", operations=len(rows))


async def _settle_stragglers(db: Connection, behind: UUID | None) -> tuple[Bells, UUID | None]:
    """Settle steps whose effects have all ended without anybody noticing (a crash in between)."""
    rows = await db.fetch(queries.unsettled_steps, behind or FIRST_ID, SLICE)
    ended = [row["id"] for row in rows if not row["is_open"]]
    async with db.transaction():
        families = await settle(db, ended, await current_instant(db))
    return Bells(families=families), rows[-1]["id"] if len(rows) == SLICE else None
