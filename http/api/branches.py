"""Branches of a workflow: chains beside the trunk, entered by time-outs and fallbacks."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from aiohttp import web

from api import workflows
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.drafts import open_draft
from api.etags import check_match
from api.fields import Name
from api.problems import Problem, conflict, not_found
from api.shown import Listing, Shown
from runtime.configuration import Fault
from runtime.database import Connection
from runtime.definition_checks import TIMEOUT_BRANCH
from runtime.ids import new_id
from sql import load

queries = load("api_workflows")

MOST_BRANCHES: Final = 50


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
        check_match(call.request, {"id": workflow_id, "updated_at": lock["was_updated_at"]})
        row = await db.fetchrow(
            queries.add_branch, new_id(), call.account_id, workflow_id, new.name, lock["now"]
        )
        assert row is not None
        if len(await db.fetch(queries.branches, call.account_id, workflow_id)) > MOST_BRANCHES:
            message = f"A workflow has {MOST_BRANCHES} branches at most."
            raise conflict("too_many_branches", message)
        await call.record(db, "branch.created", ("branch", row["id"]), None, dict(row))
    return answer(dict(row), 201)


async def list_all(call: Call) -> web.Response:
    """List a workflow's branches, oldest first."""
    workflow = await workflows.find(call, call.pool)
    rows = await call.pool.fetch(queries.branches, call.account_id, workflow["id"])
    return answer({"items": [dict(row) for row in rows]})


async def read(call: Call) -> web.Response:
    """Read one branch."""
    row = await _find(call, call.pool)
    return answer(dict(row))


async def _find(call: Call, db: Connection | asyncpg.Pool) -> asyncpg.Record:
    ids = call.account_id, call.id("workflow_id"), call.id("branch_id")
    row = await db.fetchrow(queries.branch, *ids)
    if row is None:
        raise not_found("branch")
    return row


async def rename(call: Call) -> web.Response:
    """Rename a branch."""
    new = await call.body(NewBranch)
    async with call.transaction() as db:
        workflow_id = call.id("workflow_id")
        lock = await workflows.lock_to_edit(call, db, workflow_id)
        check_match(call.request, {"id": workflow_id, "updated_at": lock["was_updated_at"]})
        before = await _find(call, db)
        ids = call.account_id, before["workflow_id"], before["id"]
        after = await db.fetchrow(queries.rename_branch, *ids, new.name)
        assert after is not None
        entity = ("branch", before["id"])
        await call.record(db, "branch.changed", entity, dict(before), dict(after))
    return answer(dict(after))


async def delete(call: Call) -> web.Response:
    """Delete a branch; a 409 Problem while it holds actions or a time-out leads to it."""
    async with call.transaction() as db:
        draft = await open_draft(call, db)
        draft.check_match(call)
        before = await _find(call, db)
        if before["id"] in draft.orders:
            raise conflict("branch_not_empty", "Actions stand in this branch; delete them first.")
        uses = [
            Fault(f"actions[{row['id']}].action_config.{TIMEOUT_BRANCH}", "in_use", _LED_TO)
            for row in draft.actions.values()
            if row["action_config"].get(TIMEOUT_BRANCH) == str(before["id"])
        ]
        if uses:
            raise Problem(409, "in_use", _LED_TO, errors=uses)
        ids = call.account_id, before["workflow_id"], before["id"]
        await db.execute(queries.delete_branch, *ids, draft.now)
        await call.record(db, "branch.deleted", ("branch", before["id"]), dict(before), None)
    return web.Response(status=204)


_LED_TO: Final = "A time-out leads to this branch."
_ALL: Final = "/api/v1/workflows/{workflow_id}/branches"
_ONE: Final = f"{_ALL}/{{branch_id}}"

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
    Route("GET", _ONE, read, Permission.READ, answers={200: ShownBranch}),
    Route(
        "PATCH",
        _ONE,
        rename,
        Permission.EDIT_WORKFLOWS,
        NewBranch,
        answers={200: ShownBranch},
        problems=frozenset({409}),
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        Permission.EDIT_WORKFLOWS,
        answers={204: None},
        problems=frozenset({409}),
    ),
)
