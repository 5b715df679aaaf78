"""Settings of a workflow that hold for all of its versions and take effect at once."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from api import workflows
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.etags import check_match
from api.problems import not_found
from api.shown import Shown
from runtime.clock import current_instant
from sql import load

queries = load("api_rights")


class WorkflowSettings(Body):
    """`stop_on_reply`: a reply of the contact ends their runs before anything further is sent."""

    stop_on_reply: bool = False


class ShownWorkflowSettings(Shown):
    """`stop_on_reply`: a reply of the contact ends their runs before anything further is sent."""

    stop_on_reply: bool


async def read(call: Call) -> web.Response:
    """Read the settings of a workflow."""
    workflow_id = call.id("workflow_id")
    settings = await call.pool.fetchval(queries.workflow_settings, call.account_id, workflow_id)
    if settings is None:
        raise not_found("workflow")
    return answer(_show(settings))


async def change(call: Call) -> web.Response:
    """Change the settings of a workflow, whatever its status; runs under way obey them too."""
    given = await call.body(WorkflowSettings)
    workflow_id = call.id("workflow_id")
    after = given.model_dump()
    async with call.transaction() as db:
        check_match(call.request, await workflows.lock(call, db))
        before = await db.fetchval(queries.workflow_settings, call.account_id, workflow_id)
        now = await current_instant(db)
        await db.execute(queries.set_workflow_settings, call.account_id, workflow_id, after, now)
        entity = ("workflow", workflow_id)
        await call.record(db, "workflow_settings_changed", entity, _show(before), after)
    return answer(after)


def _show(settings: dict[str, Any]) -> dict[str, Any]:
    return {"stop_on_reply": settings.get("stop_on_reply", False)}


_ONE: Final = "/api/v1/workflows/{workflow_id}/settings"
_SHOWN: Final = {200: ShownWorkflowSettings}

ROUTES: Final = (
    Route("GET", _ONE, read, Permission.READ, answers=_SHOWN),
    Route("PUT", _ONE, change, Permission.EDIT_WORKFLOWS, WorkflowSettings, answers=_SHOWN),
)
