"""What a mail asks for when it is read: its pixel, and where its links lead.

The signed token is all that is known of who asks. Whatever becomes of the report, the picture is
given and the link leads to its target: nobody who reads a mail has to wait for our database.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from aiohttp import web

from actors.mail_machines import machine_sign
from actors.mail_reports import MailReport
from actors.mail_tracking import CLICKS, OPENS, clicked_by, opened_by
from api.calls import LINK_KEYS, PublicRoute
from api.mail_readers import READERS
from api.problems import Problem

# A transparent GIF of one pixel.
_PIXEL: Final = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_HEADERS: Final = {
    "Cache-Control": "no-store, private, max-age=0",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}


async def opened(request: web.Request) -> web.Response:
    """Give the pixel of a mail, and report that it was opened."""
    token = request.match_info["token"]
    effect_id = await request.app[LINK_KEYS].read(lambda keys: opened_by(keys, token))
    if effect_id is None:
        raise _nothing()
    await _report(request, effect_id, "opened")
    return web.Response(body=_PIXEL, content_type="image/gif", headers=_HEADERS)


async def clicked(request: web.Request) -> web.Response:
    """Lead to the target that the token holds, and report that the link was followed."""
    token = request.match_info["token"]
    found = await request.app[LINK_KEYS].read(lambda keys: clicked_by(keys, token))
    if found is None:
        raise _nothing()
    effect_id, target = found
    await _report(request, effect_id, "clicked", target)
    return web.Response(status=302, headers={"Location": quote(target, _VISIBLE), **_HEADERS})


def _nothing() -> Problem:
    return Problem(404, "route_not_found", "There is nothing at this address.")


async def _report(request: web.Request, effect_id: UUID, what: str, target: str = "") -> None:
    sign = machine_sign(request.method, request.headers)
    await request.app[READERS].take(
        effect_id, lambda now: _report_of(effect_id, what, target, now, sign)
    )


def _report_of(
    effect_id: UUID, what: str, target: str, now: datetime, sign: str | None
) -> MailReport:
    status: Any = what if sign is None else f"machine_{what}"
    payload = {"url": target or None, "sign": sign}
    payload = {name: value for name, value in payload.items() if value is not None}
    return MailReport(
        effect_id, status, "tracking", payload=payload, key=_key(target, now), occurred_at=now
    )


def _key(target: str, now: datetime) -> str:
    """What counts once: a mail, or a link of it, within an hour."""
    return f"{now:%Y%m%d%H}:{hashlib.sha256(target.encode()).hexdigest()[:16] if target else ''}"


PUBLIC_ROUTES: Final = tuple(
    PublicRoute(method, f"{path}/{{token}}", handler)
    for path, handler in ((OPENS, opened), (CLICKS, clicked))
    for method in ("GET", "HEAD")
)
