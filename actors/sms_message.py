"""sms.message: the effect that sends a text, or with media an MMS, by Twilio.

A second text is worse than none: an unknown outcome stays one, unless the action says otherwise or
a callback, which carries the effect's id, settles it. Any action makes one with `request`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from typing import Any, Final, Literal

from actors.integrations import Sender
from actors.message_permission import PERMISSION, Purpose, check_messages, terms
from actors.sms_segments import segments_of
from actors.test_mode import recorded
from actors.twilio_client import Lines, lines
from actors.twilio_failures import OPTED_OUT_CODE, attempt
from actors.twilio_links import message_status_url
from runtime.dispatching import opt_out
from runtime.effect import Effect, Result, Sent, Suppressed
from runtime.failures import Failure, Kind
from runtime.outcomes import EffectRequest
from runtime.registry import EffectType

CHANNEL: Final = "sms"
REMOVED: Final = Failure(
    Kind.INVALID_CONFIG, "integration_removed", "the integration was removed meanwhile"
)


def request(
    sender: Sender,
    to: str,
    body: str,
    *,
    purpose: Purpose,
    media: Sequence[str] = (),
    quiet_hours: tuple[time, time] | None = None,
    time_zone: str | None = None,
    on_unknown: Literal["repeat", "fail"] | None = None,
    gates_step: bool = True,
) -> EffectRequest:
    """Build the effect: a text to a number in E.164 form.

    `quiet_hours`: begin and end in the recipient's local time; None: at any hour. `time_zone`: of
    that time, where a user has named it.
    """
    segments = segments_of(body)
    content = {
        "from": sender.address,
        "body": body,
        "media": list(media),
        "segments": segments.count,
        "encoding": segments.encoding,
    }
    return EffectRequest(
        kind=KIND,
        request={**content, PERMISSION: terms(purpose, quiet_hours, time_zone)},
        integration_id=sender.integration_id,
        channel=CHANNEL,
        address=to,
        on_unknown=on_unknown,
        gates_step=gates_step,
    )


async def send(effect: Effect, tools: Lines) -> Result:
    """Give the text to Twilio; Twilio's own knowledge of an opt-out (21610) becomes ours."""
    line = await tools.of(effect.integration_id)
    if line is None:
        return REMOVED
    text = effect.request
    counted = {"segments": text["segments"], "encoding": text["encoding"]}
    client = line.client
    if client is None:
        return recorded(to=effect.address, **counted)
    arguments: dict[str, Any] = {
        "to": effect.address,
        "from_": text["from"],
        "status_callback": message_status_url(tools.house, effect),
    }
    if text["body"]:
        arguments["body"] = text["body"]
    if text["media"]:
        arguments["media_url"] = text["media"]
    message = await attempt(lambda: client.messages.create_async(**arguments), effect)
    if isinstance(message, Failure):
        return await _refused(message, effect, tools)
    return Sent({"sid": message.sid, "status": message.status, **counted})


async def _refused(failure: Failure, effect: Effect, tools: Lines) -> Result:
    if failure.code != OPTED_OUT_CODE or effect.address is None:
        return failure
    async with tools.house.pool.acquire() as db:
        # The sweep finds what this has made ready: nothing here has a bell.
        await opt_out(db, effect.account_id, CHANNEL, effect.address, "twilio_21610")
    return Suppressed(failure.code)


KIND: Final = "sms.message"

EFFECT = EffectType(
    kind=KIND,
    family="sms",
    send=send,
    on_unknown="fail",
    open=lines,
    # Beyond the client's own limit, which knows what was on the wire.
    timeout_seconds=130.0,
    check=check_messages,
)
