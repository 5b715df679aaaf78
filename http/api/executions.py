"""Executions: list, read, cancel, pause, resume, retry; singly and many by a filter."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import Field, StringConstraints

from actors.steer_executions import FITTING, ExecutionFilter, Steer, count
from actors.steer_executions import queries as steering
from api import operations
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.execution_details import ShownExecution, Status, WholeExecution, queries, whole
from api.fields import Instant
from api.lists import List, Page, page_of
from api.parameters import Parameters
from api.problems import conflict, not_found
from api.shown import Shown
from runtime import clock, retrying
from runtime import executions as runs
from runtime.database import Connection

SAMPLE: Final = 20

EXECUTIONS: Final = List(queries.executions, ShownExecution, "-started_at")


class ExecutionPage(Page):
    """Which executions to list.

    `current_action_id`: those that stand at this action; `error_code`: those that failed with it;
    `started_before` is exclusive.
    """

    workflow_id: UUID | None = None
    contact_id: UUID | None = None
    status: Status | None = None
    version_id: UUID | None = None
    started_from: Instant | None = None
    started_before: Instant | None = None
    current_action_id: UUID | None = None
    error_code: Annotated[str, Field(max_length=60)] | None = None


class Reason(Body):
    """Why an execution is cancelled."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "cancelled_by_user"


class Retry(Parameters):
    """Whether what may have gone out already may go out again."""

    accept_duplicates: bool = False


class Bulk(Body):
    """What is to be done with which executions; a dry run only counts them.

    Only executions that the action is for are meant: running ones can be paused, failed ones
    retried, and so on. `reason` is for cancelling, `accept_duplicates` for retrying.
    """

    action: Steer
    filter: ExecutionFilter
    dry_run: bool = False
    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "cancelled_by_user"
    accept_duplicates: bool = False


class DryRun(Shown):
    """How many executions are meant now, and some of them."""

    action: Steer
    count: int
    sample: list[UUID]


async def list_all(call: Call) -> web.Response:
    """List executions, newest first."""
    page = call.parameters(ExecutionPage)
    return answer(await EXECUTIONS.page(call.pool, page, call.account_id))


async def read(call: Call) -> web.Response:
    """Read one execution with its steps and effects, and every try of both."""
    return answer(await whole(call.pool, call.account_id, call.id("execution_id")))


async def cancel(call: Call) -> web.Response:
    """End the execution, with everything of it that is not yet dispatched."""
    given = await call.body(Reason) if call.request.can_read_body else Reason()
    async with call.transaction() as db:
        before = await _known(call, db)
        now = await clock.current_instant(db)
        ended = await runs.cancel(db, now, call.account_id, [before["id"]], given.reason)
        shown = await _settle(call, db, "cancelled", before, ended, "execution_has_ended")
    return answer(shown)


async def pause(call: Call) -> web.Response:
    """Keep the execution from beginning further steps; waits keep their place."""
    async with call.transaction() as db:
        before = await _known(call, db)
        paused = await runs.pause(db, call.account_id, [before["id"]])
        shown = await _settle(call, db, "paused", before, paused, "execution_not_running")
    return answer(shown)


async def resume(call: Call) -> web.Response:
    """Let a paused execution go on."""
    async with call.transaction() as db:
        before = await _known(call, db)
        now = await clock.current_instant(db)
        resumed, families = await runs.resume(db, now, call.account_id, [before["id"]])
        shown = await _settle(call, db, "resumed", before, resumed, "execution_not_paused")
    await call.ring(families)
    return answer(shown)


async def retry(call: Call) -> web.Response:
    """Let a failed execution go on from its failed step, as a new step with attempts of its own.

    Refused where something may go out twice by it, unless `accept_duplicates` says that it may.
    """
    accepted = call.parameters(Retry).accept_duplicates
    async with call.transaction() as db:
        before = await _known(call, db)
        now = await clock.current_instant(db)
        done = await retrying.retry(
            db, now, call.account_id, [before["id"]], accept_duplicates=accepted
        )
        if code := done.refused.get(before["id"]):
            raise conflict(code, retrying.SENTENCES[code])
        shown = await whole(db, call.account_id, before["id"])
        await _record(call, db, "retried", before, shown)
    await call.ring(done.families)
    return answer(shown)


async def steer_many(call: Call) -> web.Response:
    """Cancel, pause, resume or retry all executions that a filter means, as an operation.

    A dry run counts them, gives a sample, and changes nothing.
    """
    given = await call.body(Bulk)
    if given.dry_run:
        return answer(await _dry_run(call, given))
    parameters = given.model_dump(mode="json", exclude={"dry_run"})
    async with call.transaction() as db:
        shown = await operations.begin(call, db, "steer_executions", parameters)
    return await operations.begun(call, shown)


async def _dry_run(call: Call, given: Bulk) -> dict[str, Any]:
    until: datetime | None = None
    async with call.pool.acquire() as db:
        number = await count(db, call.account_id, given.action, given.filter, until)
        rows = await db.fetch(
            steering.executions,
            call.account_id,
            *given.filter.arguments(),
            until,
            list(FITTING[given.action]),
            UUID(int=0),
            SAMPLE,
        )
    return {"action": given.action, "count": number, "sample": [row["id"] for row in rows]}


async def _known(call: Call, db: Connection) -> asyncpg.Record:
    row = await db.fetchrow(queries.execution, call.account_id, call.id("execution_id"))
    if row is None:
        raise not_found("execution")
    return row


async def _settle(  # noqa: PLR0917 (what was asked for, and what came of it)
    call: Call,
    db: Connection,
    word: str,
    before: asyncpg.Record,
    changed: list[UUID],
    otherwise: str,
) -> dict[str, Any]:
    shown = await whole(db, call.account_id, before["id"])
    if not changed:
        raise conflict(otherwise, f"The execution is {shown['status']}.")
    await _record(call, db, word, before, shown)
    return shown


async def _record(
    call: Call, db: Connection, word: str, before: asyncpg.Record, after: dict[str, Any]
) -> None:
    was, now = ({name: row[name] for name in _STEERED} for row in (before, after))
    await call.record(db, f"execution.{word}", ("execution", before["id"]), was, now)


_STEERED: Final = ("status", "end_reason")


_ALL: Final = "/api/v1/executions"
_ONE: Final = f"{_ALL}/{{execution_id}}"

ROUTES: Final = (
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.READ,
        parameters=ExecutionPage,
        answers={200: page_of(ShownExecution)},
    ),
    Route(
        "POST",
        f"{_ALL}/bulk",
        steer_many,
        Permission.RUN,
        Bulk,
        answers={200: DryRun, 202: operations.ShownOperation},
        problems=frozenset({409}),
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: WholeExecution}),
    *(
        Route(
            "POST",
            f"{_ONE}/{handler.__name__}",
            handler,
            Permission.RUN,
            body,
            parameters,
            answers={200: WholeExecution},
            problems=frozenset({409}),
            body_is_optional=body is not None,
        )
        for handler, body, parameters in (
            (cancel, Reason, None),
            (pause, None, None),
            (resume, None, None),
            (retry, None, Retry),
        )
    ),
)
