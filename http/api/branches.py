"""Branches of a workflow: chains beside the trunk, entered by time-outs and fallbacks."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from aiohttp import web

from api import workflows
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Name
from api.shown import Listing, Shown
from runtime.ids import new_id
from sql import load

queries = load("api_workflows")


class NewBranch(Body):
    """A branch to be."""

    name: Name


class ShownBranch(Shown):
    """A branch of a workflow."""

    id: UUID
    workflow_id: UUID
    name: str
    created_at: datetime


async def create(call: Call) -> web.Response:
    """Make a branch; actions get into it by their `branch_id`."""
    workflow_id, new = call.id("workflow_id"), await call.body(NewBranch)
    async with call.transaction() as db:
        lock = await workflows.lock_to_edit(call, db, workflow_id)
        row = await db.fetchrow(
            queries.add_branch, new_id(), call.account_id, workflow_id, new.name, lock["now"]
        )
        assert row is not None
        await call.record(db, "branch.created", ("branch", row["id"]), None, dict(row))
    return answer(dict(row), 201)


async def list_all(call: Call) -> web.Response:
    """List a workflow's branches, oldest first."""
    workflow = await workflows.find(call, call.pool)
    rows = await call.pool.fetch(queries.branches, call.account_id, workflow["id"])
    return answer({"items": [dict(row) for row in rows]})


_ALL: Final = "/api/v1/workflows/{workflow_id}/branches"

ROUTES: Final = (
    Route(
        "POST",
        _ALL,
        create,
        Permission.EDIT_WORKFLOWS,
        NewBranch,
        answers={201: ShownBranch},
        problems=frozenset({409}),
    ),
    Route("GET", _ALL, list_all, Permission.READ, answers={200: Listing[ShownBranch]}),
)
