"""A contact's rights to their data (GDPR): all that is held as one document, and erasure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from actors.contact_erasure import erase
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.problems import not_found
from api.shown import Shown
from runtime.clock import current_instant
from sql import load

queries = load("contact_export")

TABLES: Final = tuple(name for name in dir(queries) if name.islower() and not name.startswith("_"))


class ShownExport(Shown):
    """All that is held on a contact, table by table."""

    contact_id: UUID
    exported_at: datetime
    data: dict[str, list[dict[str, Any]]]


class Erasure(Body):
    """How to erase: with `suppress` none of the addresses is written to any more."""

    suppress: bool = False


class ShownTombstone(Shown):
    """What is left of an erased contact."""

    id: UUID
    erased_at: datetime


async def export(call: Call) -> web.Response:
    """Give all that is held on a contact as one JSON document, as of one instant."""
    contact_id = call.id("contact_id")
    async with (
        call.pool.acquire() as db,
        db.transaction(isolation="repeatable_read", readonly=True),
    ):
        data = {}
        for table in TABLES:
            rows = await db.fetch(getattr(queries, table), call.account_id, contact_id)
            data[table] = [row["row"] for row in rows]
        if not data["contacts"]:
            raise not_found("contact")
        now = await current_instant(db)
    async with call.transaction() as writing:
        await call.record(writing, "contact_exported", ("contact", contact_id), None, None)
    return answer({"contact_id": contact_id, "exported_at": now, "data": data})


async def erase_one(call: Call) -> web.Response:
    """Erase a contact: its runs end, what is pending is dropped, history loses what is personal.

    Opt-outs stay, as salted hashes. Erasing what was erased changes nothing.
    """
    given = await call.body(Erasure) if call.request.can_read_body else Erasure()
    return await _erase(call, suppress=given.suppress)


async def delete(call: Call) -> web.Response:
    """Erase a contact, as POST …/erase does."""
    return await _erase(call, suppress=False)


async def _erase(call: Call, *, suppress: bool) -> web.Response:
    contact_id = call.id("contact_id")
    async with call.transaction() as db:
        erased = await erase(db, call.account_id, contact_id, suppress=suppress)
        if erased is None:
            raise not_found("contact")
        if erased.is_new:
            await call.record(db, "contact_erased", ("contact", contact_id), None, None)
    await call.ring(erased.bells.families)
    return answer({"id": contact_id, "erased_at": erased.at})


_ONE: Final = "/api/v1/contacts/{contact_id}"
_TOMBSTONE: Final = {200: ShownTombstone}

ROUTES: Final = (
    Route("GET", f"{_ONE}/export", export, Permission.ERASE_CONTACTS, answers={200: ShownExport}),
    Route("POST", f"{_ONE}/erase", erase_one, Permission.ERASE_CONTACTS, Erasure,
          answers=_TOMBSTONE, body_is_optional=True),
    Route("DELETE", _ONE, delete, Permission.ERASE_CONTACTS, answers=_TOMBSTONE),
)  # fmt: skip
