"""Drafts that are read and added to by many requests at once (see api.gathering).

Several people, importers above all, build workflows in the same second. Most change a draft of
their own, so what they read needs no lock, and what they write goes in one statement that asks of
each draft whether it stands at the revision that was read.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web

from api.chains import Link, Row
from api.gathering import PATIENCE_SECONDS, Gathering
from runtime.database import Connection
from sql import load

queries = load("api_actions")

MOST_AT_ONCE: Final = 50

# What the server undid as a whole, or what never reached it: trying again doubles nothing.
_UNDONE: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.TransactionRollbackError,
    asyncpg.QueryCanceledError,
    ValueError,  # cannot be encoded
)

DraftId = tuple[UUID, UUID]
"""The account and the workflow."""


@dataclass(frozen=True, slots=True)
class Addition:
    """A new action for a draft that stands at `revision`, with its neighbours' new links.

    `updated_at`: of the workflow as it was read. `change` are the arguments of the SQL function
    record_change.
    """

    account_id: UUID
    revision: int
    updated_at: datetime
    row: Row
    links: Sequence[Link]
    change: tuple[Any, ...]


class GatheredDrafts:
    """Reads drafts and adds actions to them, for one process."""

    def __init__(self, pool: asyncpg.Pool, turns: asyncio.Semaphore) -> None:
        self._pool = pool
        self._turns = turns
        self._reads = Gathering(self._read, MOST_AT_ONCE, alone=())
        self._additions = Gathering(self._add, MOST_AT_ONCE, alone=_UNDONE)

    async def read(self, account_id: UUID, workflow_id: UUID) -> Sequence[asyncpg.Record]:
        """Read where the actions of a draft stand, as the query `drafts` shows it."""
        return await self._reads.bring((account_id, workflow_id))

    async def add(self, addition: Addition) -> bool:
        """Add an action; False, and nothing done, if the draft was changed or is being changed."""
        return await self._additions.bring(addition)

    async def _read(self, drafts: Sequence[DraftId]) -> Sequence[Sequence[asyncpg.Record]]:
        accounts, workflows = zip(*dict.fromkeys(drafts), strict=True)
        async with self._turns:
            rows = await self._pool.fetch(
                queries.drafts, accounts, workflows, timeout=PATIENCE_SECONDS
            )
        found: dict[DraftId, list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            found[row["of_account"], row["of_workflow"]].append(row)
        return [found[draft] for draft in drafts]

    async def _add(self, additions: Sequence[Addition]) -> Sequence[bool]:
        first: dict[UUID, Addition] = {}  # a second one would find a later revision
        for addition in additions:
            first.setdefault(addition.row["workflow_id"], addition)
        async with self._turns, self._pool.acquire() as db:
            added = await add(db, list(first.values()))
        return [addition.row["id"] in added for addition in additions]


DRAFTS = web.AppKey("gathered_drafts", GatheredDrafts)


async def add(db: Connection, additions: Sequence[Addition]) -> set[UUID]:
    """Add actions to drafts, at most one to each; gives the ids of those that were.

    Left out are those whose draft stands at another revision or is locked by somebody else.
    """
    links = [
        (addition.account_id, addition.row["workflow_id"], *link)
        for addition in additions
        for link in addition.links
    ]
    rows = await db.fetch(
        queries.add_actions,
        [addition.account_id for addition in additions],
        [addition.revision for addition in additions],
        *([addition.row[column] for addition in additions] for column in _WRITTEN),
        *_columns([addition.change for addition in additions]),
        *(_columns(links) or [[]] * (len(Link._fields) + 2)),
        [addition.updated_at for addition in additions],
    )
    return {row["id"] for row in rows}


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


_WRITTEN: Final = (
    "id",
    "workflow_id",
    "action_type",
    "action_config",
    "position",
    "previous_action_id",
    "next_action_id",
    "branch_id",
    "is_enabled",
    "on_failure",
    "fallback_action_id",
    "key",
    "canvas_x",
    "canvas_y",
    "created_at",
)
