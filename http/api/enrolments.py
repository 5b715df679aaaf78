"""Enrolling contacts in a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, StringConstraints

from api import workflows
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Object
from api.problems import conflict
from api.shown import Shown
from runtime import clock, executions
from runtime.executions import Enrolment, Entry

MOST_CONTACTS: Final = 10_000


class NewRuns(Body):
    """Who is to enter, and how; runs of one contact under different entry keys may coexist."""

    contact_ids: Annotated[list[UUID], Field(min_length=1, max_length=MOST_CONTACTS)]
    entry_key: Annotated[str, StringConstraints(max_length=200)] = ""
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    context: Object = Field(default_factory=dict)


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
    workflow = await workflows.find(call, call.pool)
    version = await call.services.versions.active(call.account_id, workflow["id"])
    if version is None:
        message = f"The workflow is {workflow['status']}; only an active one lets contacts in."
        raise conflict("workflow_not_active", message)
    entry = Entry(new.entry_key, new.priority, new.context)
    async with call.transaction() as db:
        now = await clock.current_instant(db)
        outcomes = await executions.enrol(db, now, version, new.contact_ids, entry)
    if any(outcome.execution_id for outcome in outcomes):
        family = executions.first_family(version)
        await call.ring([family] if family else [])
    return answer(_show(outcomes))


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


ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/workflows/{workflow_id}/enroll",
        enrol,
        Permission.RUN,
        NewRuns,
        answers={200: ShownEnrolments},
        problems=frozenset({409}),
    ),
)
