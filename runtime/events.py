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
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.conditions import met
from runtime.database import Connection
from runtime.definitions import CompiledVersion
from runtime.executions import Cause, Enrolment, Entry, cancel, enrol, first_family
from runtime.versions import Versions
from sql import load

queries = load("events")
log = structlog.get_logger(__name__)

INSTALMENT: Final = 500

REPLIES: Final = frozenset({"sms_reply", "messenger_reply"})
"""What ends a contact's runs in workflows with the setting stop_on_reply."""


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
    replies = {i for i, e in zip(ids, events, strict=True) if e.event_type in REPLIES}
    await _stop_on_reply(db, sorted(replies & stored), now)
    ended = await db.fetch(queries.end_waits, list(stored), now)
    bells = Bells(families={row["family"] for row in ended})
    bells.events = any(row["is_undispatched"] for row in rows)
    return [id_ if id_ in stored else None for id_ in ids], bells


async def _stop_on_reply(db: Connection, replies: Sequence[int], now: datetime) -> None:
    """End the runs of people who have replied, where their workflow says so.

    In the transaction that takes the reply in, before anything further is sent; a wait for the
    reply in such a run ends with it.
    """
    if not replies:
        return
    stopped: dict[UUID, list[UUID]] = defaultdict(list)
    for row in await db.fetch(queries.stopped_by_reply, replies):
        stopped[row["account_id"]].append(row["id"])
    for account_id, execution_ids in stopped.items():
        await cancel(db, now, account_id, sorted(execution_ids), "replied")


async def hand_on(pool: asyncpg.Pool, versions: Versions, max_depth: int) -> tuple[Bells, int]:
    """Start the workflows that listen for an instalment of undispatched events.

    Gives what to ring and how many events there were. A chain of events deeper than
    `max_depth` starts nothing more (the loop guard); every refusal is written down.
    """
    bells = Bells()
    async with pool.acquire() as db, db.transaction():
        now = await current_instant(db)
        events = sorted(await db.fetch(queries.claim_events, INSTALMENT, now), key=itemgetter("id"))
        if not events:
            return bells, 0
        accounts = list({e["account_id"] for e in events})
        triggers = await db.fetch(queries.triggers, accounts)
        contacts = {
            row["id"]: dict(row)
            for row in await db.fetch(queries.contacts, [e["contact_id"] for e in events])
        }
        refused: list[Refusal] = []
        for trigger in triggers:
            concerned = [e for e in events if _concerns(trigger, e, contacts)]
            try:
                going = [e for e in concerned if _meets(trigger, e, contacts)]
                version = await _version(versions, trigger) if going else None
            except (LookupError, TypeError, ValueError):
                # A definition that cannot be read holds up no event of others.
                log.exception("trigger.unreadable", workflow_id=str(trigger["workflow_id"]))
                refused += [_refusal(trigger, e, "workflow_unreadable") for e in concerned]
                continue
            too_deep = [e for e in going if e["event_depth"] > max_depth]
            refused += [_refusal(trigger, e, "loop_guard") for e in too_deep]
            if version is not None and len(too_deep) < len(going):
                shallow = [e for e in going if e["event_depth"] <= max_depth]
                refused += await _start(db, now, version, trigger, shallow)
                bells.families |= {family} if (family := first_family(version)) else set()
        if refused:
            await db.execute(
                queries.refuse, *(list(column) for column in zip(*refused, strict=True)), now
            )
    return bells, len(events)


Contacts = Mapping[UUID, Mapping[str, Any]]
Refusal = tuple[Any, ...]


def _concerns(trigger: asyncpg.Record, event: asyncpg.Record, contacts: Contacts) -> bool:
    return (
        event["contact_id"] in contacts
        and event["account_id"] == trigger["account_id"]
        and event["event_type"] == trigger["event_type"]
    )


def _meets(trigger: asyncpg.Record, event: asyncpg.Record, contacts: Contacts) -> bool:
    fields = {"payload": event["payload"], "contact": contacts[event["contact_id"]]}
    return met(trigger["conditions"], fields)


async def _version(versions: Versions, trigger: asyncpg.Record) -> CompiledVersion | None:
    return await versions.active(trigger["account_id"], trigger["workflow_id"])


async def _start(
    db: Connection,
    now: datetime,
    version: CompiledVersion,
    trigger: asyncpg.Record,
    events: Sequence[asyncpg.Record],
) -> list[Refusal]:
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


def _refusal(trigger: asyncpg.Record, event: asyncpg.Record, reason: str) -> Refusal:
    return (
        trigger["account_id"],
        trigger["workflow_id"],
        event["contact_id"],
        event["id"],
        reason,
    )
