"""Workflows that start each other in a circle.

A workflow starts another by an event that its actions emit, or by a campaign. What is sure to go
round for ever is refused when a workflow is activated; what may go round, depending on conditions,
on what changes, or after a wait, is told as a warning. The engine's own guard (events caused by
events, at most 8 deep) stands behind both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from actors.addresses import has_merge_fields
from api.calls import Call
from runtime.configuration import Fault
from runtime.database import Connection
from runtime.registry import Registry
from sql import load

queries = load("api_workflows")

# Emitted whenever the action is performed; the others only when something changes by it.
ALWAYS: Final = frozenset({"note_added", "task_created", "opportunity_created"})

Row = Mapping[str, Any]


@dataclass(slots=True)
class Loops:
    """What was found: faults that keep a workflow from being activated, and warnings."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Workflow:
    """One workflow: its name, what starts it, and what it does."""

    name: str
    event_type: str | None
    conditions: Sequence[Row]
    actions: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Start:
    """That one workflow starts another; `is_sure`: each of its runs does, without waiting."""

    to: UUID
    is_sure: bool


async def loops_of(call: Call, db: Connection, workflow: Row, rows: Sequence[Row]) -> Loops:
    """Look for circles through a workflow that is to be activated with these actions."""
    trigger = workflow["trigger"] or {}
    workflows = {
        workflow["id"]: _Workflow(
            workflow["name"],
            trigger.get("event_type"),
            trigger.get("conditions", []),
            [row for row in rows if row["is_enabled"]],
        )
    }
    ids = call.account_id, workflow["id"]
    for row in await db.fetch(queries.listeners, *ids):
        workflows[row["id"]] = _Workflow(row["name"], row["event_type"], row["conditions"])
    for row in await db.fetch(queries.performed_by_listeners, *ids):
        workflows[row["workflow_id"]].actions.append(dict(row))
    by_campaign = await _workflows_of_campaigns(call, db, workflows)
    starts = {
        id_: list(_starts(one, workflows, by_campaign, call.services.registry))
        for id_, one in workflows.items()
    }
    return _told(_circle(starts, workflow["id"]), starts, workflows)


async def _workflows_of_campaigns(
    call: Call, db: Connection, workflows: Mapping[UUID, _Workflow]
) -> dict[str, UUID]:
    named = [
        UUID(action["action_config"]["campaign_id"])
        for one in workflows.values()
        for action in one.actions
        if action["action_type"] == "add_to_campaign" and action["action_config"].get("campaign_id")
    ]
    rows = await db.fetch(queries.workflows_of_campaigns, call.account_id, named) if named else []
    return {str(row["id"]): row["workflow_id"] for row in rows}


def _starts(
    one: _Workflow,
    workflows: Mapping[UUID, _Workflow],
    by_campaign: Mapping[str, UUID],
    registry: Registry,
) -> Iterator[_Start]:
    listening = defaultdict(list)
    # A branch is entered by some runs only, and what stands behind a wait is performed later.
    for id_, other in workflows.items():
        listening[other.event_type].append((id_, other))
    waits = any(registry.actions[row["action_type"]].family == "timing" for row in one.actions)
    for action in one.actions:
        for event in registry.actions[action["action_type"]].emits:
            for id_, other in listening[event]:
                if _may_meet(other.conditions, action):
                    is_on_trunk = action["branch_id"] is None
                    is_certain = event in ALWAYS and is_on_trunk and not waits
                    is_sure = is_certain and not other.conditions
                    yield _Start(id_, is_sure)
        campaign = str(action["action_config"].get("campaign_id", "")).lower()
        if action["action_type"] == "add_to_campaign" and by_campaign.get(campaign) in workflows:
            yield _Start(by_campaign[campaign], is_sure=False)


def _may_meet(conditions: Sequence[Row], action: Row) -> bool:
    """Whether the event of an action may meet conditions; a tag of another name never does."""
    name = action["action_config"].get("tag_name")
    if not isinstance(name, str) or has_merge_fields(name):
        return True
    return not any(
        condition["field"] == "payload.tag_name"
        and condition["operator"] == "equals"
        and str(condition["value"]).lower() != name.strip().lower()
        for condition in conditions
    )


def _circle(starts: Mapping[UUID, Sequence[_Start]], home: UUID) -> list[UUID]:
    """Find a shortest circle through a workflow, a sure one before others; empty: there is none."""
    for only_sure in (True, False):
        came: dict[UUID, UUID] = {}
        pending = [home]
        while pending:
            id_ = pending.pop(0)
            for start in starts[id_]:
                if only_sure and not start.is_sure:
                    continue
                if start.to == home:
                    return _way(came, id_, home)
                if start.to not in came:
                    came[start.to] = id_
                    pending.append(start.to)
    return []


def _way(came: Mapping[UUID, UUID], last: UUID, home: UUID) -> list[UUID]:
    way = [last]
    while way[-1] != home:
        way.append(came[way[-1]])
    return way[::-1]


def _told(
    circle: Sequence[UUID],
    starts: Mapping[UUID, Sequence[_Start]],
    workflows: Mapping[UUID, _Workflow],
) -> Loops:
    if not circle:
        return Loops()
    names = " → ".join(workflows[id_].name for id_ in (*circle, circle[0]))
    pairs = zip(circle, [*circle[1:], circle[0]], strict=True)
    is_sure = all(any(s.to == to and s.is_sure for s in starts[of]) for of, to in pairs)
    if is_sure:
        message = f"These workflows start each other for ever: {names}."
        return Loops(faults=[Fault("trigger", "workflow_loop", message)])
    message = f"These workflows may start each other again and again: {names}."
    return Loops(warnings=[{"code": "workflow_may_loop", "message": message}])
