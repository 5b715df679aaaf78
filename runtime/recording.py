"""Recording a batch: everything that its rounds decided, in a handful of statements.

Rows of claimed steps are updated; fused and following steps are born in the state that their
performance ended in. Every change is checked against the state table first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from runtime import rows, states
from runtime.bells import Bells
from runtime.database import Connection
from runtime.lanes import LaneKey
from runtime.performing import Rounds
from runtime.records import NewEffect, Record
from runtime.registry import Registry
from runtime.stage import Event, Stage
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
    await _write_steps(db, rounds.records, now)
    tried = [rows.attempt(r, worker_id) for r in rounds.records if r.outcome is not None]
    await _copy(db, "workflow_action_attempts", rows.ATTEMPT, tried)
    if rounds.ended:
        ended = [(e.execution_id, e.status, e.reason) for e in rounds.ended]
        await db.execute(queries.end_executions, *rows.columns_of(ended), now)
    effects = [
        rows.effect(e, registry.effects[e.request.kind].family, lanes[_lane_key(e, registry)], now)
        for e in rounds.effects
    ]
    await _copy(db, "effects", rows.EFFECT, effects)
    changes = [rows.change(c, now) for c in stage.changes]
    await _copy(db, "contact_field_changes", rows.CHANGE, changes)
    bells = Bells(families=set(stage.ready))
    bells.families |= {r.item.action.type.family for r in rounds.records if r.status == "pending"}
    bells.sending = {registry.effects[e.request.kind].family for e in rounds.effects}
    bells.wake_at = {r.scheduled_at for r in rounds.records if r.scheduled_at is not None}
    bells.events = await write_events(db, stage.events, now)
    return bells


async def _write_steps(db: Connection, records: Sequence[Record], now: datetime) -> None:
    """Update the steps that were claimed, add those that are new; plain completions apart."""
    shapes: dict[tuple[bool, bool], list[Record]] = defaultdict(list)
    for r in records:
        shapes[r.item.status is None, rows.is_plain(r)].append(r)
    for (is_new, is_plain), of_shape in shapes.items():
        if is_new:
            columns = rows.BORN if is_plain else rows.BORN_OPEN
            row = rows.born if is_plain else rows.born_open
            born = [row(r, now) for r in of_shape]
            await _copy(db, "workflow_action_executions", columns, born)
        else:
            query = queries.complete_steps if is_plain else queries.update_steps
            left = [rows.completed(r) if is_plain else rows.updated(r) for r in of_shape]
            await db.execute(query, *rows.columns_of(left))


async def _copy(
    db: Connection, table: str, columns: Sequence[str], records: Sequence[tuple[Any, ...]]
) -> None:
    if records:
        await db.copy_records_to_table(table, columns=columns, records=records)


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
    heard = {
        (row["account_id"], row["event_type"])
        for row in await db.fetch(queries.listeners, accounts)
    }
    written = [rows.event(e, now, is_heard=(e.account_id, e.event_type) in heard) for e in events]
    await _copy(db, "domain_events", rows.EVENT, written)
    return any((e.account_id, e.event_type) in heard for e in events)
