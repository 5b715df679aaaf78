"""create_task: make a task about the contact, by default for the contact's owner.

Without assignee_id, or when its merge fields render empty, the task goes to the contact's owner;
a contact without an owner gets an unassigned task. `due_date_offset` is exact elapsed time from
the moment the step is performed (24 hours a day, whatever the clocks do); without it the task has
no due date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from actors.fields import Config, MergeText, RequiredMergeText, incomplete
from actors.literals import literal
from actors.references import MergeId, find_users, id_of
from actors.rendered import UnusableError, each, text_of
from runtime.ids import new_id
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("create_task")

LONGEST_TITLE = 500
LONGEST_DESCRIPTION = 20_000
MOST_DAYS = 3650


def _title(text: str | None) -> str | None:
    return text_of(text, "title", LONGEST_TITLE)


def _description(text: str | None) -> str | None:
    return text_of(text, "description", LONGEST_DESCRIPTION)


class DueDateOffset(Config):
    """How long after the step the task is due; days and hours add up."""

    days: Annotated[int, Field(ge=0, le=MOST_DAYS)] | None = None
    hours: Annotated[int, Field(ge=0, le=MOST_DAYS * 24)] | None = None

    @model_validator(mode="after")
    def _says_how_long(self) -> DueDateOffset:
        if self.days is None and self.hours is None:
            raise incomplete("days", "days or hours are required")
        return self


class CreateTask(Config):
    """What is to be done, until when and by whom."""

    title: Annotated[RequiredMergeText, literal(_title)]
    description: Annotated[MergeText, literal(_description)] | None = None
    due_date_offset: DueDateOffset | None = None
    assignee_id: MergeId | None = None
    priority: Literal["low", "medium", "high"] = "medium"


@dataclass(frozen=True, slots=True)
class _Task:
    id: UUID
    item: Item
    title: str
    description: str | None
    due_at: datetime | None
    chosen_id: UUID | None

    @property
    def assignee_id(self) -> UUID | None:
        owner_id: UUID | None = self.item.contact["owner_id"]
        return self.chosen_id or owner_id

    def row(self) -> tuple[Any, ...]:
        item = self.item
        return (
            self.id, item.account_id, item.contact_id, self.assignee_id, self.title,
            self.description, self.due_at, item.values["priority"], item.step_id,
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        return {
            "task_id": str(self.id),
            "assignee_id": str(self.assignee_id) if self.assignee_id else None,
            "due_at": self.due_at.isoformat() if self.due_at else None,
            "priority": self.item.values["priority"],
        }


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Make the tasks: one look for assignees that configs name, one insert."""
    tasks = each(items, lambda item: _task(item, stage.now))
    tasks = await _with_assignees(stage, tasks)
    rows = [task.row() for task in tasks if isinstance(task, _Task)]
    if rows:
        await stage.db.execute(queries.create_tasks, *zip(*rows, strict=True), stage.now)
    return [task if isinstance(task, Failed) else _finish(stage, task) for task in tasks]


def _task(item: Item, now: datetime) -> _Task:
    values = item.values
    title = _title(values["title"])
    if title is None:
        raise UnusableError("title_empty", "title is empty after rendering")
    description = _description(values["description"])
    chosen_id = id_of(values["assignee_id"], "assignee_id")
    offset = values["due_date_offset"]
    return _Task(new_id(), item, title, description, offset and _due(offset, now), chosen_id)


def _due(offset: dict[str, int | None], now: datetime) -> datetime:
    return now + timedelta(days=offset["days"] or 0, hours=offset["hours"] or 0)


async def _with_assignees(stage: Stage, tasks: Sequence[_Task | Failed]) -> list[_Task | Failed]:
    # A user of another account does not exist for this one.
    wanted = {
        (task.item.account_id, task.chosen_id)
        for task in tasks
        if isinstance(task, _Task) and task.chosen_id
    }
    missing = wanted - (await find_users(stage, wanted)).keys()
    unknown = UnusableError("assignee_not_found", "the account has no user of this assignee_id")
    return [
        unknown.outcome
        if isinstance(task, _Task) and (task.item.account_id, task.chosen_id) in missing
        else task
        for task in tasks
    ]


def _finish(stage: Stage, task: _Task) -> Done:
    summary = task.summary()
    stage.emit(task.item, "task_created", summary)
    return Done(summary)


ACTION = ActionType(
    name="create_task",
    family="crm",
    config=CreateTask,
    perform=perform,
    gives={
        "task_id": "the task",
        "assignee_id": "who it is for",
        "due_at": "when it is due",
        "priority": "its priority",
    },
    emits=frozenset({"task_created"}),
    refers={"assignee_id": "user"},
)
