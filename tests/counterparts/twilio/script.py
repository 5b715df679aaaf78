"""What a test or the demo tells the fake Twilio to do: misbehave, deliver, answer the phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer a request with an error, as Twilio words it; nothing is made."""

    status: int = 400
    code: int | None = None
    message: str = "refused"
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Hang:
    """Take a request and never answer; nothing is made."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Make what was asked for, and answer once the test lets it."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Make what was asked for, and drop the connection instead of answering."""


Misbehaviour = Refuse | Hang | Delay | Drop


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message after it was accepted: the statuses that are reported."""

    statuses: Sequence[str] = ("sent", "delivered")
    error_code: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Who picks up a call, and how it ends.

    `answered_by` is said only where machine detection was asked for. `dial_status` is how the
    other leg ends if the call is connected to one.
    """

    status: Literal["completed", "busy", "no-answer", "failed", "canceled"] = "completed"
    answered_by: str = "human"
    duration: int = 17
    dial_status: str = "completed"


@dataclass(slots=True)
class Callbacks:
    """How callbacks are sent: before the API's own answer, several times, in any order."""

    are_sent: bool = True
    come_early: bool = False
    times: int = 1
    are_reversed: bool = False
