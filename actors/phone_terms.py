"""What texts and calls have in common: their terms in configs, and who reaches whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, model_validator
from pydantic_core import PydanticCustomError

from actors.fields import Config, misfit
from actors.integration_kinds import normalize_address
from actors.integrations import Sender, SenderKey, find_senders
from actors.rendered import UnusableError
from runtime.failures import Failure, Kind
from runtime.outcomes import Failed, Outcome, Skipped
from runtime.stage import Item, Stage

TWILIO: Final = "twilio"
NO_PHONE: Final = Skipped("contact_has_no_phone")
# A step is said to have failed before it is tried where nobody can send by that number.
SENDER_UNKNOWN: Final = Failed(
    Failure(Kind.INVALID_CONFIG, "sender_unknown", "no integration sends from this from_number")
)


def _without_zone(value: time) -> time:
    if value.tzinfo is not None:
        raise PydanticCustomError("time_zone", "quiet hours have no offset: they are local")
    return value


LocalTime = Annotated[time, AfterValidator(_without_zone)]


class PhoneTerms(Config):
    """When a text or call may go out, what it is for, and what follows an unknown outcome.

    Quiet hours are of the clock at the other end, and may go over midnight. `on_unknown_outcome`:
    `fail` rather than risk a second one, or `repeat`.
    """

    purpose: Literal["marketing", "transactional"] = "marketing"
    respect_quiet_hours: bool = True
    quiet_hours_start: LocalTime = time(21, 0)
    quiet_hours_end: LocalTime = time(9, 0)
    on_unknown_outcome: Literal["fail", "repeat"] = "fail"

    @model_validator(mode="after")
    def _quiet_hours_have_a_length(self) -> PhoneTerms:
        # Nobody can tell whether equal ends mean the whole day or no time at all.
        if self.respect_quiet_hours and self.quiet_hours_start == self.quiet_hours_end:
            raise misfit(
                "quiet_hours", "quiet_hours_start", "quiet hours must not begin when they end"
            )
        return self

    @property
    def quiet_hours(self) -> tuple[time, time] | None:
        """Begin and end; None: at any hour."""
        if not self.respect_quiet_hours:
            return None
        return self.quiet_hours_start, self.quiet_hours_end


@dataclass(frozen=True, slots=True)
class Parties:
    """Who writes to or calls whom, numbers in E.164 form."""

    sender: Sender
    to: str


async def each_with_parties(
    stage: Stage, items: Sequence[Item], act: Callable[[Item, Parties], Outcome]
) -> list[Outcome]:
    """Act on every item whose contact has a phone and whose from_number has an integration.

    One statement for all; the others end with the reason. UnusableError becomes a failure.
    """
    keys = [_sender_key(item) for item in items]
    senders = await find_senders(stage, [key for key in keys if isinstance(key, tuple)])
    return [_act(item, key, senders, act) for item, key in zip(items, keys, strict=True)]


def _sender_key(item: Item) -> SenderKey | Failed:
    try:
        address = normalize_address(TWILIO, item.values["from_number"])
    except UnusableError as error:
        return UnusableError("sender_unusable", f"from_number: {error.message}").outcome
    return item.account_id, TWILIO, address


def _act(
    item: Item,
    key: SenderKey | Failed,
    senders: dict[SenderKey, Sender],
    act: Callable[[Item, Parties], Outcome],
) -> Outcome:
    if isinstance(key, Failed):
        return key
    to = item.contact["phone_normalized"]
    if to is None:
        return NO_PHONE
    sender = senders.get(key)
    if sender is None:
        return SENDER_UNKNOWN
    try:
        return act(item, Parties(sender, to))
    except UnusableError as error:
        return error.outcome
