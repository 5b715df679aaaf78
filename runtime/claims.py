"""Claiming steps: from rows that this transaction has locked to items that can be performed.

The order is the rule of the house: steps are locked first (skipping what others hold), then
contacts in the order of their ids, and only then does a further statement look at the
executions. Whoever cancels or pauses an execution holds its contact's lock, so that he either
waits for this batch or is seen by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from runtime.database import Connection
from runtime.definitions import CompiledVersion
from runtime.failures import Failure, Kind
from runtime.records import Record
from runtime.stage import Contact, Item
from runtime.versions import Versions
from sql import load

queries = load("claims")

OPEN: Final = frozenset({"pending", "scheduled", "claimed", "dispatched"})
"""The statuses of an effect that has not ended."""

DELETED_EVENT: Final[Mapping[str, Any]] = {
    "event_type": None,
    "payload": {},
    "occurred_at": None,
    "action_id": None,
}


async def load_items(
    db: Connection, versions: Versions, rows: Sequence[asyncpg.Record]
) -> tuple[list[Item], list[Record]]:
    """Lock the contacts of claimed steps, look at their executions, and build items.

    Gives the items to perform, and records of those whose execution was cancelled or paused
    meanwhile: they are skipped or parked.
    """
    contacts = await _lock_contacts(db, {row["contact_id"] for row in rows})
    executions = {
        row["id"]: row
        for row in await db.fetch(
            queries.look_at_executions, [row["workflow_execution_id"] for row in rows]
        )
    }
    compiled = await versions.get_many({e["version_id"] for e in executions.values()})
    items, records = [], []
    for row in rows:
        execution = executions[row["workflow_execution_id"]]
        item = _item(row, execution, compiled[execution["version_id"]], contacts)
        if execution["status"] == "running":
            items.append(item)
        elif execution["status"] == "paused":
            # A row that is running was claimed alone, and shall be again.
            hold = "parked_isolated" if row["status"] == "running" else "parked"
            records.append(_kept(item, hold=hold))
        else:
            records.append(Record(item, "skipped", None, skip_reason="cancelled"))
    await _load_what_is_needed(db, items)
    for item in [item for item in items if _has_open_effects(item)]:
        # Reported as undelivered since it ended: it is sent once more, and ends another time.
        items.remove(item)
        records.append(Record(item, "running", None, phase=item.phase, data=item.data))
    return items, records


def _has_open_effects(item: Item) -> bool:
    return item.phase == "settle" and any(e["status"] in OPEN for e in item.effects)


def _kept(item: Item, *, hold: str) -> Record:
    kept = Record(item, "pending", None, phase=item.phase, data=item.data, hold=hold)
    if item.error_code is not None:
        # Of its last try; a step that the sweep has given up as poison must stay so.
        kept.failure = Failure(Kind.INTERNAL, item.error_code, item.error_code)
    return kept


async def _lock_contacts(db: Connection, ids: Iterable[UUID]) -> dict[UUID, Contact]:
    return {row["id"]: dict(row) for row in await db.fetch(queries.lock_contacts, list(ids))}


def _item(
    row: asyncpg.Record,
    execution: asyncpg.Record,
    version: CompiledVersion,
    contacts: Mapping[UUID, Contact],
) -> Item:
    return Item(
        step_id=row["id"],
        execution_id=row["workflow_execution_id"],
        version=version,
        action=version.actions[row["action_id"]],
        contact=contacts[row["contact_id"]],
        sequence=row["sequence"],
        phase=row["phase"],
        context=execution["context"],
        results={},
        priority=execution["priority"],
        event_depth=execution["event_depth"],
        attempt=row["attempt"],
        retry_count=row["retry_count"],
        data=row["execution_data"],
        event_id=row["event_id"],
        error_code=row["error_code"],
        return_action_id=row["return_action_id"],
        execution_started_at=execution["started_at"],
        status=row["status"],
    )


async def _load_what_is_needed(db: Connection, items: Sequence[Item]) -> None:
    """Read, set-based, what only some batches need: results, effects, events, owners, tags."""
    if late := [i for i in items if i.sequence > 0 and i.version.uses("steps")]:
        await _load_results(db, late)
    if settling := [i for i in items if i.phase == "settle"]:
        await _load_effects(db, settling)
    if resumed := [i for i in items if i.event_id is not None]:
        await _load_events(db, resumed)
    if owned := [i for i in items if i.version.uses("contact.owner")]:
        await _load_owners(db, owned)
    if tagged := [i for i in items if i.version.uses("contact.tags")]:
        await _load_tags(db, tagged)


async def _load_results(db: Connection, items: Sequence[Item]) -> None:
    by_execution = {item.execution_id: item for item in items}
    for row in await db.fetch(queries.results_of_executions, list(by_execution)):
        item = by_execution[row["workflow_execution_id"]]
        if (action := item.version.actions.get(row["action_id"])) is not None:
            item.results[action.key] = row["result_data"]


async def _load_effects(db: Connection, items: Sequence[Item]) -> None:
    effects: dict[UUID, list[Mapping[str, Any]]] = defaultdict(list)
    for row in await db.fetch(queries.effects_of_steps, [i.step_id for i in items]):
        effects[row["step_id"]].append(dict(row))
    for item in items:
        item.effects = effects[item.step_id]


async def _load_events(db: Connection, items: Sequence[Item]) -> None:
    rows = await db.fetch(queries.events_by_id, [i.event_id for i in items])
    events = {row["id"]: dict(row) for row in rows}
    for item in items:
        # Retention may have deleted it meanwhile; that it came is still known by its id.
        item.event = events.get(item.event_id, {**DELETED_EVENT, "id": item.event_id})


async def _load_owners(db: Connection, items: Sequence[Item]) -> None:
    ids = {owner for i in items if (owner := i.contact["owner_id"]) is not None}
    owners = {row["id"]: dict(row) for row in await db.fetch(queries.owners, list(ids))}
    for item in items:
        item.contact["owner"] = owners.get(item.contact["owner_id"])


async def _load_tags(db: Connection, items: Sequence[Item]) -> None:
    tags: dict[UUID, list[str]] = defaultdict(list)
    for row in await db.fetch(queries.tags_of_contacts, [i.contact_id for i in items]):
        tags[row["contact_id"]].append(row["name"])
    for item in items:
        item.contact["tags"] = tags[item.contact_id]
