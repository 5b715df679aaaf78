"""Contacts: make one or many, read, list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.contact_rows import NewContact, Row, checked_rows, columns, queries
from api.contact_search import ContactPage, conditions_of
from api.fields import Object
from api.lists import List, page_of
from api.problems import conflict, not_found
from api.shown import Shown
from runtime import clock
from runtime.bells import Bells
from runtime.database import Connection
from runtime.events import IncomingEvent, take_in

MOST_CONTACTS: Final = 10_000
LARGEST_BULK: Final = 8 << 20


class NewContacts(Body):
    """Many contacts to be."""

    contacts: Annotated[list[NewContact], Field(min_length=1, max_length=MOST_CONTACTS)]


class ShownContact(Shown):
    """A contact."""

    id: UUID
    first_name: str | None
    last_name: str | None
    email: str | None
    phone: str | None
    time_zone: str | None
    owner_id: UUID | None
    custom_fields: Object
    created_at: datetime
    updated_at: datetime


CONTACTS: Final = List(queries.contacts, ShownContact, "-created_at")


class CreatedContact(Shown):
    """A contact that was made."""

    contact_id: UUID
    outcome: Literal["created"]


class SkippedContact(Shown):
    """A contact that was not made, with the one that has the address."""

    contact_id: UUID | None
    outcome: Literal["skipped"]
    reason: Literal["email_taken"]


class ShownContacts(Shown):
    """What became of each contact, in the order of the request."""

    created: int
    skipped: int
    outcomes: list[CreatedContact | SkippedContact]


async def create(call: Call) -> web.Response:
    """Make a contact; a 409 Problem if its e-mail address is another contact's."""
    new = await call.body(NewContact)
    rows = await checked_rows(call.pool, call.account_id, [new], is_list=False)
    async with call.transaction() as db:
        made, bells = await _add(call, db, rows)
        if not made:
            message = "Another contact has this e-mail address."
            raise conflict("contact_email_taken", message)
        row = await db.fetchrow(queries.contact, call.account_id, rows[0]["id"])
    assert row is not None
    await call.ring(bells.families, events=bells.events)
    return answer(dict(row), 201, {"Location": f"/api/v1/contacts/{rows[0]['id']}"})


async def create_many(call: Call) -> web.Response:
    """Make contacts, all or (if one is wrong) none; those whose e-mail is taken are skipped.

    Each outcome has the contact's id, for a skipped one that of the contact who has the address.
    """
    new = await call.body(NewContacts, LARGEST_BULK)
    rows = await checked_rows(call.pool, call.account_id, new.contacts, is_list=True)
    async with call.transaction() as db:
        made, bells = await _add(call, db, rows)
        emails = [row["email_normalized"] for row in rows if row["id"] not in made]
        found = await db.fetch(queries.contacts_by_email, call.account_id, emails)
    await call.ring(bells.families, events=bells.events)
    owners = {row["email_normalized"]: row["id"] for row in found}
    outcomes = [_outcome(row, made, owners) for row in rows]
    counts = {"created": len(made), "skipped": len(rows) - len(made)}
    return answer({**counts, "outcomes": outcomes})


def _outcome(row: Row, made: set[UUID], owners: dict[str, UUID]) -> dict[str, Any]:
    if row["id"] in made:
        return {"contact_id": row["id"], "outcome": "created"}
    owner = owners.get(row["email_normalized"])
    return {"contact_id": owner, "outcome": "skipped", "reason": "email_taken"}


async def _add(call: Call, db: Connection, rows: Sequence[Row]) -> tuple[set[UUID], Bells]:
    # In the order of their e-mails, as create_contact does: the index's entries are locked in it.
    ordered = sorted(rows, key=lambda row: row["email_normalized"] or "")
    now = await clock.current_instant(db)
    made = await db.fetch(queries.add_contacts, call.account_id, now, *columns(ordered))
    ids = [row["id"] for row in made]
    _, bells = await take_in(db, [_created(call.account_id, id_) for id_ in ids])
    return set(ids), bells


def _created(account_id: UUID, contact_id: UUID) -> IncomingEvent:
    payload = {"contact_id": str(contact_id), "is_duplicate": False}
    return IncomingEvent(account_id, "contact_created", contact_id, payload)


async def read(call: Call) -> web.Response:
    """Read one contact."""
    row = await call.pool.fetchrow(queries.contact, call.account_id, call.id("contact_id"))
    if row is None:
        raise not_found("contact")
    return answer(dict(row))


async def list_all(call: Call) -> web.Response:
    """List contacts, newest first; sorts: created_at, name (last name, then first, then e-mail)."""
    page = call.parameters(ContactPage)
    conditions = await conditions_of(call.pool, call.account_id, page)
    return answer(await CONTACTS.page(call.pool, page, call.account_id, **conditions))


ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/contacts",
        create,
        Permission.EDIT_CONTACTS,
        NewContact,
        answers={201: ShownContact},
        problems=frozenset({409}),
    ),
    Route(
        "GET",
        "/api/v1/contacts",
        list_all,
        Permission.READ,
        parameters=ContactPage,
        answers={200: page_of(ShownContact)},
    ),
    Route(
        "POST",
        "/api/v1/contacts/bulk",
        create_many,
        Permission.EDIT_CONTACTS,
        NewContacts,
        answers={200: ShownContacts},
    ),
    Route(
        "GET",
        "/api/v1/contacts/{contact_id}",
        read,
        Permission.READ,
        answers={200: ShownContact},
    ),
)
