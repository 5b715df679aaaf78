"""Unsubscribing by the link in a mail: without login, at once, and never by accident.

A POST unsubscribes (RFC 8058: what mail programs send is form data of either kind, and nothing in
it matters to us). GET and HEAD show a page and change nothing: scanners follow every link.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import asyncpg
from aiohttp import web

from actors.mail_marketing import PREFIX, signer_of
from actors.mail_reports import CHANNEL
from api.calls import SERVICES, PublicRoute
from runtime.dispatching import opt_out
from runtime.events import IncomingEvent, take_in
from sql import load

queries = load("email")

REASON: Final = "unsubscribed"

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>Unsubscribe</title>
<body style="font-family:sans-serif;max-width:30em;margin:4em auto;padding:0 1em">
{content}
</body>
</html>
"""
_ASK: Final = """<h1>Unsubscribe</h1>
<p>You will get no more marketing mail from this sender at this address.</p>
<form method="post"><button type="submit">Unsubscribe</button></form>"""
_DONE: Final = "<h1>You are unsubscribed</h1><p>You will get no more marketing mail.</p>"
_UNKNOWN: Final = "<h1>This link is not valid</h1><p>Please use the link in the mail itself.</p>"


async def ask(request: web.Request) -> web.Response:
    """Show a page with the button; nothing changes."""
    return _page(_UNKNOWN, 404) if await _find(request) is None else _page(_ASK)


async def unsubscribe(request: web.Request) -> web.Response:
    """Unsubscribe the address that the mail went to; again is no error."""
    mail = await _find(request)
    if mail is None:
        return _page(_UNKNOWN, 404)
    if mail["address"] is None:  # The contact is erased: nothing goes to the address any more.
        return _page(_DONE)
    services = request.app[SERVICES]
    async with services.house.pool.acquire() as db, db.transaction():
        bells = await opt_out(db, mail["account_id"], CHANNEL, mail["address"], REASON)
        if mail["contact_id"] is not None:
            event = IncomingEvent(
                mail["account_id"],
                "email_unsubscribed",
                mail["contact_id"],
                {"effect_id": str(mail["id"])},
                action_id=mail["action_id"],
                execution_id=mail["execution_id"],
                dedupe_key=f"email_unsubscribed:{mail['id']}",
            )
            _, rung = await take_in(db, [event])
            bells |= rung
    await services.ring(bells.families)
    return _page(_DONE)


async def _find(request: web.Request) -> asyncpg.Record | None:
    house = request.app[SERVICES].house
    message = signer_of(house).verify(request.match_info["token"])
    if message is None or len(message) != len(UUID(int=0).bytes):
        return None
    return await house.pool.fetchrow(queries.mail, UUID(bytes=message))


def _page(content: str, status: int = 200) -> web.Response:
    return web.Response(
        status=status,
        text=_PAGE.format(content=content),
        content_type="text/html",
        headers={
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            "form-action 'self'; frame-ancestors 'none'",
        },
    )


PUBLIC_ROUTES: Final = (
    PublicRoute("GET", f"{PREFIX}/{{token}}", ask),
    PublicRoute("HEAD", f"{PREFIX}/{{token}}", ask),
    PublicRoute("POST", f"{PREFIX}/{{token}}", unsubscribe),
)
