"""The shapes of the rows that a batch writes: columns, and how records become them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from runtime import states
from runtime.records import NewEffect, Record
from runtime.stage import Event, FieldChange


def columns_of(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn rows into the arrays that a query unnests."""
    return [list(column) for column in zip(*rows, strict=True)]


def is_plain(r: Record) -> bool:
    """Whether all there is to say of a step is that it is completed, when, and with what result."""
    return r.status == "completed" and r.item.event_id is None


def completed(r: Record) -> tuple[Any, ...]:
    """The arguments of complete_steps."""
    return (r.item.step_id, r.item.begun_at, r.finished_at, r.result, r.item.attempt + 1)


def updated(r: Record) -> tuple[Any, ...]:
    """The arguments of update_steps."""
    final = r.status in states.FINAL
    return (
        r.item.step_id,
        r.status,
        r.item.begun_at if r.outcome is not None else None,
        r.finished_at if final else None,
        r.data,
        r.result,
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
    "result_data",
    "family",
    "lane_id",
    "priority",
    "sequence",
    "attempt",
    "ready_at",
    "return_action_id",
)
"""Columns of a fused step that is completed; the others keep their defaults."""

BORN_OPEN = (
    *BORN,
    "execution_data",
    "error_message",
    "error_code",
    "skip_reason",
    "retry_count",
    "scheduled_at",
    "phase",
    "waiting_for",
    "waiting_action_id",
    "event_id",
)
"""Columns of a new step that is anything else."""


def born(r: Record, now: datetime) -> tuple[Any, ...]:
    """The row of a new step, in the order of BORN."""
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
        r.result,
        item.action.type.family,
        item.action.lane_id,
        item.priority,
        item.sequence,
        int(r.outcome is not None),
        item.begun_at or now,
        item.return_action_id,
    )


def born_open(r: Record, now: datetime) -> tuple[Any, ...]:
    """The row of a new step, in the order of BORN_OPEN."""
    return (
        *born(r, now),
        r.data,
        r.failure.message if r.failure else None,
        r.failure.code if r.failure else None,
        r.skip_reason,
        r.retries,
        r.scheduled_at,
        r.phase,
        r.waiting_for,
        r.waiting_action_id,
        r.item.event_id,
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


def attempt(r: Record, worker_id: UUID) -> tuple[Any, ...]:
    """The row of an attempt, in the order of ATTEMPT."""
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
    "on_unknown",
    "created_at",
    "ready_at",
)


def effect(e: NewEffect, family: str, lane_id: int, now: datetime) -> tuple[Any, ...]:
    """The row of a new effect, in the order of EFFECT."""
    item, request = e.item, e.request
    return (
        e.id,
        item.account_id,
        item.step_id,
        item.execution_id,
        item.workflow_id,
        item.contact_id,
        request.kind,
        family,
        lane_id,
        request.integration_id,
        request.gates_step,
        item.priority,
        request.idempotency_key or str(e.id),
        request.channel,
        request.address,
        request.request,
        request.decision,
        request.on_unknown,
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


def change(c: FieldChange, now: datetime) -> tuple[Any, ...]:
    """The row of a changed field, in the order of CHANGE."""
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


def event(e: Event, now: datetime, *, is_heard: bool) -> tuple[Any, ...]:
    """The row of a domain event, in the order of EVENT; one that nobody hears is handed on."""
    return (
        e.account_id,
        e.event_type,
        e.contact_id,
        e.payload,
        e.action_id,
        e.execution_id,
        e.event_depth,
        e.occurred_at,
        None if is_heard else now,
    )
