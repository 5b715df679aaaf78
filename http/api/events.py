"""Domain events from outside: they end waits and start workflows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, StringConstraints

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import EventType, Object
from api.problems import invalid
from api.shown import Shown
from runtime.configuration import Fault
from runtime.database import Connection
from runtime.events import IncomingEvent, take_in
from sql import load

known = load("events")

MOST_EVENTS: Final = 10_000
LARGEST_BULK: Final = 8 << 20


Reason = Literal["contact_unknown", "execution_unknown", "related_action_unknown"]


class NewEvent(Body):
    """What a contact did. An event whose `dedupe_key` was given before is not taken in again."""

    event_type: EventType
    contact_id: UUID
    payload: Object = Field(default_factory=dict)
    related_action_id: UUID | None = None
    execution_id: UUID | None = None
    dedupe_key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None


class ShownEvent(Shown):
    """What became of an event; without an id it had been taken in before."""

    id: int | None
    is_new: bool


class NewEvents(Body):
    """Many events."""

    events: Annotated[list[NewEvent], Field(min_length=1, max_length=MOST_EVENTS)]


class EventOutcome(Shown):
    """What became of one event."""

    id: int | None
    outcome: Literal["taken_in", "duplicate", "refused"]
    reason: Reason | None


class ShownEvents(Shown):
    """What became of each event, in the order of the request, and how many of each there were."""

    taken_in: int
    duplicate: int
    refused: int
    outcomes: list[EventOutcome]


def _incoming(call: Call, new: NewEvent) -> IncomingEvent:
    return IncomingEvent(
        call.account_id,
        new.event_type,
        new.contact_id,
        new.payload,
        new.related_action_id,
        new.execution_id,
        new.dedupe_key,
    )


async def create(call: Call) -> web.Response:
    """Take an event in; 202, or 200 if it was taken in before."""
    new = await call.body(NewEvent)
    event = _incoming(call, new)
    async with call.transaction() as db:
        [reason] = await _reasons(call, db, [event])
        if reason is not None:
            raise invalid(Fault(_FIELDS[reason], reason, _SENTENCES[reason]))
        [event_id], bells = await take_in(db, [event])
    await call.ring(bells.families, events=bells.events)
    return answer({"id": event_id, "is_new": event_id is not None}, 202 if event_id else 200)


async def create_many(call: Call) -> web.Response:
    """Take many events in, in one commit; each is answered for by itself, in the given order.

    What was taken in before, or stands twice here under one key, is a duplicate; an event of a
    contact, execution or action that the account does not have is refused and keeps no other out.
    """
    new = await call.body(NewEvents, LARGEST_BULK)
    events = [_incoming(call, event) for event in new.events]
    async with call.transaction() as db:
        reasons = await _reasons(call, db, events)
        usable = [e for e, reason in zip(events, reasons, strict=True) if reason is None]
        ids, bells = await take_in(db, usable)
    await call.ring(bells.families, events=bells.events)
    taken = iter(ids)
    outcomes = [
        _outcome(next(taken))
        if reason is None
        else {"id": None, "outcome": "refused", "reason": reason}
        for reason in reasons
    ]
    counts = Counter(outcome["outcome"] for outcome in outcomes)
    return answer(
        {name: counts[name] for name in ("taken_in", "duplicate", "refused")}
        | {"outcomes": outcomes}
    )


async def _reasons(
    call: Call, db: Connection, events: Sequence[IncomingEvent]
) -> list[Reason | None]:
    """Say why events cannot be taken in: what they name is not the account's; two statements."""
    rows = await db.fetch(known.known_contacts, call.account_id, [e.contact_id for e in events])
    contacts = {row["id"] for row in rows}
    runs = [e.execution_id for e in events if e.execution_id]
    actions = [e.action_id for e in events if e.action_id]
    places: set[tuple[str, UUID | None]] = {("execution", None), ("action", None)}
    if runs or actions:
        found = await db.fetch(known.known_places, call.account_id, runs, actions)
        places |= {(row["kind"], row["id"]) for row in found}
    return [_reason(event, contacts, places) for event in events]


def _reason(
    event: IncomingEvent, contacts: AbstractSet[UUID], places: AbstractSet[tuple[str, UUID | None]]
) -> Reason | None:
    if event.contact_id not in contacts:
        return "contact_unknown"
    if ("execution", event.execution_id) not in places:
        return "execution_unknown"
    return None if ("action", event.action_id) in places else "related_action_unknown"


_FIELDS: Final[Mapping[Reason, str]] = {
    "contact_unknown": "contact_id",
    "execution_unknown": "execution_id",
    "related_action_unknown": "related_action_id",
}
_SENTENCES: Final[Mapping[Reason, str]] = {
    "contact_unknown": "There is no such contact.",
    "execution_unknown": "There is no such execution.",
    "related_action_unknown": "There is no such action.",
}


def _outcome(event_id: int | None) -> dict[str, Any]:
    name = "duplicate" if event_id is None else "taken_in"
    return {"id": event_id, "outcome": name, "reason": None}


ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/events/bulk",
        create_many,
        Permission.RUN,
        NewEvents,
        answers={200: ShownEvents},
    ),
    Route(
        "POST",
        "/api/v1/events",
        create,
        Permission.RUN,
        NewEvent,
        answers={202: ShownEvent, 200: ShownEvent},
    ),
)
