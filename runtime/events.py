"""Domain events: taken in from outside, matched with waits, handed on to the workflows they start.

An event and a beginning wait both lock the contact's row first and look in a second statement:
in one statement each may miss the other. Events are handed on by claiming undispatched rows,
never by an id cursor, which would skip what commits late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.conditions import met
from runtime.database import Connection
from runtime.definitions import CompiledVersion
from runtime.executions import Cause, Enrolment, Entry, enrol, first_family
from runtime.versions import Versions
from sql import load

queries = load("events")

INSTALMENT: Final = 500


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """An event from outside. `dedupe_key`: the same key is taken in once per account.

    `action_id` and `execution_id` say which action of which run it answers, where known.
    """

    account_id: UUID
    event_type: str
    contact_id: UUID
    payload: Mapping[str, Any] = field(default_factory=dict)
    action_id: UUID | None = None
    execution_id: UUID | None = None
    dedupe_key: str | None = None
    occurred_at: datetime | None = None


async def take_in(
    db: Connection, events: Sequence[IncomingEvent]
) -> tuple[list[int | None], Bells]:
    """Store events in the caller's transaction and end the waits that they satisfy.

    Gives each event's id in order; None for one that was taken in before, or whose contact the
    account does not have. Ring the bells after the commit.
    """
    accounts, contacts = [e.account_id for e in events], [e.contact_id for e in events]
    await db.execute(queries.lock_contacts, accounts, contacts)
    now = await current_instant(db)
    ids = [row["id"] for row in await db.fetch(queries.reserve_ids, len(events))]
    rows = await db.fetch(
        queries.add_events,
        ids,
        accounts,
        [e.event_type for e in events],
        contacts,
        [dict(e.payload) for e in events],
        [e.action_id for e in events],
        [e.execution_id for e in events],
        [e.dedupe_key for e in events],
        [e.occurred_at or now for e in events],
        now,
    )
    stored = {row["id"] for row in rows}
    ended = await db.fetch(queries.end_waits, list(stored), now)
    bells = Bells(families={row["family"] for row in ended})
    bells.events = any(row["is_undispatched"] for row in rows)
    return [id_ if id_ in stored else None for id_ in ids], bells


async def hand_on(pool: asyncpg.Pool, versions: Versions, max_depth: int) -> tuple[Bells, int]:
    """Start the workflows that listen for an instalment of undispatched events.

    Gives what to ring and how many events there were. A chain of events deeper than
    `max_depth` starts nothing more (the loop guard); every refusal is written down.
    """
    bells = Bells()
    async with pool.acquire() as db, db.transaction():
        now = await current_instant(db)
        events = await db.fetch(queries.claim_events, INSTALMENT, now)
        if not events:
            return bells, 0
        accounts = list({e["account_id"] for e in events})
        triggers = await db.fetch(queries.triggers, accounts)
        contacts = {
            row["id"]: dict(row)
            for row in await db.fetch(queries.contacts, [e["contact_id"] for e in events])
        }
        refused: list[tuple[Any, ...]] = []
        for trigger in triggers:
            listening = [e for e in events if _starts(trigger, e, contacts)]
            too_deep = [e for e in listening if e["event_depth"] > max_depth]
            refused += [_refusal(trigger, e, "loop_guard") for e in too_deep]
            going = [e for e in listening if e["event_depth"] <= max_depth]
            version = await versions.active(trigger["account_id"], trigger["workflow_id"])
            if version is not None and going:
                refused += await _start(db, now, version, trigger, going)
                bells.families |= {family} if (family := first_family(version)) else set()
        if refused:
            await db.execute(
                queries.refuse, *(list(column) for column in zip(*refused, strict=True)), now
            )
    return bells, len(events)


def _starts(
    trigger: asyncpg.Record, event: asyncpg.Record, contacts: Mapping[UUID, Mapping[str, Any]]
) -> bool:
    contact = contacts.get(event["contact_id"])
    return (
        contact is not None
        and event["account_id"] == trigger["account_id"]
        and event["event_type"] == trigger["event_type"]
        and met(trigger["conditions"], {"payload": event["payload"], "contact": contact})
    )


async def _start(
    db: Connection,
    now: datetime,
    version: CompiledVersion,
    trigger: asyncpg.Record,
    events: Sequence[asyncpg.Record],
) -> list[tuple[Any, ...]]:
    """Enrol the contacts of events; gives the refusals. One run per contact and instalment."""
    causes: dict[UUID, list[asyncpg.Record]] = defaultdict(list)
    for event in events:
        causes[event["contact_id"]].append(event)
    firsts = [of_contact[0] for of_contact in causes.values()]
    enrolments = await enrol(
        db,
        now,
        version,
        list(causes),
        Entry(),
        causes=[Cause(e["id"], e["event_depth"], _context(e)) for e in firsts],
    )
    reasons: list[Enrolment] = [e for e in enrolments if e.reason is not None]
    refused = [_refusal(trigger, causes[e.contact_id][0], str(e.reason)) for e in reasons]
    for of_contact in causes.values():
        refused += [_refusal(trigger, e, "already_enrolled") for e in of_contact[1:]]
    return refused


def _context(event: asyncpg.Record) -> dict[str, Any]:
    return {"event": {"id": event["id"], "type": event["event_type"], "payload": event["payload"]}}


def _refusal(trigger: asyncpg.Record, event: asyncpg.Record, reason: str) -> tuple[Any, ...]:
    return (
        trigger["account_id"],
        trigger["workflow_id"],
        event["contact_id"],
        event["id"],
        reason,
    )
