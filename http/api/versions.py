"""Versions of a workflow: what was put in force and when, and what a new one would change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from aiohttp import web

from actors.sealed_configs import redacted
from api import workflows
from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.fields import Object
from api.lists import List, Page, page_of
from api.problems import not_found
from api.shown import Shown
from runtime.activation import queries as activation_queries
from runtime.registry import Registry
from sql import load

queries = load("api_workflows")

Row = Mapping[str, Any]

# What makes a version another one, beside where an action stands.
COMPARED: Final = ("action_config", "key", "is_enabled", "on_failure", "fallback_action_id")


class VersionPage(Page):
    """Which versions to list."""


class ShownVersionItem(Shown):
    """A version; `live_executions` run it still."""

    id: UUID
    number: int
    activated_by: UUID | None
    activated_at: datetime
    is_in_force: bool
    action_count: int
    live_executions: int


class ShownVersionAction(Shown):
    """An action as it stood when its version was made."""

    id: UUID
    action_type: str
    action_config: Object
    key: str | None
    position: int
    branch_id: UUID | None
    next_action_id: UUID | None
    is_enabled: bool
    on_failure: str
    fallback_action_id: UUID | None


class ShownVersion(Shown):
    """A version with its actions."""

    id: UUID
    number: int
    activated_by: UUID | None
    activated_at: datetime
    is_in_force: bool
    actions: list[ShownVersionAction]


class ShownFieldDifference(Shown):
    """A field of an action that a new version would change."""

    field: str
    before: Any
    after: Any


class ShownActionDifference(Shown):
    """What a new version would change about an action."""

    action_id: UUID
    action_type: str
    action_key: str | None
    change: str
    fields: list[ShownFieldDifference]


class ShownBranchDifference(Shown):
    """What a new version would change about a branch: added, removed or renamed."""

    branch_id: UUID
    change: Literal["added", "removed", "renamed"]
    before: str | None
    after: str | None


class ShownStanding(Shown):
    """How many live executions stand at an action, by version and status of the step."""

    version: int
    action_id: UUID
    action_type: str | None
    action_key: str | None
    status: str
    executions: int


class ShownDifference(Shown):
    """What activating the draft would change, and where live executions stand meanwhile.

    Without a version in force everything is added. `change` is added, removed, changed or moved.
    """

    from_version: int | None
    is_different: bool
    actions: list[ShownActionDifference]
    branches: list[ShownBranchDifference]
    standing: list[ShownStanding]


VERSIONS: Final = List(queries.workflow_versions, ShownVersionItem, "-number")


async def list_all(call: Call) -> web.Response:
    """List the versions of a workflow, the newest first."""
    page = call.parameters(VersionPage)
    workflow = await workflows.find(call, call.pool)
    return answer(await VERSIONS.page(call.pool, page, call.account_id, workflow["id"]))


async def read(call: Call) -> web.Response:
    """Read one version by its number, with its actions as they stood."""
    number = call.request.match_info["number"]
    ids = call.account_id, call.id("workflow_id")
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    row = await call.pool.fetchrow(queries.workflow_version, *ids, wanted)
    if row is None:
        raise not_found("version")
    actions = await call.pool.fetch(queries.version_rows, call.account_id, row["id"])
    shown = [_shown(action, call.services.registry) for action in actions]
    return answer({**row, "actions": shown})


def _shown(row: Row | asyncpg.Record, registry: Registry) -> dict[str, Any]:
    config = redacted(registry.actions[row["action_type"]], row["action_config"])
    return {**row, "action_config": config}


async def compare(call: Call) -> web.Response:
    """Say what activating the draft would change, and how many live executions stand where.

    Executions that are alive stay on the version that they began with.
    """
    workflow = await workflows.find(call, call.pool)
    ids = call.account_id, workflow["id"]
    draft = await call.pool.fetch(activation_queries.draft_actions, *ids)
    version_id = workflow["active_version_id"]
    branches = await call.pool.fetch(activation_queries.branches, *ids)
    version, kept, kept_branches = None, list[asyncpg.Record](), list[asyncpg.Record]()
    if version_id is not None:
        arguments = call.account_id, version_id
        version = await call.pool.fetchrow(activation_queries.version, *arguments)
        kept = await call.pool.fetch(activation_queries.version_actions, *arguments)
        kept_branches = await call.pool.fetch(activation_queries.version_branches, *arguments)
    registry = call.services.registry
    differences = _differences(
        [_shown(row, registry) for row in kept], [_shown(row, registry) for row in draft]
    )
    of_branches = _branch_differences(kept_branches, branches)
    standing = await call.pool.fetch(queries.standing, *ids)
    return answer(
        {
            "from_version": version and version["number"],
            "is_different": bool(differences or of_branches) or version is None,
            "actions": differences,
            "branches": of_branches,
            "standing": [dict(row) for row in standing],
        }
    )


def _differences(before: Sequence[Row], after: Sequence[Row]) -> list[dict[str, Any]]:
    was, now = {row["id"]: row for row in before}, {row["id"]: row for row in after}
    found = []
    for row in after:
        if row["id"] not in was:
            found.append(_difference(row, "added", []))
            continue
        fields = _changed(was[row["id"]], row, COMPARED)
        places = _changed(was[row["id"]], row, ("branch_id", "position"))
        if fields or places:
            found.append(_difference(row, "changed" if fields else "moved", fields + places))
    return found + [_difference(row, "removed", []) for row in before if row["id"] not in now]


def _branch_differences(
    before: Sequence[asyncpg.Record], after: Sequence[asyncpg.Record]
) -> list[dict[str, Any]]:
    was, now = ({row["id"]: row["name"] for row in rows} for rows in (before, after))
    return [
        {"branch_id": id_, "change": change, "before": was.get(id_), "after": now.get(id_)}
        for id_ in [*now, *(id_ for id_ in was if id_ not in now)]
        if (change := _branch_change(was.get(id_), now.get(id_))) is not None
    ]


def _branch_change(before: str | None, after: str | None) -> str | None:
    if before is None or after is None:
        return "added" if before is None else "removed"
    return "renamed" if before != after else None


def _changed(before: Row, after: Row, fields: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"field": field, "before": before[field], "after": after[field]}
        for field in fields
        if before[field] != after[field]
    ]


def _difference(row: Row, change: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "action_id": row["id"],
        "action_type": row["action_type"],
        "action_key": row["key"],
        "change": change,
        "fields": fields,
    }


_ALL: Final = "/api/v1/workflows/{workflow_id}/versions"

ROUTES: Final = (
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.READ,
        parameters=VersionPage,
        answers={200: page_of(ShownVersionItem)},
    ),
    Route("GET", f"{_ALL}/{{number}}", read, Permission.READ, answers={200: ShownVersion}),
    Route(
        "GET",
        "/api/v1/workflows/{workflow_id}/diff",
        compare,
        Permission.READ,
        answers={200: ShownDifference},
    ),
)
