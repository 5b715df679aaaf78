"""voice.voicemail: the effect that calls somebody to leave a recorded message."""

from __future__ import annotations

from datetime import time
from typing import Final, Literal
from uuid import UUID

from actors.calls_placed import call_effect, call_request
from actors.integrations import Sender
from actors.message_permission import Purpose
from runtime.outcomes import EffectRequest

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
    return call_request(
        KIND,
        sender,
        to,
        {
            "audio_file_id": str(audio_file_id),
            "machine_detection": machine_detection,
            "ring_seconds": RING_SECONDS,
        },
        purpose=purpose,
        quiet_hours=quiet_hours,
        on_unknown=on_unknown,
    )


EFFECT = call_effect(KIND)
