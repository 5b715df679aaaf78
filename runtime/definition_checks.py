"""What keeps a workflow's draft from being activated: pure checks of its actions and their graph.

All are reported at once, each with the path of the field that is wrong. `actions[<id>]` in a path
is an action by its id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from runtime.configuration import Fault, faults_of_config
from runtime.registry import Registry

Row = Mapping[str, Any]
Graph = Mapping[UUID, set[UUID]]

RELATED: Final = "related_action_id"
TIMEOUT_BRANCH: Final = "timeout_branch_id"


def faults_of_definition(
    rows: Sequence[Row], branch_ids: Collection[UUID], registry: Registry
) -> list[Fault]:
    """Check the live actions of a workflow, sorted by position within each chain."""
    if not any(row["branch_id"] is None for row in rows):
        return [Fault("actions", "workflow_has_no_actions", "The workflow has no action yet.")]
    faults = [fault for row in rows for fault in _config_faults(row, registry)]
    if faults:
        references = _References(rows, branch_ids)
        return faults + [fault for row in rows for fault in references.faults(row)]
    return faults_between(rows, branch_ids)


def faults_between(rows: Sequence[Row], branch_ids: Collection[UUID]) -> list[Fault]:
    """Check what actions say of each other: fallbacks, related actions, branches, their order."""
    references = _References(rows, branch_ids)
    # A graph with dangling references is none.
    return [f for row in rows for f in references.faults(row)] or list(_graph_faults(rows))


def next_ids(rows: Sequence[Row]) -> dict[UUID, UUID | None]:
    """Give the action that follows each one in its chain."""
    following: dict[UUID, UUID | None] = {}
    last: dict[UUID | None, UUID] = {}
    for row in rows:
        if row["branch_id"] in last:
            following[last[row["branch_id"]]] = row["id"]
        last[row["branch_id"]] = row["id"]
        following[row["id"]] = None
    return following


def earlier_ids(rows: Sequence[Row]) -> dict[UUID, set[UUID]]:
    """Give for each action those that may have been performed before it, in the same run.

    Ways that lead nowhere are passed over: they are faults of their own.
    """
    known = {row["id"] for row in rows}
    there = [
        row if row["fallback_action_id"] in known else {**row, "fallback_action_id": None}
        for row in rows
    ]
    onward = _with_returns(there, _ways_ahead(there))
    earlier: dict[UUID, set[UUID]] = {row["id"]: set() for row in rows}
    for row in rows:
        for later in _reachable(onward, row["id"]) - {row["id"]}:
            earlier[later].add(row["id"])
    return earlier


def _path(row: Row, field: str) -> str:
    return f"actions[{row['id']}].{field}"


def _config_faults(row: Row, registry: Registry) -> list[Fault]:
    type_ = registry.actions.get(row["action_type"])
    if type_ is None or type_.perform is None:
        message = f"Actions of the type {row['action_type']} cannot be performed yet."
        return [Fault(_path(row, "action_type"), "action_type_not_available", message)]
    return faults_of_config(type_.config, row["action_config"], _path(row, "action_config"))


def _reference(row: Row, field: str) -> UUID | None:
    value = row["action_config"].get(field)
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:  # reported as a fault of the config
        return None


class _References:
    """Whether what an action refers to is part of its workflow."""

    def __init__(self, rows: Sequence[Row], branch_ids: Collection[UUID]) -> None:
        self._actions = {row["id"] for row in rows}
        self._branches = branch_ids
        self._used = {row["branch_id"] for row in rows}

    def faults(self, row: Row) -> Iterator[Fault]:
        fallback, related = row["fallback_action_id"], _reference(row, RELATED)
        branch = _reference(row, TIMEOUT_BRANCH)
        if fallback is not None and fallback not in self._actions:
            message = "The fallback is no action of this workflow, or was deleted."
            yield Fault(_path(row, "fallback_action_id"), "fallback_unknown", message)
        if related is not None and related not in self._actions:
            message = "The related action is none of this workflow, or was deleted."
            yield Fault(_path(row, f"action_config.{RELATED}"), "related_action_unknown", message)
        if branch is not None and branch not in self._branches:
            message = "There is no such branch in this workflow."
            yield Fault(_path(row, f"action_config.{TIMEOUT_BRANCH}"), "branch_unknown", message)
        elif branch is not None and branch not in self._used:
            message = "The branch has no action yet."
            yield Fault(_path(row, f"action_config.{TIMEOUT_BRANCH}"), "branch_empty", message)


def _graph_faults(rows: Sequence[Row]) -> Iterator[Fault]:
    ahead = _ways_ahead(rows)
    onward = _with_returns(rows, ahead)
    for row in rows:
        jump = row["fallback_action_id"]
        if jump is not None and row["id"] in _reachable(ahead, jump):
            message = "The fallback leads back to this action, again and again."
            yield Fault(_path(row, "fallback_action_id"), "fallback_loop", message)
        branch_head = _head(rows, _reference(row, TIMEOUT_BRANCH))
        if branch_head is not None and row["id"] in _reachable(ahead, branch_head):
            message = "The branch leads back to this action, again and again."
            yield Fault(_path(row, f"action_config.{TIMEOUT_BRANCH}"), "branch_loop", message)
        related = _reference(row, RELATED)
        if related is not None and not _comes_before(onward, related, row["id"]):
            message = "The related action must come before this one."
            field = f"action_config.{RELATED}"
            yield Fault(_path(row, field), "related_action_not_earlier", message)


def _ways_ahead(rows: Sequence[Row]) -> dict[UUID, set[UUID]]:
    following = next_ids(rows)
    return {
        row["id"]: {
            target
            for target in (
                following[row["id"]],
                row["fallback_action_id"],
                _head(rows, _reference(row, TIMEOUT_BRANCH)),
            )
            if target is not None
        }
        for row in rows
    }


def _with_returns(rows: Sequence[Row], ahead: Graph) -> Graph:
    """Add the ways back from the end of a chain that is entered as a fallback.

    They hold only for those who came that way, so that a loop through them is none.
    """
    following = next_ids(rows)
    chain = {row["id"]: row["branch_id"] for row in rows}
    ends = {chain[id_]: id_ for id_, next_id in following.items() if next_id is None}
    graph = {id_: set(targets) for id_, targets in ahead.items()}
    for row in rows:
        fallback, back = row["fallback_action_id"], following[row["id"]]
        if fallback is not None and back is not None and chain[fallback] != row["branch_id"]:
            graph[ends[chain[fallback]]].add(back)
    return graph


def _head(rows: Sequence[Row], branch_id: UUID | None) -> UUID | None:
    if branch_id is None:
        return None
    return next((row["id"] for row in rows if row["branch_id"] == branch_id), None)


def _reachable(graph: Graph, start: UUID) -> set[UUID]:
    seen, pending = {start}, [start]
    while pending:
        fresh = graph[pending.pop()] - seen
        seen |= fresh
        pending += fresh
    return seen


def _comes_before(graph: Graph, earlier: UUID, later: UUID) -> bool:
    return earlier != later and later in _reachable(graph, earlier)
