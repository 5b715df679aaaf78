"""Recording a batch: everything that its rounds decided, in a handful of statements.

Rows of claimed steps are updated; fused and following steps are born in the state that their
performance ended in. Every change is checked against the state table first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from runtime import states
from runtime.bells import Bells
from runtime.database import Connection
from runtime.lanes import LaneKey
from runtime.performing import Rounds
from runtime.records import NewEffect, Record
from runtime.registry import Registry
from runtime.stage import Event, FieldChange, Stage
from sql import load

queries = load("recording")


async def record(
    stage: Stage,
    rounds: Rounds,
    registry: Registry,
    lanes: Mapping[LaneKey, int],
    worker_id: UUID,
) -> Bells:
    """Write everything in the stage's transaction; gives what to ring after its commit.

    `lanes` holds the lane of every new effect (see `lanes_needed`).
    """
    for rec in rounds.records:
        states.check(rec.item.status, rec.status)
    db, now = stage.db, stage.instant()
    claimed = [r for r in rounds.records if r.item.status is not None]
    born = [r for r in rounds.records if r.item.status is None]
    if claimed:
        await db.execute(queries.update_steps, *_columns([_updated(r) for r in claimed]))
    if born:
        await db.copy_records_to_table(
            "workflow_action_executions", columns=BORN, records=[_born(r, now) for r in born]
        )
    tried = [_attempt(r, worker_id) for r in rounds.records if r.outcome is not None]
    if tried:
        await db.copy_records_to_table("workflow_action_attempts", columns=ATTEMPT, records=tried)
    if rounds.ended:
        await db.execute(
            queries.end_executions,
            [e.execution_id for e in rounds.ended],
            [e.status for e in rounds.ended],
            [e.reason for e in rounds.ended],
            now,
        )
    effects = rounds.effects
    if effects:
        await db.copy_records_to_table(
            "effects", columns=EFFECT, records=[_effect(e, registry, lanes, now) for e in effects]
        )
    if stage.changes:
        await db.copy_records_to_table(
            "contact_field_changes",
            columns=CHANGE,
            records=[_change(c, now) for c in stage.changes],
        )
    bells = Bells(families=set(stage.ready))
    bells.families |= {r.item.action.type.family for r in rounds.records if r.status == "pending"}
    bells.families |= {registry.effects[e.request.kind].family for e in effects}
    bells.wake_at = {r.scheduled_at for r in rounds.records if r.scheduled_at is not None}
    bells.events = await write_events(db, stage.events, now)
    return bells


def lanes_needed(effects: Sequence[NewEffect], registry: Registry) -> list[LaneKey]:
    """The lanes that new effects will stand in."""
    return [_lane_key(effect, registry) for effect in effects]


def _lane_key(effect: NewEffect, registry: Registry) -> LaneKey:
    family = registry.effects[effect.request.kind].family
    item = effect.item
    return (family, item.account_id, item.workflow_id, effect.request.integration_id)


async def write_events(db: Connection, events: Sequence[Event], now: datetime) -> bool:
    """Write domain events; True when an active workflow listens for one of them.

    An event that nobody listens for is born dispatched, which saves its second write.
    """
    if not events:
        return False
    accounts = list({event.account_id for event in events})
    listened = {
        (row["account_id"], row["event_type"])
        for row in await db.fetch(queries.listeners, accounts)
    }
    records = [
        (
            e.account_id,
            e.event_type,
            e.contact_id,
            dict(e.payload),
            e.action_id,
            e.execution_id,
            e.event_depth,
            e.occurred_at,
            None if (e.account_id, e.event_type) in listened else now,
        )
        for e in events
    ]
    await db.copy_records_to_table("domain_events", columns=EVENT, records=records)
    return any(record[-1] is None for record in records)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _updated(r: Record) -> tuple[Any, ...]:
    final = r.status in states.FINAL
    return (
        r.item.step_id,
        r.status,
        r.item.begun_at if r.outcome is not None else None,
        r.finished_at if final else None,
        dict(r.data),
        dict(r.result),
        r.failure.code if r.failure else None,
        r.failure.message if r.failure else None,
        r.skip_reason,
        r.item.retry_count + r.retries,
        r.scheduled_at,
        r.phase,
        r.hold,
        r.item.attempt + (r.outcome is not None),
        r.waiting_for,
        r.waiting_action_id,
        r.item.event_id,
    )


BORN = (
    "id",
    "account_id",
    "workflow_execution_id",
    "action_id",
    "contact_id",
    "status",
    "started_at",
    "completed_at",
    "execution_data",
    "result_data",
    "error_message",
    "error_code",
    "skip_reason",
    "retry_count",
    "scheduled_at",
    "family",
    "lane_id",
    "phase",
    "priority",
    "sequence",
    "attempt",
    "ready_at",
    "waiting_for",
    "waiting_action_id",
    "event_id",
    "return_action_id",
)


def _born(r: Record, now: datetime) -> tuple[Any, ...]:
    item = r.item
    return (
        item.step_id,
        item.account_id,
        item.execution_id,
        item.action.id,
        item.contact_id,
        r.status,
        item.begun_at if r.outcome is not None else None,
        r.finished_at if r.status in states.FINAL else None,
        dict(r.data),
        dict(r.result),
        r.failure.message if r.failure else None,
        r.failure.code if r.failure else None,
        r.skip_reason,
        r.retries,
        r.scheduled_at,
        item.action.type.family,
        item.action.lane_id,
        r.phase,
        item.priority,
        item.sequence,
        int(r.outcome is not None),
        item.begun_at or now,
        r.waiting_for,
        r.waiting_action_id,
        item.event_id,
        item.return_action_id,
    )


ATTEMPT = (
    "step_id",
    "attempt",
    "account_id",
    "contact_id",
    "action_id",
    "version_id",
    "worker_id",
    "started_at",
    "finished_at",
    "outcome",
    "error_kind",
    "error_code",
    "error_message",
)


def _attempt(r: Record, worker_id: UUID) -> tuple[Any, ...]:
    item, failure = r.item, r.failure
    return (
        item.step_id,
        item.attempt + 1,
        item.account_id,
        item.contact_id,
        item.action.id,
        item.version.id,
        worker_id,
        item.begun_at,
        r.finished_at,
        r.outcome,
        failure.kind.value if failure else None,
        failure.code if failure else None,
        failure.message if failure else None,
    )


EFFECT = (
    "id",
    "account_id",
    "step_id",
    "execution_id",
    "workflow_id",
    "contact_id",
    "kind",
    "family",
    "lane_id",
    "integration_id",
    "gates_step",
    "priority",
    "idempotency_key",
    "channel",
    "address",
    "request",
    "decision",
    "created_at",
    "ready_at",
)


def _effect(
    e: NewEffect, registry: Registry, lanes: Mapping[LaneKey, int], now: datetime
) -> tuple[Any, ...]:
    item, request = e.item, e.request
    return (
        e.id,
        item.account_id,
        item.step_id,
        item.execution_id,
        item.workflow_id,
        item.contact_id,
        request.kind,
        registry.effects[request.kind].family,
        lanes[_lane_key(e, registry)],
        request.integration_id,
        request.gates_step,
        item.priority,
        request.idempotency_key or str(e.id),
        request.channel,
        request.address,
        dict(request.request),
        dict(request.decision) if request.decision is not None else None,
        now,
        now,
    )


CHANGE = (
    "account_id",
    "contact_id",
    "field",
    "old_value",
    "new_value",
    "step_id",
    "changed_at",
)


def _change(c: FieldChange, now: datetime) -> tuple[Any, ...]:
    return (c.account_id, c.contact_id, c.field, c.old, c.new, c.step_id, now)


EVENT = (
    "account_id",
    "event_type",
    "contact_id",
    "payload",
    "action_id",
    "execution_id",
    "event_depth",
    "occurred_at",
    "dispatched_at",
)
