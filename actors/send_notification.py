"""send_notification: tell users of the account something, in the app, by e-mail or by SMS.

Each person is told on each channel by an effect of its own. The step is done if anybody was told;
it fails with the first failure if nobody could be, and is skipped where there was nobody to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors.fields import Config, RequiredMergeText, incomplete, misfit
from actors.integrations import Sender
from actors.notices_to_users import (
    MOST_PEOPLE,
    Notice,
    Recipients,
    deliveries,
    find_people,
    find_senders,
)
from actors.rendered import UnusableError, text_of
from runtime.outcomes import Dispatch, Done, Outcome, Skipped
from runtime.registry import ActionType
from runtime.settling import settle_one
from runtime.stage import Item, Stage

LONGEST_TITLE: Final = 200
LONGEST_MESSAGE: Final = 10_000

Role = Literal["viewer", "editor", "admin"]
Channel = Literal["in_app", "email", "sms"]


def _distinct(channels: list[Channel]) -> list[Channel]:
    if len(set(channels)) < len(channels):
        raise PydanticCustomError("repeated", "a channel is named twice")
    return channels


class SendNotification(Config):
    """Who is told what, on which channels.

    `recipient_ids` are ids of users or of teams, or names of roles; the contact's owner needs none.
    """

    recipient_type: Literal["specific_user", "contact_owner", "team", "role"]
    recipient_ids: list[UUID | Role] = Field(default_factory=list)
    channels: Annotated[list[Channel], Field(min_length=1), AfterValidator(_distinct)]
    title: RequiredMergeText
    message: RequiredMergeText

    @model_validator(mode="after")
    def _recipients_fit_their_type(self) -> SendNotification:
        if self.recipient_type == "contact_owner":
            if self.recipient_ids:
                raise _wrong("the contact's owner is one person, who is not to be named")
        elif not self.recipient_ids:
            raise incomplete("recipient_ids", f"{self.recipient_type} needs to be named")
        elif self.recipient_type == "role":
            if any(isinstance(recipient, UUID) for recipient in self.recipient_ids):
                raise _wrong("roles are viewer, editor and admin")
        elif not all(isinstance(recipient, UUID) for recipient in self.recipient_ids):
            raise _wrong(f"a {self.recipient_type} is named by its id")
        return self


def _wrong(reason: str) -> PydanticCustomError:
    return misfit("recipients", "recipient_ids", reason)


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write an effect per person and channel; two statements for any number of items."""
    people = await find_people(stage, [_recipients(item) for item in items])
    accounts = {item.account_id for item in items}
    channels = {channel for item in items for channel in _config(item).channels}
    senders = await find_senders(stage, accounts, channels)
    return [_outcome(item, found, senders) for item, found in zip(items, people, strict=True)]


def _recipients(item: Item) -> Recipients:
    config, account_id = _config(item), item.account_id
    ids = [one for one in config.recipient_ids if isinstance(one, UUID)]
    match config.recipient_type:
        case "specific_user":
            return Recipients(account_id, user_ids=ids)
        case "team":
            return Recipients(account_id, team_ids=ids)
        case "role":
            return Recipients(account_id, roles=[str(one) for one in config.recipient_ids])
    owner = item.contact["owner_id"]
    return Recipients(account_id, user_ids=[owner] if owner else [])


def _outcome(
    item: Item, people: Sequence[asyncpg.Record], senders: Mapping[tuple[UUID, str], Sender]
) -> Outcome:
    try:
        return _tell(item, people, senders)
    except UnusableError as error:
        return error.outcome


def _tell(
    item: Item, people: Sequence[asyncpg.Record], senders: Mapping[tuple[UUID, str], Sender]
) -> Outcome:
    if not people:
        return Skipped("no_recipient")
    if len(people) > MOST_PEOPLE:
        raise UnusableError(
            "too_many_recipients", f"{MOST_PEOPLE} people can be told at once, not {len(people)}"
        )
    title = text_of(item.values["title"], "title", LONGEST_TITLE)
    message = text_of(item.values["message"], "message", LONGEST_MESSAGE)
    if title is None or message is None:
        raise UnusableError("notice_empty", "title or message is empty after rendering")
    notice = Notice(title, message, _config(item).channels, item.contact_id)
    made = deliveries(item.account_id, people, notice, senders)
    if not made.effects:
        return Skipped("nobody_reachable", {"deliveries": [], "skipped": made.skipped})
    return Dispatch(made.effects, {"told": made.told, "skipped": made.skipped})


async def settle(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """End the steps as their deliveries ended."""
    return [_settled(item) for item in items]


def _settled(item: Item) -> Outcome:
    outcome = settle_one(item.effects)
    told = [
        {**place, "status": effect["status"], "reason": effect["error_code"]}
        for place, effect in zip(item.data["told"], item.effects, strict=True)
    ]
    result = {"deliveries": told, "skipped": item.data["skipped"]}
    if any(one["status"] == "succeeded" for one in told):
        return Done(result)
    return Skipped(outcome.reason, result) if isinstance(outcome, Skipped) else outcome


def _config(item: Item) -> SendNotification:
    config = item.config
    assert isinstance(config, SendNotification)
    return config


def _refers(config: Mapping[str, Any]) -> Mapping[str, str]:
    kinds = {"specific_user": "user", "team": "team"}
    kind = kinds.get(config.get("recipient_type", ""))
    return {"recipient_ids[]": kind} if kind else {}


ACTION = ActionType(
    name="send_notification",
    family="notification",
    config=SendNotification,
    perform=perform,
    settle=settle,
    gives={
        "deliveries": "who was told: user_id, channel, status, reason where one failed",
        "skipped": "who was not told: user_id, channel, and why",
    },
    refers=_refers,
)
