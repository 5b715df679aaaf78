"""Operations: bulk work in the background, to be watched and cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.parameters import Page, Parameters, page_of
from api.problems import conflict, not_found
from api.shown import PageOf, Shown
from runtime import operations
from runtime.database import Connection
from runtime.operations import TooManyOperationsError, queries

Status = Literal["queued", "running", "completed", "failed", "cancelled"]


class ShownOperation(Shown):
    """An operation. `done` and `failed` count items; `total` is null until it is known."""

    id: UUID
    kind: str
    parameters: dict[str, Any]
    status: Status
    total: int | None
    done: int
    failed: int
    result: dict[str, Any]
    error_code: str | None
    error_message: str | None
    created_by: UUID | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    cancel_requested_at: datetime | None


class ShownOperationError(Shown):
    """What could not be done: where in a file, or with which contact or execution, and why."""

    id: int
    line: int | None
    column: str | None
    item_id: UUID | None
    code: str
    message: str


class ShownOperationErrors(Shown):
    """A page of errors."""

    items: list[ShownOperationError]
    next_after: int | None


class OperationPage(Page):
    """Which operations to list."""

    kind: Annotated[str, Field(max_length=40)] | None = None
    status: Status | None = None


class ErrorPage(Parameters):
    """Which errors to list: those behind `after` (the `next_after` of the page before)."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 200
    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


async def list_all(call: Call) -> web.Response:
    """List operations, newest first."""
    page = call.parameters(OperationPage)
    rows = await call.pool.fetch(
        queries.operations,
        call.account_id,
        page.kind,
        page.status,
        *page.after(),
        page.limit + 1,
    )
    return answer(page_of(rows, page.limit, dict))


async def read(call: Call) -> web.Response:
    """Read one operation: how far it is, or what came out of it."""
    return answer(await find(call))


async def find(call: Call, db: Connection | None = None) -> dict[str, Any]:
    """Find the operation of the path, or a 404 Problem."""
    row = await operations.read(db or call.pool, call.account_id, call.id("operation_id"))
    if row is None:
        raise not_found("operation")
    return dict(row)


async def list_errors(call: Call) -> web.Response:
    """List what the operation could not do, in the order in which it came upon it."""
    page = call.parameters(ErrorPage)
    shown = await find(call)
    rows = await call.pool.fetch(
        queries.errors, call.account_id, shown["id"], page.after, page.limit + 1
    )
    items = [dict(row) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return answer({"items": items, "next_after": items[-1]["id"] if more else None})


async def cancel(call: Call) -> web.Response:
    """End an operation behind what it is just doing; what is done stays done."""
    async with call.transaction() as db:
        before = await find(call, db)
        if await operations.cancel(db, call.account_id, before["id"]) is None:
            raise conflict("operation_has_ended", f"The operation is {before['status']}.")
        after = await find(call, db)
        await call.record(db, "operation.cancelled", ("operation", before["id"]), before, after)
    return answer(after)


async def begin(
    call: Call, db: Connection, kind: str, parameters: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Queue an operation and write it to the audit log; a 409 Problem if too many are open.

    Answer with `begun` after the commit.
    """
    try:
        operation_id = await operations.begin(
            db, call.account_id, kind, parameters, created_by=call.caller.user_id, **more
        )
    except TooManyOperationsError:
        message = f"{operations.MOST_OPEN} operations are open; wait for one or cancel it."
        raise conflict("too_many_operations", message) from None
    row = await operations.read(db, call.account_id, operation_id)
    assert row is not None
    await call.record(db, "operation.begun", ("operation", operation_id), None, dict(row))
    return dict(row)


async def begun(call: Call, shown: Mapping[str, Any]) -> web.Response:
    """Ring for an operation whose beginning is committed, and answer 202 with it."""
    await call.ring(operations=True)
    return answer(dict(shown), 202, {"Location": f"/api/v1/operations/{shown['id']}"})


_ALL: Final = "/api/v1/operations"
_ONE: Final = f"{_ALL}/{{operation_id}}"

ROUTES: Final = (
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.READ,
        parameters=OperationPage,
        answers={200: PageOf[ShownOperation]},
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: ShownOperation}),
    Route(
        "GET",
        f"{_ONE}/errors",
        list_errors,
        Permission.READ,
        parameters=ErrorPage,
        answers={200: ShownOperationErrors},
    ),
    Route(
        "POST",
        f"{_ONE}/cancel",
        cancel,
        Permission.RUN,
        answers={200: ShownOperation},
        problems=frozenset({409}),
    ),
)
