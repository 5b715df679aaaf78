"""Changing a contact, and what happened to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from actors.contact_changes import COLUMNS, copy_of, differences
from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.contact_rows import NewContact, checked_rows, queries
from api.contacts import ShownContact
from api.fields import Instant
from api.lists import List, Page, page_of
from api.problems import not_found
from api.resources import emit, lock_contact, writing
from api.shown import Shown
from runtime import clock
from runtime.database import Connection
from sql import load

change_queries = load("contact_changes")

_TAKEN: Final = {"contact_email_is_unique_in_account": "email"}
_BESIDE: Final = ("email", "phone")
"""Fields that have their normal form in a column beside them."""


class ContactChange(NewContact):
    """What is to be different: what is left out stays, null clears; custom fields one by one."""


class TimelinePage(Page):
    """Which of what happened to list; `at_before` is exclusive."""

    at_from: Instant | None = None
    at_before: Instant | None = None


class ShownHappening(Shown):
    """Something that happened to a contact."""

    at: datetime | None
    what: str
    detail: str | None
    reference_id: str


TIMELINE: Final = List(queries.timeline, ShownHappening, "-at")


async def change(call: Call) -> web.Response:
    """Change a contact; a 409 Problem if the e-mail address is another's. Emits contact_updated."""
    given = await call.body(ContactChange)
    [row] = await checked_rows(call.pool, call.account_id, [given], is_list=False)
    async with writing(call, "contact", _TAKEN) as (db, bells):
        before = await lock_contact(db, call.account_id, call.id("contact_id"))
        after = _merged(before, given, row)
        changed = differences(before, after)
        if changed:
            await _write(call, db, after, changed)
            names = {"contact_id": str(after["id"]), "changed_fields": list(changed)}
            await emit(db, bells, call.account_id, [(after["id"], "contact_updated", names)])
        shown = await db.fetchrow(queries.contact, call.account_id, before["id"])
    assert shown is not None
    return answer(dict(shown))


def _merged(before: dict[str, Any], given: NewContact, row: Mapping[str, Any]) -> dict[str, Any]:
    after = copy_of(before)
    for name in given.model_fields_set - {"custom_fields"}:
        after[name] = row[name]
        if name in _BESIDE:
            after[f"{name}_normalized"] = row[f"{name}_normalized"]
    for key in given.custom_fields:
        after["custom_fields"].pop(key, None)
    after["custom_fields"] |= row["custom_fields"]
    return after


async def _write(
    call: Call, db: Connection, after: dict[str, Any], changed: Mapping[str, tuple[Any, Any]]
) -> None:
    now = await clock.current_instant(db)
    columns = [[after[name]] for name in COLUMNS]
    await db.execute(change_queries.update_contacts, *columns, now)
    old, new = (list(values) for values in zip(*changed.values(), strict=True))
    contact = (call.account_id, after["id"])
    await db.execute(
        queries.log_changes, *contact, list(changed), old, new, call.caller.user_id, now
    )


async def list_timeline(call: Call) -> web.Response:
    """List what happened to a contact, newest first: steps, runs, events, effects, changes."""
    page, contact_id = call.parameters(TimelinePage), call.id("contact_id")
    if await call.pool.fetchrow(queries.contact, call.account_id, contact_id) is None:
        raise not_found("contact")
    return answer(await TIMELINE.page(call.pool, page, call.account_id, contact_id))


_ONE: Final = "/api/v1/contacts/{contact_id}"

ROUTES: Final = (
    Route(
        "PATCH",
        _ONE,
        change,
        Permission.EDIT_CONTACTS,
        ContactChange,
        answers={200: ShownContact},
        problems=frozenset({409}),
    ),
    Route(
        "GET",
        f"{_ONE}/timeline",
        list_timeline,
        Permission.READ,
        parameters=TimelinePage,
        answers={200: page_of(ShownHappening)},
    ),
)
