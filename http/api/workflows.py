"""Workflows: create, list, read, and their life from draft to archive."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import Field, StringConstraints

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import EventType, Name
from api.parameters import Page, page_of
from api.problems import Problem, conflict, not_found
from api.shown import PageOf, Shown
from runtime import activation, clock
from runtime.database import Connection
from runtime.ids import new_id
from sql import load

queries = load("api_workflows")

EDITABLE: Final = ("draft", "paused")


class Condition(Body):
    """What a field must be; `field` is a dotted path, such as payload.tag_name or contact.email."""

    field: Annotated[str, StringConstraints(pattern=r"^(payload|contact)(\.[A-Za-z0-9_]+)+$")]
    operator: Literal["equals", "not_equals", "contains", "greater_than", "less_than", "exists"]
    value: Any = None


class Trigger(Body):
    """Which events let their contact in: those of one type that meet all conditions."""

    event_type: EventType
    conditions: list[Condition] = Field(default_factory=list, max_length=20)


class NewWorkflow(Body):
    """A workflow to be."""

    name: Name
    trigger: Trigger | None = None


Status = Literal["draft", "active", "paused", "archived"]


class WorkflowPage(Page):
    """Which workflows to list."""

    status: Status | None = None


class ShownTrigger(Shown):
    """Which events let their contact in."""

    event_type: str
    conditions: list[ShownCondition]


class ShownCondition(Shown):
    """What a field must be."""

    field: str
    operator: Literal["equals", "not_equals", "contains", "greater_than", "less_than", "exists"]
    value: Any


class ShownWorkflow(Shown):
    """A workflow; contacts run the version that is active."""

    id: UUID
    name: str
    status: Status
    trigger: ShownTrigger | None
    active_version_id: UUID | None
    created_at: datetime
    updated_at: datetime


class ShownActivation(ShownWorkflow):
    """A workflow that was activated, with the number of its version."""

    version: int


def show(row: asyncpg.Record | None) -> dict[str, Any]:
    """Show a workflow that is known to be there."""
    assert row is not None
    return dict(row)


async def create(call: Call) -> web.Response:
    """Make a draft."""
    new = await call.body(NewWorkflow)
    trigger = new.trigger and new.trigger.model_dump(mode="json")
    async with call.transaction() as db:
        shown = show(
            await db.fetchrow(
                queries.add_workflow,
                new_id(),
                call.account_id,
                new.name,
                trigger,
                call.caller.user_id,
            )
        )
        await call.record(db, "workflow.created", ("workflow", shown["id"]), None, shown)
    return answer(shown, 201, {"Location": f"/api/v1/workflows/{shown['id']}"})


async def list_all(call: Call) -> web.Response:
    """List workflows, newest first."""
    page = call.parameters(WorkflowPage)
    rows = await call.pool.fetch(
        queries.workflows, call.account_id, page.status, *page.after(), page.limit + 1
    )
    return answer(page_of(rows, page.limit, show))


async def read(call: Call) -> web.Response:
    """Read one workflow."""
    return answer(show(await find(call, call.pool)))


async def find(call: Call, db: Connection | asyncpg.Pool) -> asyncpg.Record:
    """Find the workflow of the path, or a 404 Problem."""
    row = await db.fetchrow(queries.workflow, call.account_id, call.id("workflow_id"))
    if row is None:
        raise not_found("workflow")
    return row


async def lock_to_edit(call: Call, db: Connection, workflow_id: UUID) -> asyncpg.Record:
    """Lock a workflow's definition until the commit; a 409 Problem unless it is draft or paused.

    Gives its status and the instant of the change (`now`). Everybody who changes a definition
    comes by here first, so that what is read afterwards stays true.
    """
    row = await db.fetchrow(queries.lock_workflow_to_edit, call.account_id, workflow_id)
    if row is None:
        raise not_found("workflow")
    if row["status"] not in EDITABLE:
        message = (
            f"The workflow is {row['status']}; only a draft or paused workflow can be changed."
        )
        raise conflict("workflow_not_editable", message)
    return row


async def _lock(call: Call, db: Connection) -> dict[str, Any]:
    row = await db.fetchrow(queries.lock_workflow, call.account_id, call.id("workflow_id"))
    if row is None:
        raise not_found("workflow")
    return show(row)


async def _conclude(
    call: Call, db: Connection, change: str, before: dict[str, Any]
) -> dict[str, Any]:
    after = show(await find(call, db))
    if after["status"] != before["status"]:
        await call.record(db, change, ("workflow", before["id"]), before, after)
    return after


async def activate(call: Call) -> web.Response:
    """Make the draft an immutable version and let contacts in; a paused workflow goes on."""
    async with call.transaction() as db:
        before = await _lock(call, db)
        try:
            version = await activation.activate(
                db,
                await clock.current_instant(db),
                call.services.registry,
                call.account_id,
                before["id"],
                call.caller.user_id,
            )
        except activation.NotActivatableError as refusal:
            raise Problem(
                refusal.status, refusal.code, str(refusal), errors=refusal.faults
            ) from None
        after = await _conclude(call, db, "workflow.activated", before)
    await call.ring(version.families)
    return answer({**after, "version": version.number})


async def pause(call: Call) -> web.Response:
    """Keep the workflow from beginning steps and letting contacts in; waits keep their place."""
    async with call.transaction() as db:
        before = await _lock(call, db)
        if before["status"] not in {"active", "paused"}:
            raise conflict("workflow_not_active", f"The workflow is {before['status']}.")
        now = await clock.current_instant(db)
        await activation.pause(db, now, call.account_id, before["id"])
        after = await _conclude(call, db, "workflow.paused", before)
    return answer(after)


async def archive(call: Call) -> web.Response:
    """Let no more contacts in, for good. Runs of an active workflow go on to their ends."""
    async with call.transaction() as db:
        before = await _lock(call, db)
        await db.execute(queries.archive_workflow, call.account_id, before["id"])
        after = await _conclude(call, db, "workflow.archived", before)
    return answer(after)


_ONE: Final = "/api/v1/workflows/{workflow_id}"

ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/workflows",
        create,
        Permission.EDIT_WORKFLOWS,
        NewWorkflow,
        answers={201: ShownWorkflow},
    ),
    Route(
        "GET",
        "/api/v1/workflows",
        list_all,
        Permission.READ,
        parameters=WorkflowPage,
        answers={200: PageOf[ShownWorkflow]},
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: ShownWorkflow}),
    Route(
        "POST",
        f"{_ONE}/activate",
        activate,
        Permission.EDIT_WORKFLOWS,
        answers={200: ShownActivation},
        problems=frozenset({409, 422}),
    ),
    Route(
        "POST",
        f"{_ONE}/pause",
        pause,
        Permission.EDIT_WORKFLOWS,
        answers={200: ShownWorkflow},
        problems=frozenset({409}),
    ),
    Route(
        "POST",
        f"{_ONE}/archive",
        archive,
        Permission.EDIT_WORKFLOWS,
        answers={200: ShownWorkflow},
    ),
)
