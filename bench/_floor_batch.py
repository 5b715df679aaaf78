"""One hand-made batch: effects set-based, and everything that the engine writes with them.

Steps, attempts, field changes, events and the execution's end; by COPY where rows are new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from bench._journey import ACTIONS, Journey
from runtime.database import Connection
from sql import Queries

queries = Queries(Path(__file__).with_name("_floor.sql"))

JSON = dict[str, Any]
Row = tuple[Any, ...]

_OWNED = "id account_id contact_id step_id"
_COLUMNS: Final = {
    "notes": f"{_OWNED} note_type content metadata created_at",
    "tasks": f"{_OWNED} assignee_id title due_at priority created_at",
    "workflow_action_executions": "id account_id workflow_execution_id action_id contact_id family "
    "lane_id sequence ready_at status started_at completed_at result_data attempt",
    "workflow_action_attempts": "step_id attempt account_id contact_id action_id version_id "
    "started_at finished_at outcome",
    "contact_field_changes": "account_id contact_id field old_value new_value step_id changed_at",
    "domain_events": "account_id event_type contact_id payload action_id execution_id event_depth "
    "occurred_at dispatched_at",
}


@dataclass(slots=True)
class Step:
    """The step of an execution that is the `number`th action's; a new one has no row yet."""

    id: UUID
    execution_id: UUID
    contact: JSON
    number: int
    is_new: bool = False
    result: JSON = field(default_factory=dict)


