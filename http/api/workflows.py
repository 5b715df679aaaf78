"""Workflows: made, changed, deleted, and their life from draft to archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from api.draft_checks import faults_of_draft
from api.etags import check_match, tagged
from api.fields import EventType, Name, left_out
from api.lists import List, Page, page_of
from api.problems import Problem, conflict, invalid, not_found
from api.shown import Shown
from api.tags import beginning_of
from api.uses import Force
from api.workflow_loops import loops_of
from runtime import activation, clock, executions
from runtime.configuration import MOST_FAULTS, Fault, summary
from runtime.database import Connection
from runtime.ids import new_id
from sql import load

queries = load("api_workflows")

EDITABLE: Final = ("draft", "paused")
# Runs that a deletion cancels with it; more are cancelled in the background.
MOST_LIVE: Final = 10_000


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


class WorkflowChange(Body):
    """What is to be different. An active workflow listens to another trigger at once."""

    name: Name = left_out()
    trigger: Trigger | None = None


Status = Literal["draft", "active", "paused", "archived"]


class WorkflowPage(Page):
    """Which workflows to list; `search` is the beginning of a name."""

    status: Status | None = None
    event_type: Annotated[str, Field(max_length=50)] | None = None
    search: Annotated[str, Field(max_length=100)] | None = None


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


class ShownWorkflowDeletion(Shown):
    """The runs that were cancelled with their workflow."""

    cancelled_execution_ids: list[UUID]


class ShownWarning(Shown):
    """Something that may well be wanted, and is to be looked at."""

    code: str
    message: str


class ShownActivation(ShownWorkflow):
    """A workflow that was activated, with the number of its version."""

    version: int
    warnings: list[ShownWarning]


def show(row: asyncpg.Record | None) -> dict[str, Any]:
    """Show a workflow that is known to be there."""
    assert row is not None
    return dict(row)


LIST: Final = List(queries.workflows, ShownWorkflow, "-created_at", show)


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
    location = {"Location": f"/api/v1/workflows/{shown['id']}"}
    return answer(shown, 201, {**location, **tagged(shown)})


async def list_all(call: Call) -> web.Response:
    """List workflows, newest first; sorts: created_at, name."""
    page = call.parameters(WorkflowPage)
    beginning = page.search and beginning_of(page.search)
    return answer(await LIST.page(call.pool, page, call.account_id, search=beginning))


async def read(call: Call) -> web.Response:
    """Read one workflow."""
    row = await find(call, call.pool)
    return answer(show(row), headers=tagged(row))


async def change(call: Call) -> web.Response:
    """Rename a workflow, or change what starts it."""
    body = await call.body(WorkflowChange)
    given = body.model_dump(mode="json", include=body.model_fields_set)
    async with call.transaction() as db:
        before = await lock(call, db)
        check_match(call.request, before)
        if before["status"] == "archived":
            raise conflict("workflow_archived", "An archived workflow stays as it is.")
        new = {**before, **given}
        if before["status"] == "active" and "trigger" in given:
            await _refuse_loops(call, db, new)
        values = new["name"], new["trigger"]
        await db.execute(queries.change_workflow, call.account_id, before["id"], *values)
        if before["status"] == "active" and "trigger" in given:
            await activation.listen(db, call.account_id, before["id"], new["trigger"])
        after = show(await find(call, db))
        await call.record(db, "workflow.changed", ("workflow", before["id"]), before, after)
    return answer(after, headers=tagged(after))


async def _refuse_loops(call: Call, db: Connection, workflow: Mapping[str, Any]) -> None:
    """Refuse a trigger by which the version in force would start itself for ever."""
    ids = call.account_id, workflow["active_version_id"]
    rows = [dict(row) for row in await db.fetch(activation.queries.version_actions, *ids)]
    if faults := (await loops_of(call, db, workflow, rows)).faults:
        raise invalid(*faults)


async def delete(call: Call) -> web.Response:
    """Delete a workflow; history keeps it.

    A 409 Problem while campaigns enrol in it, or runs of it are alive, unless by force: then those
    runs are cancelled, which the answer names, and the campaigns let nobody in any more.
    """
    force = call.parameters(Force).force
    async with call.transaction() as db:
        before = await lock(call, db)
        check_match(call.request, before)
        ids = call.account_id, before["id"]
        campaigns = await db.fetch(queries.campaigns_of_workflow, *ids)
        live = [row["id"] for row in await db.fetch(queries.live_executions, *ids, MOST_LIVE + 1)]
        _spare(campaigns, live, force=force)
        await executions.cancel(
            db, await clock.current_instant(db), call.account_id, live, "workflow_deleted"
        )
        await db.execute(queries.delete_workflow, *ids)
        cancelled = {"cancelled_execution_ids": live}
        entity = ("workflow", before["id"])
        await call.record(db, "workflow.deleted", entity, before, cancelled if live else None)
    return answer(cancelled) if live else web.Response(status=204)


def _spare(campaigns: Sequence[asyncpg.Record], live: Sequence[UUID], *, force: bool) -> None:
    if campaigns and not force:
        faults = [
            Fault(f"campaigns[{row['id']}]", "in_use", f"The campaign {row['name']} enrols in it.")
            for row in campaigns[:MOST_FAULTS]
        ]
        raise Problem(409, "in_use", summary(faults), errors=faults)
    if live and not force:
        count = f"{len(live):,}" if len(live) <= MOST_LIVE else f"More than {MOST_LIVE:,}"
        message = f"{count} runs of this workflow are alive. With force=true they are cancelled."
        raise conflict("workflow_has_live_executions", message)
    if len(live) > MOST_LIVE:
        message = f"More than {MOST_LIVE:,} runs are alive; cancel them by /executions/bulk first."
        raise conflict("too_many_live_executions", message)


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
    check_editable(row["status"])
    return row


def check_editable(status: str) -> None:
    """Refuse to change what runs: a 409 Problem."""
    if status not in EDITABLE:
        message = f"The workflow is {status}; only a draft or paused workflow can be changed."
        raise conflict("workflow_not_editable", message)


async def lock(call: Call, db: Connection) -> dict[str, Any]:
    """Lock the workflow of the path against other changes; a 404 Problem if there is none."""
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
        before = await lock(call, db)
        check_match(call.request, before)
        rows = [dict(row) for row in await db.fetch(activation.queries.draft_actions, *_ids(call))]
        loops = await loops_of(call, db, before, rows)
        faults = [*await faults_of_draft(call, db, rows), *loops.faults]
        try:
            version = await activation.activate(
                db,
                await clock.current_instant(db),
                call.services.registry,
                call.account_id,
                before["id"],
                call.caller.user_id,
                faults,
            )
        except activation.NotActivatableError as refusal:
            raise Problem(
                refusal.status, refusal.code, str(refusal), errors=refusal.faults
            ) from None
        after = await _conclude(call, db, "workflow.activated", before)
    await call.ring(version.families)
    told = {"version": version.number, "warnings": loops.warnings}
    return answer({**after, **told}, headers=tagged(after))


def _ids(call: Call) -> tuple[UUID, UUID]:
    return call.account_id, call.id("workflow_id")


async def pause(call: Call) -> web.Response:
    """Keep the workflow from beginning steps and letting contacts in; waits keep their place."""
    async with call.transaction() as db:
        before = await lock(call, db)
        check_match(call.request, before)
        if before["status"] not in {"active", "paused"}:
            raise conflict("workflow_not_active", f"The workflow is {before['status']}.")
        now = await clock.current_instant(db)
        await activation.pause(db, now, call.account_id, before["id"])
        after = await _conclude(call, db, "workflow.paused", before)
    return answer(after, headers=tagged(after))


async def archive(call: Call) -> web.Response:
    """Let no more contacts in, for good. Runs of an active workflow go on to their ends."""
    async with call.transaction() as db:
        before = await lock(call, db)
        check_match(call.request, before)
        await db.execute(queries.archive_workflow, call.account_id, before["id"])
        after = await _conclude(call, db, "workflow.archived", before)
    return answer(after, headers=tagged(after))


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
        answers={200: page_of(ShownWorkflow)},
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: ShownWorkflow}),
    Route(
        "PATCH",
        _ONE,
        change,
        Permission.EDIT_WORKFLOWS,
        WorkflowChange,
        answers={200: ShownWorkflow},
        problems=frozenset({409}),
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        Permission.EDIT_WORKFLOWS,
        parameters=Force,
        answers={204: None, 200: ShownWorkflowDeletion},
        problems=frozenset({409}),
    ),
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
