"""Telling users of an account something, each on the channels that they have left open.

One thing to tell becomes an effect per person and channel. What goes by mail or text goes from the
account's default sender, waits for the end of a person's quiet hours, and concerns the account
alone: what a contact has opted out of does not matter (purpose internal).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final
from uuid import UUID

import asyncpg

from actors import email_message, notification_in_app, sms_message
from actors.contact_addresses import normalize_email
from actors.integrations import Sender, default_senders
from actors.rendered import UnusableError
from runtime.outcomes import EffectRequest
from runtime.stage import Stage
from sql import load

queries = load("send_notification")

SENDERS: Final[Mapping[str, str]] = {"email": "smtp", "sms": "twilio"}
"""The kind of integration that a channel goes out by."""

LONGEST_TEXT: Final = 1600
MOST_PEOPLE: Final = 500
"""Whom one step may tell: beyond it a role or team is no list of recipients but an audience."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """Whom an account's notice is for: users, members of teams, holders of roles."""

    account_id: UUID
    user_ids: Collection[UUID] = ()
    team_ids: Collection[UUID] = ()
    roles: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told, on which channels, and whom of it the contact is."""

    title: str
    message: str
    channels: Sequence[str]
    contact_id: UUID | None = None


@dataclass(slots=True)
class Deliveries:
    """The effects to be written, whom each is for, and who is not told and why."""

    effects: list[EffectRequest] = field(default_factory=list)
    told: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


async def find_people(stage: Stage, wanted: Sequence[Recipients]) -> list[list[asyncpg.Record]]:
    """Find who is meant, for each place of `wanted`; one statement."""
    asked = [
        {
            "place": place,
            "account_id": str(one.account_id),
            "user_ids": [str(id_) for id_ in one.user_ids],
            "team_ids": [str(id_) for id_ in one.team_ids],
            "roles": list(one.roles),
        }
        for place, one in enumerate(wanted)
    ]
    found: list[list[asyncpg.Record]] = [[] for _ in wanted]
    for row in await stage.db.fetch(queries.recipients, asked):
        found[row["place"]].append(row)
    return found


async def find_senders(
    stage: Stage, account_ids: Collection[UUID], channels: Collection[str]
) -> Mapping[tuple[UUID, str], Sender]:
    """Find whom accounts send by, by account and kind of integration; one statement, or none."""
    kinds = {SENDERS[channel] for channel in channels if channel in SENDERS}
    return await default_senders(stage.db, account_ids, kinds)


def deliveries(
    account_id: UUID,
    people: Sequence[asyncpg.Record],
    notice: Notice,
    senders: Mapping[tuple[UUID, str], Sender],
) -> Deliveries:
    """Make the effects for these people."""
    made = Deliveries()
    for person in people:
        for channel in notice.channels:
            place = {"user_id": str(person["id"]), "channel": channel}
            sender = senders.get((account_id, SENDERS.get(channel, "")))
            effect = _effect(person, channel, notice, sender)
            if isinstance(effect, str):
                made.skipped.append({**place, "reason": effect})
            else:
                made.told.append(place)
                made.effects.append(effect)
    return made


def _effect(
    person: asyncpg.Record, channel: str, notice: Notice, sender: Sender | None
) -> EffectRequest | str:
    """Make the effect, or give the reason why there is none."""
    if channel in person["muted"]:
        return "muted"
    if channel == "in_app":
        return notification_in_app.request(
            person["id"], notice.title, notice.message, notice.contact_id, gates_step=True
        )
    to = _address(person, channel)
    if to is None:
        return "no_phone" if channel == "sms" else "no_email"
    if sender is None:
        return "no_sender"
    quiet = person["quiet_from"] is not None
    hours: dict[str, Any] = {
        "quiet_hours": (person["quiet_from"], person["quiet_until"]) if quiet else None,
        "time_zone": person["time_zone"],
    }
    if channel == "sms":
        text = f"{notice.title}\n{notice.message}"
        text = text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
        return sms_message.request(sender, to, text, purpose="internal", **hours)
    content = email_message.written(_html(notice.message), notice.message)
    return email_message.request(
        sender, to, subject=" ".join(notice.title.split()), purpose="internal",
        content=content, **hours,
    )  # fmt: skip


def _address(person: asyncpg.Record, channel: str) -> str | None:
    if channel == "sms":
        phone: str | None = person["phone"]
        return phone
    try:
        return normalize_email(person["email"])
    except UnusableError:
        return None


def _html(message: str) -> str:
    paragraphs = "".join(
        f"<p>{escape(part).replace(chr(10), '<br>')}</p>" for part in message.split("\n\n")
    )
    return f"<!DOCTYPE html><html><body>{paragraphs}</body></html>"
