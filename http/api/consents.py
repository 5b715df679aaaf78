"""Consents and do-not-disturb: what contacts have said about being written to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import Field, StringConstraints

from actors.message_permission import CHANNELS, Channel
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Instant
from api.problems import invalid, not_found
from api.shown import Listing, Shown
from runtime.clock import current_instant
from runtime.configuration import Fault
from runtime.database import Connection
from runtime.dispatching import lock_addresses
from sql import load

queries = load("api_rights")

Source = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
Wording = Annotated[str, Field(max_length=5000)]
Channels = Annotated[list[Channel], Field(max_length=len(CHANNELS))]


class NewConsent(Body):
    """What a contact said: on which channel, yes or no, where (`source`), to which words, when."""

    channel: Channel
    is_given: bool
    source: Source
    wording: Wording = ""
    at: Instant | None = None


class ShownConsent(Shown):
    """A consent that was given, or withdrawn; the newest of a channel counts."""

    id: int
    channel: Channel
    is_given: bool
    source: str
    wording: str
    at: datetime
    recorded_at: datetime
    recorded_by: UUID | None


class DoNotDisturb(Body):
    """The channels on which the contact wants to hear nothing."""

    channels: Channels


class ShownDoNotDisturb(Shown):
    """The channels on which the contact wants to hear nothing."""

    channels: list[Channel]


class ConsentRules(Body):
    """The channels on which marketing goes only to those who have consented to it."""

    required_for: Channels


class ShownConsentRules(Shown):
    """The channels on which marketing goes only to those who have consented to it."""

    required_for: list[Channel]


async def record(call: Call) -> web.Response:
    """Record a consent or its withdrawal; nothing that it forbids goes out after the answer."""
    new = await call.body(NewConsent)
    contact_id = call.id("contact_id")
    async with call.transaction() as db:
        await _locked(call, db)
        now = await current_instant(db)
        if new.at is not None and new.at > now:
            raise invalid(Fault("at", "in_the_future", "Consent is recorded once it is given."))
        row = await db.fetchrow(
            queries.add_consent,
            call.account_id,
            contact_id,
            new.channel,
            new.is_given,
            new.source,
            new.wording,
            new.at or now,
            now,
            call.caller.user_id,
        )
        assert row is not None
        word = "consent_given" if new.is_given else "consent_withdrawn"
        await call.record(db, word, ("contact", contact_id), None, dict(row))
    return answer(dict(row), 201)


async def list_all(call: Call) -> web.Response:
    """List what a contact has consented to, newest first."""
    await _known(call)
    rows = await call.pool.fetch(queries.consents, call.account_id, call.id("contact_id"))
    return answer({"items": [dict(row) for row in rows]})


async def read_do_not_disturb(call: Call) -> web.Response:
    """Read on which channels the contact wants to hear nothing."""
    return answer({"channels": (await _known(call))["do_not_disturb"]})


async def set_do_not_disturb(call: Call) -> web.Response:
    """Say on which channels the contact wants to hear nothing; it holds from the answer on."""
    channels = _in_order((await call.body(DoNotDisturb)).channels)
    contact_id = call.id("contact_id")
    async with call.transaction() as db:
        row = await _locked(call, db)
        now = await current_instant(db)
        await db.execute(queries.set_do_not_disturb, call.account_id, contact_id, channels, now)
        before, after = {"channels": row["do_not_disturb"]}, {"channels": channels}
        await call.record(db, "do_not_disturb_set", ("contact", contact_id), before, after)
    return answer(after)


async def read_rules(call: Call) -> web.Response:
    """Read on which channels marketing needs consent."""
    rules = await call.pool.fetchval(queries.consent_rules, call.account_id)
    return answer({"required_for": rules})


async def set_rules(call: Call) -> web.Response:
    """Say on which channels marketing needs consent; texts and calls do unless this says no."""
    wanted = _in_order((await call.body(ConsentRules)).required_for)
    async with call.transaction() as db:
        before = {"required_for": await db.fetchval(queries.lock_consent_rules, call.account_id)}
        await db.execute(queries.set_consent_rules, call.account_id, wanted)
        after = {"required_for": wanted}
        entity = ("account", call.account_id)
        await call.record(db, "consent_rules_changed", entity, before, after)
    return answer(after)


def _in_order(channels: list[Channel]) -> list[Channel]:
    return [channel for channel in CHANNELS if channel in channels]


async def _known(call: Call) -> asyncpg.Record:
    row = await call.pool.fetchrow(queries.contact, call.account_id, call.id("contact_id"))
    if row is None or row["erased_at"] is not None:
        raise not_found("contact")
    return row


async def addresses_of(call: Call, db: Connection | asyncpg.Pool) -> Sequence[tuple[str, str]]:
    """The path's contact's addresses by channel; a 404 Problem for one that is none, or erased."""
    contact_id: UUID = call.id("contact_id")
    rows = await db.fetch(queries.addresses_of_contact, call.account_id, contact_id)
    if not rows:
        raise not_found("contact")
    return [(row["channel"], row["address"]) for row in rows if row["address"] is not None]


async def _locked(call: Call, db: Connection) -> Any:
    """Lock the contact's addresses, as a dispatch does, and then the contact."""
    if addresses := await addresses_of(call, db):
        channels, names = zip(*addresses, strict=True)
        await lock_addresses(db, [call.account_id] * len(names), channels, names)
    locked = await db.fetchrow(queries.lock_contact, call.account_id, call.id("contact_id"))
    if locked is None:
        raise not_found("contact")
    return locked


_ONE: Final = "/api/v1/contacts/{contact_id}"
_RULES: Final = "/api/v1/consent-rules"

ROUTES: Final = (
    Route("POST", f"{_ONE}/consents", record, Permission.EDIT_CONTACTS, NewConsent,
          answers={201: ShownConsent}),
    Route("GET", f"{_ONE}/consents", list_all, Permission.READ,
          answers={200: Listing[ShownConsent]}),
    Route("GET", f"{_ONE}/do-not-disturb", read_do_not_disturb, Permission.READ,
          answers={200: ShownDoNotDisturb}),
    Route("PUT", f"{_ONE}/do-not-disturb", set_do_not_disturb, Permission.EDIT_CONTACTS,
          DoNotDisturb, answers={200: ShownDoNotDisturb}),
    Route("GET", _RULES, read_rules, Permission.READ, answers={200: ShownConsentRules}),
    Route("PUT", _RULES, set_rules, Permission.EDIT_SETTINGS, ConsentRules,
          answers={200: ShownConsentRules}),
)  # fmt: skip
