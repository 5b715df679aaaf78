"""The audit log: who changed what, when, with which token, before and after."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.answers import answer
from api.calls import Call, Route, audit
from api.fields import Instant
from api.lists import List, Page, page_of
from api.problems import not_found
from api.shown import Shown


class ShownChange(Shown):
    """A change. `before` is null for what was made, `after` for what was deleted.

    Secrets are shown as "(redacted)". `token_id` is null for a JWT, whose `jti` stands in `jwt_id`.
    """

    id: int
    at: datetime
    user_id: UUID | None
    token_id: UUID | None
    jwt_id: str | None
    request_id: str | None
    action: str
    entity_type: str
    entity_id: UUID
    before: Any
    after: Any


class WorkflowChangePage(Page):
    """Which changes to list: by whom, of which kind, and when (`before_instant` is exclusive)."""

    user_id: UUID | None = None
    action: Annotated[str, Field(max_length=100)] | None = None
    from_instant: Instant | None = None
    before_instant: Instant | None = None


class ChangePage(WorkflowChangePage):
    """Which changes to list: of what, by whom, of which kind, and when."""

    entity_type: Annotated[str, Field(max_length=100)] | None = None
    entity_id: UUID | None = None


_CHANGES: Final = List(audit.changes, ShownChange, "-id")
_OF_WORKFLOW: Final = List(audit.changes_of_workflow, ShownChange, "-id")


async def list_all(call: Call) -> web.Response:
    """List changes, newest first."""
    page = call.parameters(ChangePage)
    return answer(await _CHANGES.page(call.pool, page, call.account_id))


async def list_of_workflow(call: Call) -> web.Response:
    """List the changes of a workflow, its actions and branches, newest first.

    They can be read after the workflow was deleted, too.
    """
    page = call.parameters(WorkflowChangePage)
    workflow_id = call.id("workflow_id")
    if not await call.pool.fetchval(audit.workflow_ever, call.account_id, workflow_id):
        raise not_found("workflow")
    return answer(await _OF_WORKFLOW.page(call.pool, page, call.account_id, workflow_id))


ROUTES: Final = (
    Route(
        "GET",
        "/api/v1/audit",
        list_all,
        Permission.READ_AUDIT,
        parameters=ChangePage,
        answers={200: page_of(ShownChange)},
    ),
    Route(
        "GET",
        "/api/v1/workflows/{workflow_id}/audit",
        list_of_workflow,
        Permission.READ_AUDIT,
        parameters=WorkflowChangePage,
        answers={200: page_of(ShownChange)},
    ),
)