class Batch:
    """Steps being performed in one transaction, and what is to be written at its end."""

    def __init__(self, journey: Journey, db: Connection) -> None:
        self.completed: list[Step] = []
        self._journey = journey
        self._db = db
        self._now = datetime.now(UTC)
        self._account_id = journey.world.account_id
        self._action_ids = journey.action_ids
        self._events: list[Row] = []
        self._changes: list[Row] = []

    async def perform(self, steps: Sequence[Step]) -> list[Step]:
        """Perform each step's action; gives the steps that follow."""
        groups: dict[int, list[Step]] = defaultdict(list)
        for step in steps:
            groups[step.number].append(step)
        for number, group in groups.items():
            await _PERFORMANCES[number](self, group)
        self.completed += steps
        return [
            Step(uuid7(), step.execution_id, step.contact, step.number + 1, is_new=True)
            for step in steps
            if step.number + 1 < len(ACTIONS)
        ]

    async def rename(self, steps: Sequence[Step]) -> None:
        """Perform update_contact."""
        for step in steps:
            contact_id, old = step.contact["id"], step.contact["last_name"]
            step.contact["last_name"] = new = f"{old} II"
            change = (self._account_id, contact_id, "last_name", old, new, step.id, self._now)
            self._changes.append(change)
            payload = {"contact_id": str(contact_id), "changed_fields": ["last_name"]}
            self._end(step, "contact_updated", payload, updated=True)
        ids = [step.contact["id"] for step in steps]
        names = [step.contact["last_name"] for step in steps]
        await self._db.execute(queries.rename_contacts, ids, names, self._now)

    async def add_tag(self, steps: Sequence[Step]) -> None:
        """Perform add_tag."""
        tag_id = self._journey.customer_id
        contacts, ids = [step.contact["id"] for step in steps], [step.id for step in steps]
        await self._db.execute(queries.add_tags, self._account_id, tag_id, contacts, ids, self._now)
        for step in steps:
            payload = {"tag_id": str(tag_id), "tag_name": "customer"}
            self._end(step, "tag_added", payload, added=True)

    async def add_note(self, steps: Sequence[Step]) -> None:
        """Perform add_note."""
        rows = []
        for step in steps:
            note_id, text = uuid7(), f"Welcome, {step.contact['first_name']}!"
            owned = self._owned(note_id, step)
            rows.append((*owned, "workflow", text, self._context(step), self._now))
            self._end(step, "note_added", {"note_id": str(note_id), "note_type": "workflow"})
        await self._copy("notes", rows)

    async def create_task(self, steps: Sequence[Step]) -> None:
        """Perform create_task."""
        due_at = self._now + timedelta(days=2)
        rows = []
        for step in steps:
            task_id, owner_id = uuid7(), step.contact["owner_id"]
            title = f"Call {step.contact['first_name']} {step.contact['last_name']}"
            owned = self._owned(task_id, step)
            rows.append((*owned, owner_id, title, due_at, "high", self._now))
            summary = {"task_id": str(task_id), "assignee_id": str(owner_id)}
            summary |= {"due_at": due_at.isoformat(), "priority": "high"}
            self._end(step, "task_created", summary)
        await self._copy("tasks", rows)

    async def remove_tag(self, steps: Sequence[Step]) -> None:
        """Perform remove_tag."""
        tag_id = self._journey.lead_id
        await self._db.execute(queries.remove_tags, [s.contact["id"] for s in steps], tag_id)
        for step in steps:
            payload = {"tag_id": str(tag_id), "tag_name": "lead"}
            self._end(step, "tag_removed", payload, removed=True)

    async def write(self, following: Sequence[Step]) -> None:
        """Record all that was performed; `following` steps become ready."""
        claimed = [step for step in self.completed if not step.is_new]
        ids, results = [step.id for step in claimed], [step.result for step in claimed]
        finished_at = datetime.now(UTC)
        await self._db.execute(queries.complete_steps, ids, results, self._now, finished_at)
        born = [self._born(step, finished_at) for step in self.completed if step.is_new]
        born += [self._ready(step) for step in following]
        await self._copy("workflow_action_executions", born)
        attempts = [self._attempt(step, finished_at) for step in self.completed]
        await self._copy("workflow_action_attempts", attempts)
        await self._copy("contact_field_changes", self._changes)
        await self._copy("domain_events", self._events)
        ended = [s.execution_id for s in self.completed if s.number == len(ACTIONS) - 1]
        if ended:
            await self._db.execute(queries.complete_executions, ended, finished_at)

    async def _copy(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            columns = _COLUMNS[table].split()
            await self._db.copy_records_to_table(table, columns=columns, records=rows)

    def _end(self, step: Step, event_type: str, payload: JSON, **result: bool) -> None:
        step.result = payload | result
        self._events.append(self._event(step, event_type, payload))

    def _event(self, step: Step, event_type: str, payload: JSON) -> Row:
        return (
            self._account_id, event_type, step.contact["id"], payload,
            self._action_ids[step.number], step.execution_id, 1, self._now, self._now,
        )  # fmt: skip

    def _owned(self, row_id: UUID, step: Step) -> Row:
        return row_id, self._account_id, step.contact["id"], step.id

    def _context(self, step: Step) -> JSON:
        version = self._journey.version
        return {
            "workflow_id": str(version.workflow_id),
            "workflow_name": version.workflow_name,
            "version_id": str(version.id),
            "execution_id": str(step.execution_id),
            "action_id": str(self._action_ids[step.number]),
            "action_key": ACTIONS[step.number][0],
            "step_id": str(step.id),
        }

    def _ready(self, step: Step) -> Row:
        return (*self._placed(step), "pending", None, None, {}, 0)

    def _born(self, step: Step, finished_at: datetime) -> Row:
        return (*self._placed(step), "completed", self._now, finished_at, step.result, 1)

    def _placed(self, step: Step) -> Row:
        return (
            step.id, self._account_id, step.execution_id, self._action_ids[step.number],
            step.contact["id"], "crm", self._journey.lane_id, step.number, self._now,
        )  # fmt: skip

    def _attempt(self, step: Step, finished_at: datetime) -> Row:
        return (
            step.id, 1, self._account_id, step.contact["id"], self._action_ids[step.number],
            self._journey.version.id, self._now, finished_at, "completed",
        )  # fmt: skip


_PERFORMANCES: Final[tuple[Callable[[Batch, Sequence[Step]], Coroutine[Any, Any, None]], ...]] = (
    Batch.rename,
    Batch.add_tag,
    Batch.add_note,
    Batch.create_task,
    Batch.remove_tag,
)
"""In the order of ACTIONS."""
