"""The tags of a contact: given and taken off as the actions do it, with the same events."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.problems import not_found
from api.resources import contact_queries, emit, lock_contact
from api.shown import Listing, Shown
from api.tags import TAGS, queries
from runtime import clock
from runtime.bells import Bells
from sql import load

add_queries = load("add_tag")
remove_queries = load("remove_tag")


class ShownContactTag(Shown):
    """A tag of a contact, and since when."""

    id: UUID
    name: str
    color: str | None
    added_at: datetime


async def list_all(call: Call) -> web.Response:
    """List the tags of a contact, by name."""
    contact_id = call.id("contact_id")
    if await call.pool.fetchrow(contact_queries.contact, call.account_id, contact_id) is None:
        raise not_found("contact")
    rows = await call.pool.fetch(queries.tags_of_contact, call.account_id, contact_id)
    return answer({"items": [dict(row) for row in rows]})


async def add(call: Call) -> web.Response:
    """Give the contact the tag; one that has it keeps it, without an event. Gives all its tags."""
    contact_id, bells = call.id("contact_id"), Bells()
    async with call.transaction() as db:
        await lock_contact(db, call.account_id, contact_id)
        tag = await TAGS.find(call, db)
        pair = ([call.account_id], [contact_id], [tag["id"]], [None])
        now = await clock.current_instant(db)
        if await db.fetch(add_queries.add_contact_tags, *pair, now):
            await emit(db, bells, call.account_id, [(contact_id, "tag_added", _told(tag))])
        rows = await db.fetch(queries.tags_of_contact, call.account_id, contact_id)
    await call.ring(bells.families, events=bells.events)
    return answer({"items": [dict(row) for row in rows]})


async def remove(call: Call) -> web.Response:
    """Take the tag off the contact; 204 also where it was not there."""
    contact_id, bells = call.id("contact_id"), Bells()
    async with call.transaction() as db:
        await lock_contact(db, call.account_id, contact_id)
        tag = await TAGS.find(call, db)
        pair = ([call.account_id], [contact_id], [tag["name"]])
        if await db.fetch(remove_queries.remove_contact_tags, *pair):
            await emit(db, bells, call.account_id, [(contact_id, "tag_removed", _told(tag))])
    await call.ring(bells.families, events=bells.events)
    return web.Response(status=204)


def _told(tag: dict[str, Any]) -> dict[str, str]:
    return {"tag_id": str(tag["id"]), "tag_name": tag["name"]}


_ALL: Final = "/api/v1/contacts/{contact_id}/tags"
_ONE: Final = f"{_ALL}/{{tag_id}}"
_SHOWN: Final = {200: Listing[ShownContactTag]}

ROUTES: Final = (
    Route("GET", _ALL, list_all, Permission.READ, answers=_SHOWN),
    Route("PUT", _ONE, add, Permission.EDIT_CONTACTS, answers=_SHOWN),
    Route("DELETE", _ONE, remove, Permission.EDIT_CONTACTS, answers={204: None}),
)
