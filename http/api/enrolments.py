"""Enrolling contacts in a workflow: by id, or by tag; and who was not let in, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, StringConstraints

from actors.contact_filters import ContactFilter
from actors.enroll_by_tag import queries as tag_queries
from api import operations, workflows
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Object
from api.parameters import Parameters
from api.problems import conflict, invalid
from api.shown import Shown
from runtime import clock, executions, refusals
from runtime.configuration import Fault
from runtime.definitions import CompiledVersion
from runtime.executions import Enrolment, Entry

MOST_CONTACTS: Final = 10_000


class NewRuns(Body):
    """Who is to enter, and how; runs of one contact under different entry keys may coexist."""

    contact_ids: Annotated[list[UUID], Field(min_length=1, max_length=MOST_CONTACTS)]
    entry_key: Annotated[str, StringConstraints(max_length=200)] = ""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    context: Object = Field(default_factory=dict)


class NewRunsByTag(Body):
    """Which contacts are to enter: those that carry the tag and pass the filter."""

    tag_id: UUID
    filter: ContactFilter = ContactFilter()
    entry_key: Annotated[str, StringConstraints(max_length=200)] = ""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    context: Object = Field(default_factory=dict)


class RefusalPage(Parameters):
    """Which refusals to list: those older than `before` (the `next_before` of the page before)."""

    contact_id: UUID | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 200
    before: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None


class ShownRefusal(Shown):
    """A contact who was not let in, by hand or (with the event) by the workflow's trigger."""

    id: int
    contact_id: UUID
    event_id: int | None
    reason: str
    refused_at: datetime


class ShownRefusals(Shown):
    """A page of refusals."""

    items: list[ShownRefusal]
    next_before: int | None


class Enrolled(Shown):
    """A contact whose run has begun."""

    contact_id: UUID
    outcome: Literal["enrolled"]
    execution_id: UUID


class NotEnrolled(Shown):
    """A contact who got no run, and why."""

    contact_id: UUID
    outcome: Literal["skipped"]
    reason: str


class ShownEnrolments(Shown):
    """What became of each contact, in the order of the request."""

    enrolled: int
    skipped: int
    outcomes: list[Enrolled | NotEnrolled]


async def enrol(call: Call) -> web.Response:
    """Begin a run of each contact; who gets none is told why."""
    new = await call.body(NewRuns)
    version = await _active(call)
    entry = Entry(new.entry_key, new.priority, new.context)
    async with call.transaction() as db:
        now = await clock.current_instant(db)
        outcomes = await executions.enrol(db, now, version, new.contact_ids, entry)
        await refusals.write_down(db, now, call.account_id, version.workflow_id, outcomes)
    if any(outcome.execution_id for outcome in outcomes):
        family = executions.first_family(version)
        await call.ring([family] if family else [])
    return answer(_show(outcomes))


async def _active(call: Call) -> CompiledVersion:
    workflow = await workflows.find(call, call.pool)
    version = await call.services.versions.active(call.account_id, workflow["id"])
    if version is None:
        message = f"The workflow is {workflow['status']}; only an active one lets contacts in."
        raise conflict("workflow_not_active", message)
    return version


async def enrol_by_tag(call: Call) -> web.Response:
    """Begin a run of every contact that carries a tag, as an operation."""
    new = await call.body(NewRunsByTag)
    version = await _active(call)
    async with call.transaction() as db:
        if await db.fetchrow(tag_queries.tag, call.account_id, new.tag_id) is None:
            raise invalid(Fault("tag_id", "tag_unknown", "There is no such tag."))
        parameters = {"workflow_id": str(version.workflow_id), **new.model_dump(mode="json")}
        shown = await operations.begin(call, db, "enroll_by_tag", parameters)
    return await operations.begun(call, shown)


async def list_refusals(call: Call) -> web.Response:
    """List who was not let in and why, newest first."""
    page = call.parameters(RefusalPage)
    workflow = await workflows.find(call, call.pool)
    rows = await call.pool.fetch(
        refusals.queries.refusals,
        call.account_id,
        workflow["id"],
        page.contact_id,
        page.before,
        page.limit + 1,
    )
    items = [dict(row) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return answer({"items": items, "next_before": items[-1]["id"] if more else None})


def _show(outcomes: Sequence[Enrolment]) -> dict[str, Any]:
    enrolled = sum(outcome.execution_id is not None for outcome in outcomes)
    return {
        "enrolled": enrolled,
        "skipped": len(outcomes) - enrolled,
        "outcomes": [_show_one(outcome) for outcome in outcomes],
    }


def _show_one(outcome: Enrolment) -> dict[str, Any]:
    if outcome.execution_id is None:
        return {
            "contact_id": outcome.contact_id,
            "outcome": "skipped",
            "reason": outcome.reason,
        }
    return {
        "contact_id": outcome.contact_id,
        "outcome": "enrolled",
        "execution_id": outcome.execution_id,
    }


_ONE: Final = "/api/v1/workflows/{workflow_id}"

ROUTES: Final = (
    Route(
        "POST",
        f"{_ONE}/enroll",
        enrol,
        Permission.RUN,
        NewRuns,
        answers={200: ShownEnrolments},
        problems=frozenset({409}),
    ),
    Route(
        "POST",
        f"{_ONE}/enroll-by-tag",
        enrol_by_tag,
        Permission.RUN,
        NewRunsByTag,
        answers={202: operations.ShownOperation},
        problems=frozenset({409}),
    ),
    Route(
        "GET",
        f"{_ONE}/refusals",
        list_refusals,
        Permission.READ,
        parameters=RefusalPage,
        answers={200: ShownRefusals},
    ),
)
