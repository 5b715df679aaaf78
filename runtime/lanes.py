"""Lanes: the ready work of one (family, account, workflow, integration), held by one row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from runtime.database import Connection
from sql import load

queries = load("lanes")

MOST_LANES: Final = 256
"""How many lanes one claim looks at."""

LaneKey = tuple[str, UUID, UUID | None, UUID | None]
"""Family, account, workflow (None: none), integration (None: none)."""


async def get_or_create_lanes(db: Connection, keys: Sequence[LaneKey]) -> dict[LaneKey, int]:
    """Give the ids of lanes, making missing ones; a new lane of a paused workflow is paused."""
    ordered = sorted(set(keys), key=lambda k: tuple(map(str, k)))
    columns = [list(column) for column in zip(*ordered, strict=True)] if ordered else [[]] * 4
    rows = await db.fetch(queries.find_lanes, *columns)
    if len(rows) < len(ordered):
        async with db.transaction():
            # Locked by a statement of its own: whoever pauses or activates one of them has either
            # committed by now, or will see the lanes that are made here.
            await db.execute(queries.lock_workflows, columns[2])
            await db.execute(queries.make_lanes, *columns)
        rows = await db.fetch(queries.find_lanes, *columns)
    return {
        (r["family"], r["account_id"], r["workflow_id"], r["integration_id"]): r["id"] for r in rows
    }


async def hold(
    db: Connection, lane_ids: Sequence[int], until: Sequence[datetime], reason: str
) -> None:
    """Hold lanes until an instant each, for a reason that people see; a longer hold stays."""
    await db.execute(queries.hold_lanes, list(lane_ids), list(until), reason)


@dataclass(slots=True)
class Turns:
    """Where along the lanes each family's next claim begins, so that all lanes take turns.

    A claim looks at MOST_LANES lanes with ready work and serves as many as it has places. Its
    rows say in `next_lane` behind which lane the next one begins; 0: from the first on.
    """

    _behind: dict[str, int] = field(default_factory=dict)

    async def claim(
        self,
        family: str,
        fetch: Callable[[int], Awaitable[list[asyncpg.Record]]],
        see: Callable[[int], Awaitable[asyncpg.Record | None]],
    ) -> list[asyncpg.Record]:
        """Claim by `fetch(behind)` along the lanes, at most once around.

        `see(behind)` says how far a claim that found nothing has looked.
        """
        behind = self._behind.get(family, 0)
        last_round = behind == 0
        while not (rows := await fetch(behind)):
            seen = await see(behind)
            if seen is not None and seen["visited"] >= MOST_LANES:
                behind = seen["last_lane"]
            elif last_round:
                break
            else:
                behind, last_round = 0, True
        self._behind[family] = rows[0]["next_lane"] if rows else 0
        return rows
