"""Tasks about contacts: made, changed, done, called off, taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import StringConstraints

from actors.create_task import LONGEST_DESCRIPTION, LONGEST_TITLE
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Handler, Route
from api.fields import Instant, left_out
from api.lists import List, Page
from api.resources import Handlers, Happened, Resource, Values, routes_of
from api.shown import Shown
from sql import load

queries = load("api_tasks")

Priority = Literal["low", "medium", "high"]
Status = Literal["open", "done", "cancelled"]
Title = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_TITLE, strip_whitespace=True)
]
Description = Annotated[str, StringConstraints(max_length=LONGEST_DESCRIPTION)]


class NewTask(Body):
    """A task to be; without an assignee it is nobody's."""

    contact_id: UUID
    title: Title
    description: Description | None = None
    due_at: Instant | None = None
    priority: Priority = "medium"
    assignee_id: UUID | None = None


class TaskChange(Body):
    """What is to be different about a task."""

    title: Title = left_out()
    description: Description | None = None
    due_at: Instant | None = None
    priority: Priority = left_out()
    assignee_id: UUID | None = None


class TaskPage(Page):
    """Which tasks to list; `due_before` is exclusive."""

    contact_id: UUID | None = None
    assignee_id: UUID | None = None
    status: Status | None = None
    priority: Priority | None = None
    due_from: Instant | None = None
    due_before: Instant | None = None


class ShownTask(Shown):
    """A task; `step_id` is the step that made it."""

    id: UUID
    contact_id: UUID
    assignee_id: UUID | None
    title: str
    description: str | None
    due_at: datetime | None
    priority: Priority
    status: Status
    step_id: UUID | None
    created_at: datetime
    completed_at: datetime | None
    updated_at: datetime


def _happened(before: Values | None, after: Values) -> Happened:
    return () if before else [("task_created", _told(after))]


def _told(task: Values) -> Mapping[str, Any]:
    """Say of a task what create_task says."""
    return {
        "task_id": str(task["id"]),
        "assignee_id": task["assignee_id"] and str(task["assignee_id"]),
        "due_at": task["due_at"] and task["due_at"].isoformat(),
        "priority": task["priority"],
    }


TASKS: Final = Resource(
    "task",
    "/api/v1/tasks",
    queries,
    ("contact_id", "assignee_id", "title", "description", "due_at", "priority", "status"),
    references={"assignee_id": "user"},
    is_recorded=False,
    of_contact=True,
    happened=_happened,
)
LIST: Final = List(queries.tasks, ShownTask, "due_at")


async def create(call: Call) -> web.Response:
    """Make a task about a contact."""
    return await TASKS.create(call, await call.body(NewTask), status="open")


async def list_all(call: Call) -> web.Response:
    """List tasks; sorts: due_at (those without a date come last), created_at."""
    return answer(await LIST.page(call.pool, call.parameters(TaskPage), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one task."""
    return await TASKS.read(call)


async def change(call: Call) -> web.Response:
    """Change a task."""
    return await TASKS.change(call, await call.body(TaskChange))


async def delete(call: Call) -> web.Response:
    """Delete a task."""
    return await TASKS.delete(call)


async def complete(call: Call) -> web.Response:
    """Say that the task is done."""
    return await TASKS.change(call, None, status="done")


async def cancel(call: Call) -> web.Response:
    """Call the task off."""
    return await TASKS.change(call, None, status="cancelled")


async def reopen(call: Call) -> web.Response:
    """Take a task up again that was done or called off."""
    return await TASKS.change(call, None, status="open")


def _step(name: str, handler: Handler) -> Route:
    path = f"/api/v1/tasks/{{task_id}}/{name}"
    answers, problems = {200: ShownTask}, frozenset({409})
    return Route("POST", path, handler, Permission.EDIT_CONTACTS, None, None, answers, problems)


ROUTES: Final = (
    *routes_of(
        TASKS,
        Permission.EDIT_CONTACTS,
        Handlers(create, list_all, read, change, delete, NewTask, TaskPage, TaskChange),
        ShownTask,
    ),
    _step("complete", complete),
    _step("cancel", cancel),
    _step("reopen", reopen),
)
