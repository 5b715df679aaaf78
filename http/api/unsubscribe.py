"""Unsubscribing by the link in a mail: without login, at once, and never by accident.

A POST unsubscribes (RFC 8058: what mail programs send is form data of either kind, and nothing in
it matters to us). GET and HEAD show a page and change nothing: scanners follow every link.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from actors.mail_marketing import PREFIX, Recipient, recipient_of
from actors.unsubscribing import unsubscribed
from api.calls import LINK_KEYS, SERVICES, PublicRoute
from api.public_bells import ring_bells

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
    return _page(_UNKNOWN, 404) if await _recipient(request) is None else _page(_ASK)


async def unsubscribe(request: web.Request) -> web.Response:
    """Unsubscribe the address that the mail went to; again is no error."""
    recipient = await _recipient(request)
    if recipient is None:
        return _page(_UNKNOWN, 404)
    bells = await unsubscribed(request.app[SERVICES].pool, recipient)
    if bells is None:
        return _page(_UNKNOWN, 404)
    await ring_bells(request, bells)
    return _page(_DONE)


async def _recipient(request: web.Request) -> Recipient | None:
    token = request.match_info["token"]
    return await request.app[LINK_KEYS].read(lambda keys: recipient_of(keys, token))


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
