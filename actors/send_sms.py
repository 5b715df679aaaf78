"""send_sms: send the contact a text message, with media as MMS, outside quiet hours."""

from __future__ import annotations

from datetime import time
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors.addresses import Link, PhoneNumber
from actors.fields import MERGE_FIELDS, Config, misfit, template
from runtime.registry import ActionType

LONGEST_MESSAGE: Final = 1600
MOST_MEDIA: Final = 10  # of Twilio, per message


def _without_zone(value: time) -> time:
    if value.tzinfo is not None:
        raise PydanticCustomError("time_zone", "quiet hours have no offset: they are local")
    return value


Message = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_MESSAGE, json_schema_extra=MERGE_FIELDS),
    AfterValidator(template),
]
LocalTime = Annotated[time, AfterValidator(_without_zone)]


class SendSms(Config):
    """The message and when it may be sent; quiet hours may go over midnight.

    The message's length counts twice: here as it is written, and again after rendering.
    """

    message: Message
    from_number: PhoneNumber
    media_urls: Annotated[list[Link], Field(max_length=MOST_MEDIA)] = Field(default_factory=list)
    respect_quiet_hours: bool = True
    quiet_hours_start: LocalTime = time(21, 0)
    quiet_hours_end: LocalTime = time(9, 0)

    @model_validator(mode="after")
    def _quiet_hours_have_a_length(self) -> SendSms:
        # Nobody can tell whether equal ends mean the whole day or no time at all.
        if self.respect_quiet_hours and self.quiet_hours_start == self.quiet_hours_end:
            raise misfit(
                "quiet_hours", "quiet_hours_start", "quiet hours must not begin when they end"
            )
        return self


ACTION = ActionType(name="send_sms", family="sms", config=SendSms)
