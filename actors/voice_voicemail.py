"""voice.voicemail: the effect that calls somebody to leave a recorded message."""

from __future__ import annotations

from datetime import time
from typing import Final, Literal
from uuid import UUID

from actors.calls_placed import CHANNEL, place
from actors.integrations import Sender
from actors.message_permission import PERMISSION, Purpose, check_messages, terms
from actors.twilio_client import lines
from runtime.outcomes import EffectRequest
from runtime.registry import EffectType

KIND: Final = "voice.voicemail"
RING_SECONDS: Final = 60


def request(
    sender: Sender,
    to: str,
    audio_file_id: UUID,
    *,
    purpose: Purpose,
    machine_detection: bool = True,
    quiet_hours: tuple[time, time] | None = None,
    on_unknown: Literal["repeat", "fail"] | None = None,
) -> EffectRequest:
    """Build the effect: a call to a number in E.164 form that plays a file."""
    return EffectRequest(
        kind=KIND,
        request={
            "from": sender.address,
            "audio_file_id": str(audio_file_id),
            "machine_detection": machine_detection,
            "ring_seconds": RING_SECONDS,
            PERMISSION: terms(purpose, quiet_hours),
        },
        integration_id=sender.integration_id,
        channel=CHANNEL,
        address=to,
        on_unknown=on_unknown,
    )


EFFECT = EffectType(
    kind=KIND,
    family="voice",
    send=place,
    on_unknown="fail",
    open=lines,
    # Beyond the client's own limit, which knows what was on the wire.
    timeout_seconds=130.0,
    check=check_messages,
)
