"""send_messenger: send the contact a Facebook Messenger message from a page.

Who has opted out, and who has not written within the window, is not written to, and the step fails
with that reason, so that its fallback is tried (opted_out, outside_messaging_window).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter, ValidationError, model_validator

from actors import messenger_message
from actors.addresses import Link, has_merge_fields
from actors.fields import Config, MergeValue, PlainText, incomplete
from actors.messenger_content import LONGEST_TEXT, LONGEST_TITLE, MODELS
from actors.messenger_failures import OUTSIDE_WINDOW
from actors.messenger_message import UNLINKED, Person
from actors.nested import check
from actors.rendered import UnusableError, text_of
from runtime.failures import Failure, Kind
from runtime.outcomes import Dispatch, Failed, Outcome, Skipped
from runtime.registry import ActionType
from runtime.settling import settle_one
from runtime.stage import Item, Stage

NO_PERSON: Final = Skipped("contact_not_on_messenger")

_FAILING: Final[Mapping[str, str]] = {
    "opted_out": "the person has opted out of messages from this page",
    OUTSIDE_WINDOW: "the person has not written within 24 hours, and no tag permits the message",
    UNLINKED: "the person on Messenger is no longer this contact",
}
"""Reasons for not sending that fail the step."""

_link: Final[TypeAdapter[str]] = TypeAdapter(Link)


class SendMessenger(Config):
    """The page, and the content that `message_type` asks for (see messenger_content).

    The Send API wants a messaging type with every message; what a workflow sends answers nothing,
    so that UPDATE is the default. MESSAGE_TAG needs `content.tag`, and tagged messages are never
    marketing. `on_unknown_outcome`: `fail` rather than risk a second message, or `repeat`.
    """

    page_id: UUID
    message_type: Literal["text", "image", "template", "quick_reply"]
    content: dict[PlainText, MergeValue]
    messaging_type: Literal["RESPONSE", "UPDATE", "MESSAGE_TAG"] = "UPDATE"
    purpose: Literal["marketing", "transactional"] = "marketing"
    on_unknown_outcome: Literal["fail", "repeat"] = "fail"

    @model_validator(mode="after")
    def _content_fits_its_type(self) -> SendMessenger:
        check(MODELS[self.message_type], self.content, "content")
        if self.messaging_type == "MESSAGE_TAG" and self.content.get("tag") is None:
            raise incomplete("content.tag", "messages of type MESSAGE_TAG need a tag")
        return self

    @property
    def tag(self) -> str | None:
        """The tag that goes with the message; what is no MESSAGE_TAG has none."""
        return self.content.get("tag") if self.messaging_type == "MESSAGE_TAG" else None


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write each contact's message into the ledger; one statement finds pages and people."""
    rows = await stage.db.fetch(
        messenger_message.queries.parties,
        [item.account_id for item in items],
        [_config(item).page_id for item in items],
        [item.contact_id for item in items],
    )
    return [_act(item, row) for item, row in zip(items, rows, strict=True)]


def _act(item: Item, row: asyncpg.Record) -> Outcome:
    if row["integration_id"] is None:
        return _failed("page_unknown", "page_id: there is no such Facebook page any more")
    if row["is_disabled"]:
        return _failed("page_disabled", "page_id: the page's integration is disabled")
    if row["psid"] is None:
        return NO_PERSON
    config = _config(item)
    try:
        message = _message(config.message_type, item.values["content"])
    except UnusableError as error:
        return error.outcome
    effect = messenger_message.request(
        Person(row["integration_id"], row["page"], row["psid"]),
        message,
        purpose="transactional" if config.tag else config.purpose,
        messaging_type=config.messaging_type,
        tag=config.tag,
        on_unknown="repeat" if config.on_unknown_outcome == "repeat" else None,
    )
    return Dispatch([effect])


def _message(message_type: str, content: Mapping[str, Any]) -> dict[str, Any]:
    match message_type:
        case "text":
            return {"text": _text(content)}
        case "quick_reply":
            replies = [_reply(reply) for reply in content["quick_replies"]]
            return {"text": _text(content), "quick_replies": replies}
        case "image":
            url = _rendered_link(content["url"], "content.url")
            return _attachment("image", {"url": url, "is_reusable": True})
    return _attachment("template", {k: v for k, v in content.items() if k != "tag"})


def _attachment(type_: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"attachment": {"type": type_, "payload": dict(payload)}}


def _text(content: Mapping[str, Any]) -> str:
    text = text_of(content["text"], "content.text", LONGEST_TEXT)
    if text is None:
        raise UnusableError("message_empty", "content.text is empty after rendering")
    return text


def _reply(reply: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in reply.items() if value is not None}
    made.setdefault("content_type", "text")
    if "title" in made:
        made["title"] = text_of(made["title"], "content.quick_replies.title", LONGEST_TITLE) or ""
    if made["content_type"] == "text" and not made["title"]:
        raise UnusableError("reply_empty", "content.quick_replies: a title is empty")
    if "image_url" in made:
        made["image_url"] = _rendered_link(made["image_url"], "content.quick_replies.image_url")
    return made


def _rendered_link(text: str, field: str) -> str:
    link = text.strip()
    try:
        # What a merge field gave must not be rendered once more.
        usable = not has_merge_fields(link) and bool(_link.validate_python(link))
    except ValidationError:
        usable = False
    if not usable:
        raise UnusableError("media_unusable", f"{field} is no link after rendering")
    return link


async def settle(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """End the steps as their messages ended; some reasons for not sending are failures."""
    return [_settled(item.effects) for item in items]


def _settled(effects: Sequence[Mapping[str, Any]]) -> Outcome:
    outcome = settle_one(effects)
    if isinstance(outcome, Skipped) and outcome.reason in _FAILING:
        return _failed(outcome.reason, _FAILING[outcome.reason], Kind.REFUSED)
    return outcome


def _failed(code: str, message: str, kind: Kind = Kind.INVALID_CONFIG) -> Failed:
    return Failed(Failure(kind, code, message), is_final=True)


def _config(item: Item) -> SendMessenger:
    config = item.config
    assert isinstance(config, SendMessenger)
    return config


ACTION = ActionType(
    name="send_messenger",
    family="messenger",
    config=SendMessenger,
    perform=perform,
    settle=settle,
    gives={
        "sid": "the id that Facebook gave the message",
        "status": "sent, or recorded where the account is in test mode",
        "to": "page and person, in test mode",
        "messaging_type": "its messaging type, in test mode",
        "is_test": "true in test mode",
    },
    refers={"page_id": "page"},
)
