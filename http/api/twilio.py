"""Twilio's webhooks: statuses of texts, texts of people, and calls that ask what to do."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from twilio.twiml.messaging_response import MessagingResponse

from actors.call_reports import with_details
from actors.call_twiml import find_call, twiml_after_dialling, twiml_for
from actors.inbound_texts import Taken, Text, take_text
from actors.twilio_failures import failure_of_delivery
from actors.twilio_links import PREFIX, call_path
from api.calls import SERVICES, PublicRoute
from api.problems import not_found
from api.public_bells import ring_bells
from api.twilio_intake import Callback, receive
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.deliveries import Report

MOST_MEDIA: Final = 10
_LOST: Final = frozenset({"undelivered", "failed"})


async def message_status(request: web.Request) -> web.Response:
    """Take in the status of a text; 204, be it new or not."""
    callback = await receive(request)
    status = callback.token("MessageStatus").replace("-", "_").lower()[:20]
    failure = failure_of_delivery(callback.number("ErrorCode")) if status in _LOST else None
    integration = callback.integration
    report = Report(
        integration.account_id,
        integration.id,
        callback.effect_id,
        callback.token("MessageSid"),
        status,
        failure,
    )
    await callback.report(report)
    return web.Response(status=204)


async def inbound_text(request: web.Request) -> web.Response:
    """Take in a person's text; the answer, if there is one, goes back as TwiML."""
    callback = await receive(request)
    text = Text(
        callback.token("MessageSid"),
        callback.text("From", 50),
        callback.text("To", 50),
        callback.text("Body"),
        [
            {
                "url": callback.text(f"MediaUrl{n}"),
                "content_type": callback.text(f"MediaContentType{n}", 100),
            }
            for n in range(min(callback.number("NumMedia") or 0, MOST_MEDIA))
        ],
        is_answered="OptOutType" in callback.form,
    )
    taken = await callback.transact(lambda db: _take_text(db, callback, text))
    await ring_bells(request, taken.bells)
    response = MessagingResponse()
    if taken.answer is not None:
        response.message(taken.answer)
    return _xml(response)


async def call_answered(request: web.Request) -> web.Response:
    """Say what a call that was answered is to do; who has answered is kept."""
    callback = await receive(request)
    services = request.app[SERVICES]
    integration, effect_id = callback.integration, callback.effect_id
    call = await find_call(services.pool, integration.account_id, effect_id, integration.id)
    if call is None:
        raise not_found("effect")
    answered_by = callback.token("AnsweredBy") if "AnsweredBy" in callback.form else None
    await _report_call(callback, "detected", answered_by=answered_by)
    after = f"{services.house.public_url}{call_path(integration.id, effect_id, 'dialled')}"
    now = await current_instant(services.pool)
    return _xml(twiml_for(services.house, call, answered_by, now, after))


async def call_dialled(request: web.Request) -> web.Response:
    """Keep how the other leg of a call ended, and end the call."""
    callback = await receive(request)
    await _report_call(
        callback,
        "connected",
        dial_status=callback.token("DialCallStatus"),
        dial_seconds=callback.number("DialCallDuration"),
    )
    return _xml(twiml_after_dialling())


async def call_status(request: web.Request) -> web.Response:
    """Take in how far a call has come; its end is told to the contact's runs."""
    callback = await receive(request)
    status = callback.token("CallStatus").replace("-", "_").lower()[:20]
    await _report_call(callback, status, duration_seconds=callback.number("CallDuration"))
    return web.Response(status=204)


async def call_recorded(request: web.Request) -> web.Response:
    """Keep where the recording of a call is."""
    callback = await receive(request)
    await _report_call(
        callback,
        "recorded",
        recording_url=callback.text("RecordingUrl"),
        recording_sid=callback.token("RecordingSid"),
        recording_seconds=callback.number("RecordingDuration"),
    )
    return web.Response(status=204)


async def _report_call(callback: Callback, status: str, **details: object) -> None:
    integration = callback.integration
    report = Report(
        integration.account_id,
        integration.id,
        callback.effect_id,
        callback.token("CallSid"),
        status,
    )

    await callback.report(with_details(report, **details))


async def _take_text(db: Connection, callback: Callback, text: Text) -> Taken:
    return await take_text(db, callback.integration, text, await current_instant(db))


def _xml(response: object) -> web.Response:
    return web.Response(text=str(response), content_type="text/xml")


PUBLIC_ROUTES: Final = (
    PublicRoute("POST", f"{PREFIX}/{{integration_id}}/messages/{{effect_id}}", message_status),
    PublicRoute("POST", f"{PREFIX}/{{integration_id}}/texts", inbound_text),
    *(
        PublicRoute("POST", f"{PREFIX}/{{integration_id}}/calls/{{effect_id}}/{what}", handler)
        for what, handler in (
            ("answered", call_answered),
            ("dialled", call_dialled),
            ("status", call_status),
            ("recording", call_recorded),
        )
    ),
)
