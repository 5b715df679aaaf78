"""A workflow's draft under lock: the one way to change actions.

Opening it locks the workflow and then reads the whole chain (50 rows at most), so that
concurrent changes queue up and each leaves positions and links whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast
from uuid import UUID

import asyncpg

from api import chains, workflows
from api.action_configs import free_key
from api.calls import Call
from api.chains import Orders, Row
from api.etags import check_match
from api.gathered_drafts import DRAFTS
from api.problems import conflict, invalid, not_found
from runtime.configuration import Fault
from runtime.database import Connection
from sql import load

queries = load("api_actions")
workflow_queries = load("api_workflows")

MOST_ACTIONS: Final = 50

# The SQL function open_draft gives so many columns of the workflow before those of the action.
_OF_THE_WORKFLOW: Final = 4


@dataclass(frozen=True, slots=True)
class Draft:
    """The live actions of a workflow, in order; `now` is the instant of the change.

    `workflow` is the workflow's id and the instant of the change before this one, `updated_at` what
    stands there now. `db` is the pool for a draft that was read without a lock.
    """

    account_id: UUID
    workflow_id: UUID
    db: Connection | asyncpg.Pool
    now: datetime
    revision: int
    updated_at: datetime
    workflow: Row
    actions: dict[UUID, Row]

    @property
    def orders(self) -> Orders:
        """The order of each chain."""
        return chains.orders_of(self.actions.values())

    def action(self, action_id: UUID) -> Row:
        """Find a live action, or raise the 404 Problem."""
        if action_id not in self.actions:
            raise not_found("action")
        return self.actions[action_id]

    def check_match(self, call: Call) -> None:
        """Refuse what was meant for another state of the whole workflow."""
        check_match(call.request, self.workflow)

    def check_room(self) -> None:
        """Refuse one action too many."""
        if len(self.actions) >= MOST_ACTIONS:
            message = f"A workflow has {MOST_ACTIONS} actions at most."
            raise conflict("too_many_actions", message)

    def key_for(self, wanted: str | None, action_type: str, own_id: UUID | None = None) -> str:
        """Give the wanted key if it is free in the workflow, or without one derive it."""
        taken = {row["key"] for row in self.actions.values() if row["id"] != own_id}
        if wanted in taken:
            message = f"Another action of this workflow has the key {wanted}."
            raise invalid(Fault("key", "key_taken", message))
        return wanted or free_key(action_type, taken)

    def check_fallback(self, fallback_id: UUID | None, own_id: UUID | None = None) -> None:
        """Refuse a fallback that is not another action of this workflow."""
        if fallback_id is not None and (fallback_id not in self.actions or fallback_id == own_id):
            message = "The fallback must be another action of this workflow."
            raise invalid(Fault("fallback_action_id", "fallback_unknown", message))

    async def check_branch(self, branch_id: UUID | None) -> None:
        """Refuse a branch that is none of this workflow."""
        if branch_id is None or branch_id in self.orders:
            return
        if not await self.db.fetchval(
            workflow_queries.has_branch, self.account_id, self.workflow_id, branch_id
        ):
            message = "There is no such branch in this workflow."
            raise invalid(Fault("branch_id", "branch_unknown", message))

    async def arrange(self, orders: Orders) -> None:
        """Write the positions and links that new orders bring, in one statement."""
        links = chains.changed(self.actions.values(), chains.links(orders))
        if links:
            columns = chains.columns(links)
            await self.db.execute(queries.link_actions, self.account_id, *columns, self.now)

    async def read(self, action_id: UUID) -> Row:
        """Read an action as it is after our changes."""
        row = await self.db.fetchrow(queries.action, self.account_id, self.workflow_id, action_id)
        assert row is not None  # nobody deletes it while we hold the lock
        return dict(row)


async def open_draft(call: Call, db: Connection) -> Draft:
    """Lock the workflow of the path and read its actions; 404 or 409 as `lock_to_edit` says."""
    rows = await db.fetch(queries.open_draft, call.account_id, call.id("workflow_id"))
    draft = _draft(call, db, rows, "changed_at")
    names = list(rows[0].keys())[_OF_THE_WORKFLOW:]
    actions = [dict(zip(names, row[_OF_THE_WORKFLOW:], strict=True)) for row in rows]
    draft.actions.update((row["id"], row) for row in actions if row["id"] is not None)
    return draft


async def read_draft(call: Call) -> Draft:
    """The same without a lock, for who writes in one statement that asks for the revision read.

    Gives of the actions only where they stand, their types and keys: configs may be large.
    """
    drafts = call.request.app[DRAFTS]
    rows = await drafts.read(call.account_id, call.id("workflow_id"))
    draft = _draft(call, call.pool, rows, "was_updated_at")
    draft.actions.update((row["id"], cast("Row", row)) for row in rows if row["id"] is not None)
    return draft


def _draft(
    call: Call, db: Connection | asyncpg.Pool, rows: Sequence[asyncpg.Record], updated_at: str
) -> Draft:
    """Make a draft that lacks its actions yet; `updated_at` is the column that says so."""
    if not rows:
        raise not_found("workflow")
    workflow_id, first = call.id("workflow_id"), rows[0]
    workflows.check_editable(first["status"])
    return Draft(
        call.account_id,
        workflow_id,
        db,
        first["changed_at"],
        first["revision"],
        first[updated_at],
        {"id": workflow_id, "updated_at": first["was_updated_at"]},
        {},
    )
