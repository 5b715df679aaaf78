"""Domain events from outside: they end waits and start workflows."""

from __future__ import annotations

from typing import Annotated, Final
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
from runtime.events import IncomingEvent, take_in
from sql import load

queries = load("api_contacts")


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


async def create(call: Call) -> web.Response:
    """Take an event in; 202, or 200 if it was taken in before."""
    new = await call.body(NewEvent)
    event = IncomingEvent(
        call.account_id,
        new.event_type,
        new.contact_id,
        new.payload,
        new.related_action_id,
        new.execution_id,
        new.dedupe_key,
    )
    async with call.transaction() as db:
        if await db.fetchrow(queries.contact, call.account_id, new.contact_id) is None:
            raise invalid(Fault("contact_id", "contact_unknown", "There is no such contact."))
        [event_id], bells = await take_in(db, [event])
    await call.ring(bells.families, events=bells.events)
    return answer({"id": event_id, "is_new": event_id is not None}, 202 if event_id else 200)


ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/events",
        create,
        Permission.RUN,
        NewEvent,
        answers={202: ShownEvent, 200: ShownEvent},
    ),
)
