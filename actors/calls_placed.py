"""Placing a call at Twilio: what calls and voicemails have in common.

Machine detection is synchronous: Twilio asks what to do once it knows who has picked up, and in
front of a machine once the greeting has ended. A person hears a few seconds of silence for it; in
return the answer to one signed request decides everything, and nothing has to be changed in a call
that is already running.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from typing import Any, Final, Literal

from actors.integrations import Sender
from actors.message_permission import PERMISSION, Purpose, check_messages, terms
from actors.test_mode import recorded
from actors.twilio_client import Lines, lines
from actors.twilio_failures import attempt
from actors.twilio_links import call_url
from runtime.effect import Effect, Result, Sent
from runtime.failures import Failure, Kind
from runtime.outcomes import EffectRequest
from runtime.registry import EffectType

CHANNEL: Final = "voice"
PROGRESS: Final = ["initiated", "ringing", "answered", "completed"]

_REMOVED: Final = Failure(
    Kind.INVALID_CONFIG, "integration_removed", "the integration was removed meanwhile"
)


def call_request(
    kind: str,
    sender: Sender,
    to: str,
    asked: Mapping[str, Any],
    *,
    purpose: Purpose,
    quiet_hours: tuple[time, time] | None,
    on_unknown: Literal["repeat", "fail"] | None,
) -> EffectRequest:
    """Build an effect that calls a number in E.164 form; `asked` is what it does there."""
    return EffectRequest(
        kind=kind,
        request={"from": sender.address, **asked, PERMISSION: terms(purpose, quiet_hours)},
        integration_id=sender.integration_id,
        channel=CHANNEL,
        address=to,
        on_unknown=on_unknown,
    )


def call_effect(kind: str) -> EffectType:
    """Give the type of the effects of a kind that calls."""
    return EffectType(
        kind=kind,
        family="voice",
        send=place,
        on_unknown="fail",
        open=lines,
        # Beyond the client's own limit, which knows what was on the wire.
        timeout_seconds=130.0,
        check=check_messages,
    )


async def place(effect: Effect, tools: Lines) -> Result:
    """Place the call that an effect asks for; how it goes on is told by callbacks."""
    line = await tools.of(effect.integration_id)
    if line is None:
        return _REMOVED
    client, asked, house = line.client, effect.request, tools.house
    if client is None:
        return recorded(to=effect.address)
    arguments: dict[str, Any] = {
        "to": effect.address,
        "from_": asked["from"],
        "url": call_url(house, effect, "answered"),
        "status_callback": call_url(house, effect, "status"),
        "status_callback_event": PROGRESS,
        "timeout": asked["ring_seconds"],
    }
    if asked.get("machine_detection"):
        arguments["machine_detection"] = "DetectMessageEnd"
    if asked.get("record"):
        arguments["record"] = True
        arguments["recording_status_callback"] = call_url(house, effect, "recording")
    call = await attempt(lambda: client.calls.create_async(**arguments), effect)
    if isinstance(call, Failure):
        return call
    return Sent({"sid": call.sid, "status": call.status})
