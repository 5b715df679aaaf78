"""send_messenger: send the contact a Facebook Messenger message from a page."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import model_validator

from actors.fields import Config, MergeValue, PlainText, incomplete
from actors.messenger_content import MODELS
from actors.nested import check
from runtime.registry import ActionType


class SendMessenger(Config):
    """The page, and the content that `message_type` asks for (see messenger_content).

    The Send API wants a messaging type with every message; what a workflow sends answers nothing,
    so that UPDATE is the default. MESSAGE_TAG needs `content.tag`.
    """

    page_id: UUID
    message_type: Literal["text", "image", "template", "quick_reply"]
    content: dict[PlainText, MergeValue]
    messaging_type: Literal["RESPONSE", "UPDATE", "MESSAGE_TAG"] = "UPDATE"

    @model_validator(mode="after")
    def _content_fits_its_type(self) -> SendMessenger:
        check(MODELS[self.message_type], self.content, "content")
        if self.messaging_type == "MESSAGE_TAG" and self.content.get("tag") is None:
            raise incomplete("content.tag", "messages of type MESSAGE_TAG need a tag")
        return self


ACTION = ActionType(name="send_messenger", family="messenger", config=SendMessenger)
