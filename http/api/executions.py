"""Executions: list, read with every step and attempt, cancel, pause, resume."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import StringConstraints

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Object
from api.parameters import Page, page_of
from api.problems import conflict, not_found
from api.shown import PageOf, Shown
from runtime import clock, states
from runtime import executions as runs
from runtime.database import Connection
from sql import load

queries = load("api_executions")


Status = Literal["running", "paused", "completed", "failed", "cancelled"]


class ExecutionPage(Page):
    """Which executions to list."""

    workflow_id: UUID | None = None
    contact_id: UUID | None = None
    status: Status | None = None


class Reason(Body):
    """Why an execution is cancelled."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "cancelled_by_user"


class ShownExecution(Shown):
    """One contact's run through one version of a workflow."""

    id: UUID
    workflow_id: UUID
    version_id: UUID
    contact_id: UUID
    status: Status
    entry_key: str
    priority: int
    end_reason: str | None
    started_at: datetime
    completed_at: datetime | None


class ShownAttempt(Shown):
    """One try of a step."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    error_kind: str | None
    error_code: str | None
    error_message: str | None
    duration_seconds: float | None


class ShownStep(Shown):
    """One action of the run."""

    id: UUID
    action_id: UUID
    action_type: str | None
    key: str | None
    status: states.Status
    phase: str
    hold: str | None
    sequence: int
    started_at: datetime | None
    completed_at: datetime | None
    scheduled_at: datetime | None
    waiting_for: str | None
    retry_count: int
    skip_reason: str | None
    error_code: str | None
    error_message: str | None
    result_data: Object
    attempts: list[ShownAttempt]


class WholeExecution(ShownExecution):
    """A run with its steps and their attempts."""

    version: int
    context: Object
    steps: list[ShownStep]


async def list_all(call: Call) -> web.Response:
    """List executions, newest first."""
    page = call.parameters(ExecutionPage)
    arguments = [call.account_id, page.workflow_id, page.status, *page.after(), page.limit + 1]
    if page.contact_id is None:
        rows = await call.pool.fetch(queries.executions, *arguments)
    else:
        rows = await call.pool.fetch(queries.executions_of_contact, *arguments, page.contact_id)
    return answer(page_of(rows, page.limit, dict))


async def read(call: Call) -> web.Response:
    """Read one execution with its steps and their attempts."""
    return answer(await _whole(call, call.pool))


async def _whole(call: Call, db: Connection | asyncpg.Pool) -> dict[str, Any]:
    execution_id = call.id("execution_id")
    row = await db.fetchrow(queries.execution, call.account_id, execution_id)
    if row is None:
        raise not_found("execution")
    steps = await db.fetch(queries.steps, call.account_id, execution_id)
    tries = await db.fetch(queries.attempts, call.account_id, [step["id"] for step in steps])
    attempts = defaultdict(list)
    for attempt in tries:
        shown = dict(attempt)
        attempts[shown.pop("step_id")].append(shown)
    return {**row, "steps": [{**step, "attempts": attempts[step["id"]]} for step in steps]}


async def cancel(call: Call) -> web.Response:
    """End the execution, with everything of it that is not yet dispatched."""
    given = await call.body(Reason) if call.request.can_read_body else Reason()
    async with call.transaction() as db:
        execution_id = await _known(call, db)
        now = await clock.current_instant(db)
        ended = await runs.cancel(db, now, call.account_id, [execution_id], given.reason)
        shown = await _settle(call, db, ended, "execution_has_ended")
    return answer(shown)


async def pause(call: Call) -> web.Response:
    """Keep the execution from beginning further steps; waits keep their place."""
    async with call.transaction() as db:
        paused = await runs.pause(db, call.account_id, [await _known(call, db)])
        shown = await _settle(call, db, paused, "execution_not_running")
    return answer(shown)


async def resume(call: Call) -> web.Response:
    """Let a paused execution go on."""
    async with call.transaction() as db:
        execution_id = await _known(call, db)
        now = await clock.current_instant(db)
        resumed, families = await runs.resume(db, now, call.account_id, [execution_id])
        shown = await _settle(call, db, resumed, "execution_not_paused")
    await call.ring(families)
    return answer(shown)


async def _known(call: Call, db: Connection) -> UUID:
    execution_id = call.id("execution_id")
    if await db.fetchrow(queries.execution, call.account_id, execution_id) is None:
        raise not_found("execution")
    return execution_id


async def _settle(
    call: Call, db: Connection, changed: list[UUID], otherwise: str
) -> dict[str, Any]:
    shown = await _whole(call, db)
    if not changed:
        raise conflict(otherwise, f"The execution is {shown['status']}.")
    return shown


_ALL: Final = "/api/v1/executions"
_ONE: Final = f"{_ALL}/{{execution_id}}"

ROUTES: Final = (
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.READ,
        parameters=ExecutionPage,
        answers={200: PageOf[ShownExecution]},
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: WholeExecution}),
    *(
        Route(
            "POST",
            f"{_ONE}/{handler.__name__}",
            handler,
            Permission.RUN,
            body,
            answers={200: WholeExecution},
            problems=frozenset({409}),
            body_is_optional=body is not None,
        )
        for handler, body in ((cancel, Reason), (pause, None), (resume, None))
    ),
)
