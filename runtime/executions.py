"""Beginning, cancelling and pausing executions: the ways into and out of a run.

An execution's row is changed only under the lock of its contact's row. A batch locks its
contacts before it looks at the status of its executions, so that whoever cancels either waits
for the batch or is seen by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from runtime.database import Connection
from runtime.definitions import CompiledVersion
from runtime.ids import new_id
from sql import load

queries = load("executions")


@dataclass(frozen=True, slots=True)
class Entry:
    """How contacts enter a workflow: everything about the runs that are to begin.

    `entry_key`: runs with different keys may be live at once; with the same (default: none)
    only one per contact is. `start_action_id` begins at that action instead of the first.
    `event_depth` says how many events in a chain led here.
    """

    entry_key: str = ""
    priority: int = 0
    context: Mapping[str, Any] = field(default_factory=dict)
    event_depth: int = 0
    start_action_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """The domain event that one contact's run was started by, and the context that it gives."""

    event_id: int
    event_depth: int
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What became of one contact: `execution_id` of the new run, or the reason why there is none.

    Reasons: already_enrolled (a live run exists), no_such_contact (none of this account, or
    erased), workflow_has_no_actions.
    """

    contact_id: UUID
    execution_id: UUID | None
    reason: str | None = None


async def enrol(
    db: Connection,
    now: datetime,
    version: CompiledVersion,
    contact_ids: Sequence[UUID],
    entry: Entry | None = None,
    *,
    causes: Sequence[Cause] | None = None,
) -> list[Enrolment]:
    """Begin a run of each contact, set-based, in the caller's transaction.

    Gives one Enrolment per distinct contact, in order. `causes`, one per contact, stand instead
    of the entry's context and depth (then the contacts must be distinct). The caller rings the
    family of the first action after its commit. One statement for any number of contacts.
    """
    entry = entry or Entry()
    distinct = list(dict.fromkeys(contact_ids))
    first = version.actions.get(entry.start_action_id or version.heads.get(None) or UUID(int=0))
    if first is None:
        return [Enrolment(c, None, "workflow_has_no_actions") for c in distinct]
    rows = await db.fetch(
        queries.begin_executions,
        version.account.id,
        version.workflow_id,
        version.id,
        distinct,
        [new_id() for _ in distinct],
        [new_id() for _ in distinct],
        entry.entry_key,
        entry.priority,
        [dict(c.context) for c in causes] if causes else [dict(entry.context)],
        [c.event_depth for c in causes] if causes else [entry.event_depth],
        [c.event_id for c in causes] if causes else [None],
        now,
        first.id,
        first.type.family,
        first.lane_id,
    )
    found = {row["contact_id"]: row["execution_id"] for row in rows}
    return [
        Enrolment(c, found[c])
        if found.get(c)
        else Enrolment(c, None, "already_enrolled" if c in found else "no_such_contact")
        for c in distinct
    ]


def first_family(version: CompiledVersion, entry: Entry | None = None) -> str | None:
    """The family to ring after an enrolment; None for a version without actions."""
    start = entry.start_action_id if entry else None
    first = version.actions.get(start or version.heads.get(None) or UUID(int=0))
    return first.type.family if first else None


async def cancel(
    db: Connection,
    now: datetime,
    account_id: UUID,
    execution_ids: Sequence[UUID],
    reason: str,
) -> list[UUID]:
    """End live executions as cancelled, with everything of theirs that is not yet dispatched.

    Locks the contacts first (see the module's rule); gives the ids that were live. What a batch
    has in hand is skipped by that batch, which sees the status once it has the contact's lock.
    """
    await db.execute(queries.lock_contacts_of_executions, account_id, list(execution_ids))
    rows = await db.fetch(queries.cancel_executions, account_id, list(execution_ids), reason, now)
    ended = [row["id"] for row in rows]
    if ended:
        # Effects before steps, as recorders lock them.
        await db.execute(queries.cancel_effects, ended, reason, now)
        await db.execute(queries.cancel_steps, ended, reason, now)
        await db.execute(queries.end_enrollments, ended, "removed", reason, now)
    return ended


async def pause(db: Connection, account_id: UUID, execution_ids: Sequence[UUID]) -> list[UUID]:
    """Keep running executions from beginning further steps; waits keep their place."""
    await db.execute(queries.lock_contacts_of_executions, account_id, list(execution_ids))
    rows = await db.fetch(queries.pause_executions, account_id, list(execution_ids))
    paused = [row["id"] for row in rows]
    await db.execute(queries.park_effects, paused)
    await db.execute(queries.park_steps, paused)
    return paused


async def resume(
    db: Connection, now: datetime, account_id: UUID, execution_ids: Sequence[UUID]
) -> tuple[list[UUID], set[str]]:
    """Let paused executions go on; gives their ids and the families to ring after the commit."""
    await db.execute(queries.lock_contacts_of_executions, account_id, list(execution_ids))
    rows = await db.fetch(queries.resume_executions, account_id, list(execution_ids))
    resumed = [row["id"] for row in rows]
    families = await db.fetch(queries.unpark_effects, resumed, now)
    families += await db.fetch(queries.unpark_steps, resumed, now)
    return resumed, {row["family"] for row in families}
