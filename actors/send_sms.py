"""send_sms: send the contact a text message, with media as MMS, outside quiet hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from actors import sms_message
from actors.addresses import Link, PhoneNumber, has_merge_fields
from actors.fields import MERGE_FIELDS, template
from actors.phone_terms import Parties, PhoneTerms, each_with_parties
from actors.rendered import UnusableError, text_of
from runtime.outcomes import Dispatch, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage

LONGEST_MESSAGE: Final = 1600
MOST_MEDIA: Final = 10  # of Twilio, per message

Message = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_MESSAGE, json_schema_extra=MERGE_FIELDS),
    AfterValidator(template),
]

_link: Final[TypeAdapter[str]] = TypeAdapter(Link)


class SendSms(PhoneTerms):
    """The message and when it may be sent.

    The message's length counts twice: here as it is written, and again after rendering.
    """

    message: Message
    from_number: PhoneNumber
    media_urls: Annotated[list[Link], Field(max_length=MOST_MEDIA)] = Field(default_factory=list)


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write each contact's text into the ledger; when it may go is decided just before it goes."""
    return await each_with_parties(stage, items, _text)


def _text(item: Item, parties: Parties) -> Outcome:
    config = item.config
    assert isinstance(config, SendSms)
    media = [_rendered_link(link) for link in item.values["media_urls"] if link.strip()]
    body = text_of(item.values["message"], "message", LONGEST_MESSAGE)
    if body is None and not media:
        raise UnusableError("message_empty", "message is empty after rendering")
    effect = sms_message.request(
        parties.sender,
        parties.to,
        body or "",
        purpose=config.purpose,
        media=media,
        quiet_hours=config.quiet_hours,
        on_unknown="repeat" if config.on_unknown_outcome == "repeat" else None,
    )
    return Dispatch([effect])


def _rendered_link(text: str) -> str:
    link = text.strip()
    try:
        # What a merge field gave must not be rendered once more.
        usable = not has_merge_fields(link) and bool(_link.validate_python(link))
    except ValidationError:
        usable = False
    if not usable:
        raise UnusableError("media_unusable", "media_urls: a link is none after rendering")
    return link


ACTION = ActionType(
    name="send_sms",
    family="sms",
    config=SendSms,
    perform=perform,
    gives={
        "sid": "Twilio's id of the message",
        "status": "what Twilio said of it at first",
        "encoding": "GSM-7 or UCS-2",
        "segments": "how many texts it was billed as",
        "is_settled_by_callback": "true where a report told that it had gone out",
        "to": "the number, in test mode",
        "is_test": "true in test mode",
    },
)
