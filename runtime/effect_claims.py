"""Claiming effects: never more than there are free slots, tokens and breakers that let through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.effect import Effect
from runtime.effect_grants import Rota, ask, hold_what_is_limited, name_probes
from runtime.lanes import MOST_LANES, Turns
from sql import load

queries = load("effects")

# Effects that are claimed alone have their turn even where ready work never ends.
ISOLATED_TURN: Final = 8


@dataclass(slots=True)
class EffectClaims:
    """Claims effects for one worker, taking turns along the lanes when there are very many.

    Only of `kinds` (None: any): what this worker does not know is left to others.
    """

    pool: asyncpg.Pool
    worker_id: UUID
    kinds: Sequence[str] | None = None
    _turns: Turns = field(default_factory=Turns)
    _rota: Rota = field(default_factory=Rota)
    _claims: int = 0

    async def claim(self, family: str, free: int) -> tuple[list[Effect], Bells]:
        """Claim at most `free` ready effects of a family; ring what the bells say after.

        Lanes that their limits or breakers do not let run are held until they may.
        """
        if free < 1:
            return [], Bells()
        self._claims += 1
        async with self.pool.acquire() as db, db.transaction():
            return await self._take(db, await self._lock(db, family, free))

    async def claim_isolated(self, family: str) -> tuple[list[Effect], Bells]:
        """Claim one effect that a dead worker had in hand; for a pool that has nothing in flight.

        Limits and breakers hold for it as for any other.
        """
        self._claims += 1
        async with self.pool.acquire() as db, db.transaction():
            rows = await db.fetch(queries.lock_isolated_effect, family, self.kinds)
            return await self._take(db, rows)

    async def has_isolated(self, family: str) -> bool:
        """Whether an effect is ready that is to be claimed alone."""
        found: bool = await self.pool.fetchval(queries.has_isolated_effect, family, self.kinds)
        return found

    async def is_turn_of_isolated(self, family: str) -> bool:
        """Whether the next claim is to be of an isolated effect, though others may be ready."""
        return (self._claims + 1) % ISOLATED_TURN == 0 and await self.has_isolated(family)

    async def _lock(self, db: Connection, family: str, free: int) -> list[asyncpg.Record]:
        lock, see, kinds = queries.lock_ready_effects, queries.effect_lanes_seen, self.kinds
        return await self._turns.claim(
            family,
            lambda behind: db.fetch(lock, family, free, behind, MOST_LANES, kinds),
            lambda behind: db.fetchrow(see, family, behind, MOST_LANES, kinds),
        )

    async def _take(
        self, db: Connection, rows: Sequence[asyncpg.Record]
    ) -> tuple[list[Effect], Bells]:
        if not rows:
            return [], Bells()
        now = await current_instant(db)
        grants = await ask(db, rows, now)
        chosen = self._rota.choose(rows, grants)
        await name_probes(db, chosen, grants)
        bells = await hold_what_is_limited(db, rows, grants)
        ids = [row["id"] for row in chosen]
        claimed = await db.fetch(queries.claim_effects, ids, self.worker_id, now)
        return [Effect(**dict(row)) for row in claimed], bells
