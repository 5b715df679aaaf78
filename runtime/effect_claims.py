"""Claiming effects: never more than there are free slots, tokens and breakers that let through."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from runtime import lanes
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.effect import Effect
from runtime.lanes import MOST_LANES, Turns
from sql import load

queries = load("effects")

# Effects that are claimed alone have their turn even where ready work never ends.
ISOLATED_TURN: Final = 8
PROBE_SECONDS: Final = 60.0


@dataclass(slots=True)
class Grant:
    """How many calls an integration's limits and breaker allow now, and until when not more."""

    count: int
    is_probe: bool = False
    reason: str | None = None
    next_at: datetime | None = None


@dataclass(slots=True)
class EffectClaims:
    """Claims effects for one worker, taking turns along the lanes when there are very many."""

    pool: asyncpg.Pool
    worker_id: UUID
    _turns: Turns = field(default_factory=Turns)
    _claims: int = 0

    async def claim(self, family: str, free: int) -> tuple[list[Effect], Bells]:
        """Claim at most `free` ready effects of a family; ring what the bells say after.

        Lanes that their limits or breakers do not let run are held until they may.
        """
        if free < 1:
            return [], Bells()
        async with self.pool.acquire() as db, db.transaction():
            rows = await self._lock(db, family, free)
            if not rows:
                return [], Bells()
            now = await current_instant(db)
            grants = await _ask(db, rows, now)
            chosen, bells = await _choose(db, rows, grants)
            claimed = await db.fetch(queries.claim_effects, chosen, self.worker_id, now)
            return [Effect(**dict(row)) for row in claimed], bells

    async def _lock(self, db: Connection, family: str, free: int) -> list[asyncpg.Record]:
        self._claims += 1
        alone_first = self._claims % ISOLATED_TURN == 0
        if alone_first and (rows := await db.fetch(queries.lock_isolated_effect, family)):
            return rows
        rows = await self._turns.claim(
            family,
            lambda behind: db.fetch(queries.lock_ready_effects, family, free, behind, MOST_LANES),
            lambda behind: db.fetchrow(queries.effect_lanes_seen, family, behind, MOST_LANES),
        )
        return rows or await db.fetch(queries.lock_isolated_effect, family)


async def _ask(db: Connection, rows: Sequence[asyncpg.Record], now: datetime) -> dict[UUID, Grant]:
    """Ask breakers and limits for all integrations of a batch, in two statements."""
    wanted = Counter(row["integration_id"] for row in rows if row["integration_id"] is not None)
    grants = {integration: Grant(count) for integration, count in wanted.items()}
    if not grants:
        return {}
    for row in await db.fetch(queries.ask_breakers, list(wanted), now, PROBE_SECONDS):
        is_probe = row["admits"] == "probe"
        grants[row["integration_id"]] = Grant(
            int(is_probe), is_probe, "breaker_open", row["next_at"]
        )
    asking = {integration: g.count for integration, g in grants.items() if g.count}
    for row in await db.fetch(queries.take_tokens, list(asking), list(asking.values()), now):
        grant = grants[row["integration_id"]]
        if row["reason"] is not None:
            grant.count, grant.reason, grant.next_at = row["granted"], row["reason"], row["next_at"]
            if grant.is_probe and grant.count == 0:
                await db.execute(queries.put_off_probe, row["integration_id"], row["next_at"])
    return grants


async def _choose(
    db: Connection, rows: Sequence[asyncpg.Record], grants: dict[UUID, Grant]
) -> tuple[list[UUID], Bells]:
    """Take the rows that are granted, name the probes, and hold the lanes of the others."""
    chosen: list[UUID] = []
    held: dict[str, dict[int, datetime]] = defaultdict(dict)
    left = {integration: grant.count for integration, grant in grants.items()}
    for row in rows:
        integration = row["integration_id"]
        if integration is None:
            chosen.append(row["id"])
        elif left[integration] > 0:
            left[integration] -= 1
            chosen.append(row["id"])
            if grants[integration].is_probe:
                await db.execute(queries.name_probe, integration, row["id"])
        grant = grants.get(integration)
        # Held as soon as the grant is used up, not only once somebody was turned away: the next
        # claim would only find out the same.
        if grant is not None and grant.reason and grant.next_at and left[integration] == 0:
            held[grant.reason][row["lane_id"]] = grant.next_at
    for reason, until in held.items():
        await lanes.hold(db, list(until), list(until.values()), reason)
    return chosen, Bells(wake_at={at for until in held.values() for at in until.values()})
