"""make_call: call the contact and connect them to a user, a queue, a number or an IVR."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, model_validator

from actors.addresses import PhoneNumber, SingleLine, has_merge_fields, is_phone_number
from actors.fields import Config, misfit
from runtime.registry import ActionType


class MakeCall(Config):
    """Who calls and where the contact is connected to.

    `destination_value` is a user's id, a queue's or an IVR's name, or a number in E.164 form.
    """

    from_number: PhoneNumber
    destination_type: Literal["user", "queue", "external", "ivr"]
    destination_value: SingleLine
    record_call: bool = False
    timeout_seconds: Annotated[int, Field(ge=1, le=600)] = 30  # 600: the longest ring at Twilio

    @model_validator(mode="after")
    def _destination_fits_its_type(self) -> MakeCall:
        if has_merge_fields(self.destination_value):
            return self
        if self.destination_type == "external":
            _check(
                is_phone_number(self.destination_value),
                "a number in E.164 form is needed, such as +14155550100",
            )
        elif self.destination_type == "user":
            _check(_is_uuid(self.destination_value), "the id of a user is needed")
        return self


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise misfit("destination", "destination_value", message)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


ACTION = ActionType(name="make_call", family="voice", config=MakeCall)
