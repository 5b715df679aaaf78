"""send_notification: tell users of the account something, in the app, by e-mail or by SMS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors.fields import Config, RequiredMergeText, incomplete, misfit
from runtime.registry import ActionType

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


def _refers(config: Mapping[str, Any]) -> Mapping[str, str]:
    kinds = {"specific_user": "user", "team": "team"}
    kind = kinds.get(config.get("recipient_type", ""))
    return {"recipient_ids[]": kind} if kind else {}


ACTION = ActionType(
    name="send_notification", family="notification", config=SendNotification, refers=_refers
)
