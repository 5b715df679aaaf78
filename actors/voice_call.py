"""voice.call: the effect that calls somebody and connects them to a user, a queue or a number."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import time
from typing import Final, Literal

from actors.calls_placed import call_effect, call_request
from actors.integrations import Sender
from actors.message_permission import Purpose
from runtime.outcomes import EffectRequest

KIND: Final = "voice.call"

Noun = Literal["number", "queue", "application", "url"]


@dataclass(frozen=True, slots=True)
class Destination:
    """What a call is connected to, in Twilio's terms: a number, a queue, an application, TwiML."""

    noun: Noun
    value: str


def request(
    sender: Sender,
    to: str,
    destination: Destination,
    *,
    purpose: Purpose,
    ring_seconds: int = 30,
    record: bool = False,
    quiet_hours: tuple[time, time] | None = None,
    on_unknown: Literal["repeat", "fail"] | None = None,
) -> EffectRequest:
    """Build the effect: a call to a number in E.164 form.

    `ring_seconds` is how long either end may ring.
    """
    return call_request(
        KIND,
        sender,
        to,
        {
            "destination": asdict(destination),
            "ring_seconds": ring_seconds,
            "record": record,
        },
        purpose=purpose,
        quiet_hours=quiet_hours,
        on_unknown=on_unknown,
    )


EFFECT = call_effect(KIND)
