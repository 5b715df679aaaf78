"""SendGrid's event webhook: up to thousands of events in a body, taken in a thousand at a time.

An instalment is one commit, and an event that was taken in changes nothing when it comes again, so
that a webhook that broke off is simply repeated.
"""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import web

from actors.integrations import Integration
from actors.mail_reports import report_mails
from actors.sendgrid_events import is_signed, is_timely, report_of
from api.bodies import read_raw
from api.calls import SERVICES, PublicRoute
from api.problems import Problem
from api.public_bells import ring_bells
from api.twilio_intake import INTAKE
from runtime.bells import Bells
from runtime.clock import current_instant

LARGEST: Final = 8 << 20
MOST_EVENTS: Final = 20_000
INSTALMENT: Final = 1_000

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SIGNATURE: Final = "X-Twilio-Email-Event-Webhook-Signature"
_TIMESTAMP: Final = "X-Twilio-Email-Event-Webhook-Timestamp"


async def events(request: web.Request) -> web.Response:
    """Take in what SendGrid reports of an integration's mails; 204, be it new or not."""
    integration, told = await _verified(request)
    now = await current_instant(request.app[SERVICES].pool)
    if not is_timely(request.headers[_TIMESTAMP], now):
        raise _forbidden()
    events_told, bells = _parse(told), Bells()
    for begin in range(0, len(events_told), INSTALMENT):
        part = [report_of(event, now) for event in events_told[begin : begin + INSTALMENT]]
        reports = [report for report in part if report is not None]
        async with request.app[INTAKE].turn("sendgrid"):
            taken = await report_mails(
                request.app[SERVICES].pool, integration.account_id, reports, integration.id
            )
        bells |= taken.bells
    await ring_bells(request, bells)
    return web.Response(status=204)


async def _verified(request: web.Request) -> tuple[Integration, bytes]:
    """Read the body; a 403 Problem unless the integration's webhook has signed it.

    What is unknown, and what has no key, is refused like a wrong signature.
    """
    signature = request.headers.get(_SIGNATURE, "")
    timestamp = request.headers.get(_TIMESTAMP, "")
    named = request.match_info["integration_id"]
    if not (signature and timestamp and _UUID.fullmatch(named)):
        raise _forbidden()
    integration = await request.app[INTAKE].integrations.get(UUID(named))
    key = integration.settings.get("webhook_public_key") if integration is not None else None
    if integration is None or integration.kind != "smtp" or not key:
        raise _forbidden()
    body = await read_raw(request, LARGEST)
    if not is_signed(key, signature[:500], timestamp[:20], body):
        raise _forbidden()
    return integration, body


def _parse(body: bytes) -> list[Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Problem(400, "malformed_json", "The body is not JSON that can be taken.") from None
    if not isinstance(told, list) or len(told) > MOST_EVENTS:
        detail = f"The body is a list of {MOST_EVENTS} events at most."
        raise Problem(422, "events_unusable", detail)
    return told


def _forbidden() -> Problem:
    return Problem(403, "signature_invalid", "The request does not bear SendGrid's signature.")


PUBLIC_ROUTES: Final = (PublicRoute("POST", "/hooks/sendgrid/{integration_id}/events", events),)
