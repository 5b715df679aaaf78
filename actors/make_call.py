"""make_call: call the contact and connect them to a user, a queue, a number or an IVR."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field, model_validator

from actors import voice_call
from actors.addresses import PhoneNumber, SingleLine, has_merge_fields, is_phone_number
from actors.call_outcomes import begun, given, resume, settle
from actors.fields import misfit
from actors.phone_terms import Parties, PhoneTerms, each_with_parties
from actors.rendered import UnusableError
from actors.voice_call import Destination
from runtime.outcomes import Dispatch, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("calls")

_APPLICATION: Final = re.compile(r"AP[0-9a-fA-F]{32}")
_TWIML: Final = re.compile(r"https://[^\s\\]+")
LONGEST_QUEUE: Final = 64  # friendly names of Twilio's queues


class MakeCall(PhoneTerms):
    """Who calls and where the contact is connected to.

    `destination_value` is a user's id, a queue's name, a number in E.164 form, or for an IVR the
    https address of its TwiML or the SID of its TwiML application.
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
            _check(_uuid(self.destination_value) is not None, "the id of a user is needed")
        return self


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise misfit("destination", "destination_value", message)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


Phones = Mapping[tuple[UUID, UUID], str | None]
"""Where users are reached, by account and user."""


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write each contact's call into the ledger; when it may go is decided just before it goes."""
    phones = await _phones_of_users(stage, items)

    def call(item: Item, parties: Parties) -> Outcome:
        config = item.config
        assert isinstance(config, MakeCall)
        effect = voice_call.request(
            parties.sender,
            parties.to,
            _destination(item, config, phones),
            purpose=config.purpose,
            ring_seconds=config.timeout_seconds,
            record=config.record_call,
            quiet_hours=config.quiet_hours,
            on_unknown="repeat" if config.on_unknown_outcome == "repeat" else None,
        )
        return Dispatch([effect], begun(stage))

    return await each_with_parties(stage, items, call)


async def _phones_of_users(stage: Stage, items: Sequence[Item]) -> Phones:
    wanted = {
        (item.account_id, user_id)
        for item in items
        if getattr(item.config, "destination_type", None) == "user"
        and (user_id := _uuid(item.values["destination_value"].strip())) is not None
    }
    if not wanted:
        return {}
    accounts, users = [list(column) for column in zip(*sorted(wanted), strict=True)]
    rows = await stage.db.fetch(queries.phones_of_users, accounts, users)
    return {(row["account_id"], row["id"]): row["phone"] for row in rows}


def _destination(item: Item, config: MakeCall, phones: Phones) -> Destination:
    value = item.values["destination_value"].strip()
    match config.destination_type:
        case "external":
            _need(is_phone_number(value), "destination_unusable", "is no number in E.164 form")
            return Destination("number", value)
        case "queue":
            _need(0 < len(value) <= LONGEST_QUEUE, "destination_unusable", "is no queue's name")
            return Destination("queue", value)
        case "ivr":
            if _APPLICATION.fullmatch(value):
                return Destination("application", value)
            is_twiml = _TWIML.fullmatch(value) is not None
            _need(
                is_twiml, "destination_unusable", "is neither an https address nor an application"
            )
            return Destination("url", value)
        case "user":
            key = item.account_id, _uuid(value) or UUID(int=0)
            _need(key in phones, "user_not_found", "names no user of the account")
            phone = phones[key]
            _need(phone is not None, "user_has_no_phone", "names a user without a phone number")
            return Destination("number", str(phone))


def _need(fits: bool, code: str, what: str) -> None:
    if not fits:
        raise UnusableError(code, f"destination_value {what}")


def _refers(config: Mapping[str, Any]) -> Mapping[str, str]:
    is_user = config.get("destination_type") == "user"
    return {"destination_value": "user"} if is_user else {}


ACTION = ActionType(
    name="make_call",
    family="voice",
    config=MakeCall,
    perform=perform,
    resume=resume,
    settle=settle,
    gives=given("completed, busy or no_answer"),
    refers=_refers,
)
