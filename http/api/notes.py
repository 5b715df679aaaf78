"""Notes on contacts' records."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import StringConstraints

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call
from api.fields import Object, left_out
from api.lists import List, Page
from api.resources import Handlers, Resource, routes_of
from api.shown import Shown
from sql import load

queries = load("api_notes")

Kind = Literal["general", "workflow", "system"]
Content = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class NewNote(Body):
    """A note to be, by the user who writes it."""

    contact_id: UUID
    content: Content
    note_type: Kind = "general"


class NoteChange(Body):
    """What is to be different about a note."""

    content: Content = left_out()
    note_type: Kind = left_out()


class NotePage(Page):
    """Which notes to list."""

    contact_id: UUID | None = None
    note_type: Kind | None = None


class ShownNote(Shown):
    """A note; `created_by` is the user, `step_id` the step that wrote it."""

    id: UUID
    contact_id: UUID
    note_type: Kind
    content: str
    metadata: Object
    step_id: UUID | None
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime


NOTES: Final = Resource(
    "note",
    "/api/v1/notes",
    queries,
    ("contact_id", "note_type", "content", "created_by"),
    is_recorded=False,
    of_contact=True,
)
LIST: Final = List(queries.notes, ShownNote, "-created_at")


async def create(call: Call) -> web.Response:
    """Write a note on a contact's record."""
    return await NOTES.create(call, await call.body(NewNote), created_by=call.caller.user_id)


async def list_all(call: Call) -> web.Response:
    """List notes, newest first."""
    return answer(await LIST.page(call.pool, call.parameters(NotePage), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one note."""
    return await NOTES.read(call)


async def change(call: Call) -> web.Response:
    """Change a note."""
    return await NOTES.change(call, await call.body(NoteChange))


async def delete(call: Call) -> web.Response:
    """Delete a note."""
    return await NOTES.delete(call)


ROUTES: Final = routes_of(
    NOTES,
    Permission.EDIT_CONTACTS,
    Handlers(create, list_all, read, change, delete, NewNote, NotePage, NoteChange),
    ShownNote,
)
