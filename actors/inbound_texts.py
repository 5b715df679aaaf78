"""Texts that people send to an account's numbers: refusals, returns, questions and replies.

A refusal counts for the number, whichever of the account's contacts it belongs to; each of them is
told by an event of its own. It ends marketing calls to the number as well: 47 CFR 64.1200(a)(10)
speaks of robocalls and robotexts alike. It is confirmed once, by the answer to the webhook: that is
within the five minutes that 47 CFR 64.1200(a)(12) allows, and the only text that follows an
opt-out. Where Twilio itself has answered (Advanced Opt-Out), nothing is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from actors.integrations import Integration
from actors.sms_words import Wish, wish_of
from runtime.bells import Bells
from runtime.database import Connection
from runtime.dispatching import lock_addresses, opt_in, opt_out
from runtime.events import IncomingEvent, take_in
from sql import load

queries = load("texts")

CHANNEL: Final = "sms"
CALLS: Final = "voice"
STOPPED_TEXTS: Final = "stopped_texts"
REPLY, OPTED_OUT, OPTED_IN = "sms_reply", "sms_opted_out", "sms_opted_in"

_ANSWERS: Final[Mapping[Wish, str]] = {
    Wish.STOP: "{name}: You will get no more texts from us. Reply START to get them again.",
    Wish.START: "{name}: You will get texts from us again. Reply STOP to end them.",
    Wish.HELP: "{name}: Reply STOP to get no more texts. Message and data rates may apply.",
}


@dataclass(frozen=True, slots=True)
class Text:
    """A text that came in; `is_answered`: Twilio has dealt with the wish in it itself."""

    sid: str
    sender: str
    to: str
    body: str
    media: Sequence[Mapping[str, str]] = ()
    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a text: the answer to send back, and what to ring after the commit."""

    answer: str | None = None
    bells: Bells = field(default_factory=Bells)


async def take_text(db: Connection, integration: Integration, text: Text, now: datetime) -> Taken:
    """Take a text in, in the caller's transaction; one that came before changes nothing.

    Locks contacts, then the number on both channels, and looks after that.
    """
    account_id, wish = integration.account_id, wish_of(text.body)
    fresh = await db.fetchval(queries.take_text, account_id, text.sid, integration.id, wish, now)
    if not fresh:
        return Taken()
    contacts = await db.fetch(queries.contacts_of_number, account_id, text.sender)
    await lock_addresses(db, [account_id] * 2, [CHANNEL, CALLS], [text.sender] * 2)
    standing = await db.fetchrow(queries.standing, account_id, text.sender)
    assert standing is not None, "an integration has an account"
    was_out: bool = standing["has_opted_out"]
    if wish is Wish.START and not was_out:
        wish = None  # YES and START are answers of somebody who has not opted out
    event = {None: REPLY, Wish.STOP: OPTED_OUT, Wish.START: OPTED_IN}.get(wish)
    bells = Bells()
    if event is not None and contacts:
        bells = await _tell(db, account_id, event, text, contacts)
    if wish is Wish.STOP:
        bells |= await opt_out(db, account_id, CHANNEL, text.sender, "stop")
        bells |= await opt_out(db, account_id, CALLS, text.sender, STOPPED_TEXTS)
    elif wish is Wish.START:
        await opt_in(db, account_id, CHANNEL, text.sender)
        await opt_in(db, account_id, CALLS, text.sender, after=STOPPED_TEXTS)
    is_confirmed = wish is Wish.STOP and was_out
    if wish is None or is_confirmed or text.is_answered:
        return Taken(None, bells)
    return Taken(_ANSWERS[wish].format(name=standing["name"]), bells)


async def _tell(
    db: Connection,
    account_id: UUID,
    event_type: str,
    text: Text,
    contacts: Sequence[asyncpg.Record],
) -> Bells:
    payload: dict[str, Any] = {
        "message_sid": text.sid,
        "from": text.sender,
        "to": text.to,
        "body": text.body,
        "media": [dict(one) for one in text.media],
    }
    events = [
        IncomingEvent(
            account_id,
            event_type,
            contact["id"],
            payload,
            action_id=contact["action_id"],
            execution_id=contact["execution_id"],
            dedupe_key=f"{event_type}:{text.sid}:{contact['id']}",
        )
        for contact in contacts
    ]
    _, bells = await take_in(db, events)
    return bells
