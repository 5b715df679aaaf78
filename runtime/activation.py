"""Activating a workflow: its checked draft becomes an immutable version; and pausing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from runtime.configuration import Fault, summary
from runtime.database import Connection
from runtime.definition_checks import Row, faults_of_definition
from runtime.ids import new_id
from runtime.lanes import get_or_create_lanes
from runtime.registry import Registry
from sql import load

queries = load("activation")


@dataclass(frozen=True, slots=True)
class Activation:
    """The version in force, and the families to ring after the commit."""

    version_id: UUID
    number: int
    families: frozenset[str]


class NotActivatableError(Exception):
    """The workflow cannot be activated; `faults` say where it has to be completed."""

    def __init__(self, status: int, code: str, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.faults = faults


async def activate(  # noqa: PLR0917 (one call site's natural order)
    db: Connection,
    now: datetime,
    registry: Registry,
    account_id: UUID,
    workflow_id: UUID,
    user_id: UUID | None,
    more_faults: Sequence[Fault] = (),
) -> Activation:
    """Check the draft, put it in force as a version, listen to its trigger, open its lanes.

    In the caller's transaction, under the workflow's lock. A draft that equals the version in
    force makes no new one: so a paused workflow goes on. Runs stay on the version that they
    began with. NotActivatableError if something is wrong, incomplete or archived; `more_faults` are
    what the caller has found beyond the definition itself.
    """
    workflow = await db.fetchrow(queries.lock_workflow, account_id, workflow_id)
    if workflow is None:
        raise NotActivatableError(404, "workflow_not_found", "There is no such workflow.")
    if workflow["status"] == "archived":
        raise NotActivatableError(409, "workflow_archived", "An archived workflow stays archived.")
    rows = [dict(r) for r in await db.fetch(queries.draft_actions, account_id, workflow_id)]
    branches = await db.fetch(queries.branches, account_id, workflow_id)
    branch_ids = {row["id"] for row in branches}
    _refuse([*faults_of_definition(rows, branch_ids, registry), *more_faults])

    version = await _unchanged(db, account_id, workflow["active_version_id"], rows, branches)
    if version is None:
        version_id = new_id()
        version = await db.fetchrow(
            queries.add_version, version_id, account_id, workflow_id, user_id, now
        )
        await db.execute(queries.add_version_actions, account_id, workflow_id, version_id)
        await db.execute(queries.add_version_branches, account_id, workflow_id, version_id)
    await db.execute(queries.set_active, account_id, workflow_id, version["id"], now)
    await listen(db, account_id, workflow_id, workflow["trigger"])
    families = {registry.actions[row["action_type"]].family for row in rows}
    await get_or_create_lanes(db, [(f, account_id, workflow_id, None) for f in families])
    opened = await db.fetch(queries.open_lanes, account_id, workflow_id)
    return Activation(version["id"], version["number"], frozenset(row["family"] for row in opened))


async def pause(db: Connection, now: datetime, account_id: UUID, workflow_id: UUID) -> None:
    """Begin no further step and let nobody in; steps stay where they are, waits keep their place.

    In the caller's transaction. A step that is in hand is brought to its end.
    """
    await db.execute(queries.set_paused, account_id, workflow_id, now)
    await db.execute(queries.pause_lanes, account_id, workflow_id)
    await db.execute(queries.stop_listening, account_id, workflow_id)


def _refuse(faults: Sequence[Fault]) -> None:
    if not faults:
        return
    # What the type cannot do yet is no fault of the definition: it has a code of its own.
    codes = {fault.code for fault in faults}
    code = codes.pop() if len(codes) == 1 else "workflow_not_activatable"
    raise NotActivatableError(422, code, summary(faults), faults)


async def _unchanged(
    db: Connection,
    account_id: UUID,
    version_id: UUID | None,
    rows: Sequence[Row],
    branches: Sequence[asyncpg.Record],
) -> Any:
    if version_id is None:
        return None
    kept = await db.fetch(queries.version_actions, account_id, version_id)
    if [dict(row) for row in kept] != list(rows):
        return None
    if await db.fetch(queries.version_branches, account_id, version_id) != branches:
        return None
    return await db.fetchrow(queries.version, account_id, version_id)


async def listen(
    db: Connection, account_id: UUID, workflow_id: UUID, trigger: dict[str, Any] | None
) -> None:
    """Let an active workflow be started by what its trigger says; None: by no event."""
    if trigger is None:
        await db.execute(queries.stop_listening, account_id, workflow_id)
        return
    conditions = trigger.get("conditions", [])
    await db.execute(queries.listen, account_id, workflow_id, trigger["event_type"], conditions)
