"""Lanes: the ready work of one (family, account, workflow, integration), held by one row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from runtime.database import Connection
from sql import load

queries = load("lanes")

LaneKey = tuple[str, UUID, UUID | None, UUID | None]
"""Family, account, workflow (None: none), integration (None: none)."""


async def get_or_create_lanes(db: Connection, keys: Sequence[LaneKey]) -> dict[LaneKey, int]:
    """Give the ids of lanes, making missing ones; a new lane of a paused workflow is paused."""
    ordered = sorted(set(keys), key=lambda k: tuple(map(str, k)))
    columns = [list(column) for column in zip(*ordered, strict=True)] if ordered else [[]] * 4
    rows = await db.fetch(queries.find_lanes, *columns)
    if len(rows) < len(ordered):
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
