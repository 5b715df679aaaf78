"""What a Messenger message holds, by its type: the parts that the Send API knows."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from actors.addresses import Link
from actors.fields import MERGE_FIELDS, Config, MergeValue, incomplete, template

# Limits of the Send API: developers.facebook.com/docs/messenger-platform/reference/send-api.
MOST_QUICK_REPLIES: Final = 13
LONGEST_TEXT: Final = 2000
LONGEST_TITLE: Final = 20

MessageTag = Literal[
    "CONFIRMED_EVENT_UPDATE", "POST_PURCHASE_UPDATE", "ACCOUNT_UPDATE", "HUMAN_AGENT"
]
"""What permits a message outside the 24 hours after the person's last one."""

MessageText = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_TEXT, json_schema_extra=MERGE_FIELDS),
    AfterValidator(template),
]
ReplyTitle = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_TITLE, json_schema_extra=MERGE_FIELDS),
    AfterValidator(template),
]
ReplyPayload = Annotated[
    str, Field(max_length=1000, json_schema_extra=MERGE_FIELDS), AfterValidator(template)
]


class Content(Config):
    """What every type may hold."""

    tag: MessageTag | None = None


class Text(Content):
    """A text alone."""

    text: MessageText


class Image(Content):
    """A picture that Facebook fetches from its URL."""

    url: Link


class Template(Content):
    """A structured message; what belongs to which template is Facebook's to judge."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, MergeValue]

    template_type: Literal["generic", "button", "media", "receipt", "coupon", "customer_feedback"]


class QuickReply(Config):
    """One button over the keyboard; `title` and `payload` belong to those of type text."""

    content_type: Literal["text", "user_phone_number", "user_email"] = "text"
    title: ReplyTitle | None = None
    payload: ReplyPayload | None = None
    image_url: Link | None = None

    @model_validator(mode="after")
    def _text_has_title_and_payload(self) -> QuickReply:
        for name in ("title", "payload"):
            if self.content_type == "text" and getattr(self, name) is None:
                raise incomplete(name, "a reply of type text needs a title and a payload")
        return self


class QuickReplies(Text):
    """A text with buttons to answer it."""

    quick_replies: Annotated[list[QuickReply], Field(min_length=1, max_length=MOST_QUICK_REPLIES)]


MODELS: Final[dict[str, type[Content]]] = {
    "text": Text,
    "image": Image,
    "template": Template,
    "quick_reply": QuickReplies,
}
