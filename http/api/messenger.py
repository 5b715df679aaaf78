"""Messenger's webhook, and who a contact is on Messenger.

A webhook proves that it is Facebook's by the signature over its raw bytes with the app's secret;
an unknown integration is refused like a wrong signature.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web
from pydantic import StringConstraints

from actors.integrations import Integration
from actors.messenger_events import PersonEvent, read_events
from actors.messenger_message import CHANNEL, address_of, queries
from actors.messenger_people import reference_of, take_events
from api.access import Permission
from api.answers import answer
from api.bodies import Body, read_raw
from api.calls import SERVICES, Call, PublicRoute, Route
from api.problems import Problem, conflict, invalid, not_found
from api.public_bells import ring_bells
from api.shown import Shown
from api.twilio_intake import INTAKE, transact
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.configuration import Fault
from runtime.database import Connection
from runtime.dispatching import lock_addresses

LARGEST_BODY: Final = 1 << 20
INSTALMENT: Final = 500

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")


async def verify(request: web.Request) -> web.Response:
    """Answer Facebook's question whether this address is ours: the challenge, for the token."""
    integration = await _integration(request)
    asked = request.query
    wanted = "" if integration is None else integration.secrets.get("verify_token", "")
    given, challenge = asked.get("hub.verify_token", ""), asked.get("hub.challenge", "")
    is_ours = bool(wanted) and hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
    if asked.get("hub.mode") != "subscribe" or not is_ours or not _CHALLENGE.fullmatch(challenge):
        raise Problem(403, "verify_token_invalid", "The verify token is not the integration's.")
    return web.Response(text=challenge)


async def receive(request: web.Request) -> web.Response:
    """Take in what Facebook tells, hundreds of events in a commit; 200, be it new or not.

    What was taken in changes nothing when it comes again, so that a webhook that broke off is
    simply repeated.
    """
    integration = await _integration(request)
    raw = await read_raw(request, LARGEST_BODY)
    if integration is None or not _is_signed(request, raw, integration.secrets["app_secret"]):
        raise Problem(403, "signature_invalid", "The request does not bear Facebook's signature.")
    try:
        body = json.loads(raw)  # takes halves of cut emoji, which orjson refuses
    except (ValueError, RecursionError):
        raise Problem(422, "body_unusable", "The body is no JSON.") from None
    own = {row["page"] for row in await request.app[SERVICES].pool.fetch(
        queries.pages, integration.account_id, None
    )}  # fmt: skip
    events = [event for event in read_events(body) if event.page in own]
    for begin in range(0, len(events), INSTALMENT):
        await _take(request, integration, events[begin : begin + INSTALMENT])
    return web.Response(text="EVENT_RECEIVED")


async def _take(
    request: web.Request, integration: Integration, events: Sequence[PersonEvent]
) -> None:
    house = request.app[SERVICES].house

    async def take(db: Connection) -> Bells:
        return await take_events(db, house, integration, events, await current_instant(db))

    await ring_bells(request, await transact(request, take))


async def _integration(request: web.Request) -> Integration | None:
    text = request.match_info["integration_id"]
    if not _UUID.fullmatch(text):
        raise Problem(404, "route_not_found", "There is nothing at this address.")
    found = await request.app[INTAKE].integrations.get(UUID(text))
    return found if found is not None and found.kind == "facebook" else None


def _is_signed(request: web.Request, raw: bytes, app_secret: str) -> bool:
    given = request.headers.get("X-Hub-Signature-256", "")
    wanted = f"sha256={hmac.digest(app_secret.encode(), raw, hashlib.sha256).hex()}"
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())


class MessengerLink(Body):
    """The page's integration, and the number by which the page knows the person (PSID)."""

    page_id: UUID
    psid: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,30}$")]


class ShownPerson(Shown):
    """Who the contact is to one page."""

    page: str
    psid: str
    last_inbound_at: datetime | None
    has_opted_out: bool


class ShownInvitation(Shown):
    """A link to a page; who follows it and writes is known to be the contact."""

    page_id: UUID
    page: str
    url: str


class ShownMessenger(Shown):
    """Who a contact is on Messenger, and the links by which it can get there."""

    people: list[ShownPerson]
    invitations: list[ShownInvitation]


async def read(call: Call) -> web.Response:
    """Show who the contact is to each page, and a link to each page that says who follows it."""
    contact_id = call.id("contact_id")
    async with call.pool.acquire() as db:
        if await db.fetchval(queries.has_contact, call.account_id, contact_id) is None:
            raise not_found("contact")
        return answer(await _shown(call, db, contact_id))


async def link(call: Call) -> web.Response:
    """Say which person of a page the contact is; 409 if that person is another contact."""
    given = await call.body(MessengerLink)
    contact_id = call.id("contact_id")
    async with call.transaction() as db:
        if await db.fetchval(queries.lock_contact, call.account_id, contact_id) is None:
            raise not_found("contact")
        page = await db.fetchval(queries.pages, call.account_id, given.page_id)
        if page is None:
            raise invalid(Fault("page_id", "page_unknown", "There is no such Facebook page."))
        address = address_of(page, given.psid)
        await lock_addresses(db, [call.account_id], [CHANNEL], [address])
        known = call.account_id, [page], [given.psid], [contact_id], [None], [None], [None]
        person = await db.fetchrow(queries.know_people, *known)
        if person is None or person["contact_id"] != contact_id:
            raise conflict("person_taken", "This person is another contact.")
        shown = await _shown(call, db, contact_id)
        await call.record(db, "messenger_linked", ("contact", contact_id), None, {"page": page})
    return answer(shown)


async def unlink(call: Call) -> web.Response:
    """Say that the contact is nobody on this page; 404 if it was nobody.

    What is pending to the person is not sent: its steps fail with `person_unlinked`.
    """
    contact_id, page_id = call.id("contact_id"), call.id("page_id")
    async with call.transaction() as db:
        if not await db.fetchval(queries.unlink, call.account_id, contact_id, page_id):
            raise not_found("person")
        before = {"page_id": page_id}
        await call.record(db, "messenger_unlinked", ("contact", contact_id), before, None)
    return web.Response(status=204)


async def _shown(call: Call, db: Any, contact_id: UUID) -> dict[str, Any]:
    people = await db.fetch(queries.people_of_contact, call.account_id, contact_id)
    rows = await db.fetch(queries.pages, call.account_id, None)
    try:
        query = urlencode({"ref": reference_of(call.services.house, contact_id)})
    except LookupError:  # nothing can be signed without CALLBOARD_SECRET_KEYS
        rows = []
    invitations = [{**row, "url": f"https://m.me/{row['page']}?{query}"} for row in rows]
    return {"people": [dict(row) for row in people], "invitations": invitations}


PREFIX: Final = "/hooks/messenger"
_OF_CONTACT: Final = "/api/v1/contacts/{contact_id}/messenger"
_SHOWN: Final = {200: ShownMessenger}

ROUTES: Final = (
    Route("GET", _OF_CONTACT, read, Permission.READ, answers=_SHOWN),
    Route(
        "PUT", _OF_CONTACT, link, Permission.EDIT_CONTACTS, MessengerLink,
        answers=_SHOWN, problems=frozenset({409}),
    ),
    Route(
        "DELETE", f"{_OF_CONTACT}/{{page_id}}", unlink, Permission.EDIT_CONTACTS,
        answers={204: None},
    ),
)  # fmt: skip

PUBLIC_ROUTES: Final = (
    PublicRoute("GET", f"{PREFIX}/{{integration_id}}", verify),
    PublicRoute("POST", f"{PREFIX}/{{integration_id}}", receive),
)
