"""One action as one job: its effect and its log rows in one transaction, as peers do it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from uuid_utils.compat import uuid7

from bench._journey import ACTIONS, Journey
from bench._journey import queries as journeys
from runtime.database import Connection
from sql import Queries

queries = Queries(Path(__file__).with_name("_job.sql"))

_EFFECTS: Final = tuple(getattr(queries, action_type) for action_type, _ in ACTIONS)
_EVENTS: Final = ("contact_updated", "tag_added", "note_added", "task_created", "tag_removed")
LAST: Final = len(ACTIONS) - 1


async def begin(journey: Journey) -> list[tuple[UUID, UUID]]:
    """Begin an execution of every contact; gives (execution, contact)."""
    contact_ids: Sequence[UUID] = journey.world.contact_ids
    ids = [uuid7() for _ in contact_ids]
    version = journey.version
    await journey.world.pool.execute(
        journeys.begin_without_steps,
        journey.world.account_id,
        version.workflow_id,
        version.id,
        ids,
        contact_ids,
    )
    return list(zip(ids, contact_ids, strict=True))


async def perform(
    db: Connection, journey: Journey, number: int, execution_id: UUID, contact_id: UUID
) -> None:
    """Perform the `number`th action for a contact, inside the caller's transaction."""
    step_id, account_id = uuid7(), journey.world.account_id
    tag_id = {1: journey.customer_id, LAST: journey.lead_id}.get(number)
    await db.execute(_EFFECTS[number], account_id, contact_id, step_id, tag_id)
    await db.execute(
        queries.log_step,
        step_id,
        account_id,
        execution_id,
        journey.action_ids[number],
        contact_id,
        journey.lane_id,
        number,
        journey.version.id,
        _EVENTS[number],
    )
    if number == LAST:
        await db.execute(queries.complete_execution, execution_id)
