"""Opt-outs of contacts: which of their addresses are not written to, why, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
from aiohttp import web

from actors.message_permission import CHANNELS, Channel
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.consents import Source, Wording, addresses_of
from api.problems import conflict, not_found
from api.shown import Listing, Shown
from runtime.database import Connection
from runtime.dispatching import lock_addresses, opt_in, opt_out_all
from sql import load

queries = load("api_rights")

Scope = Literal["all", "marketing"]
Addresses = Sequence[tuple[str, str]]

# By what a person asks of somebody who answers for them; see dispatching.MARKETING_ONLY.
_REASONS: Final[dict[Scope, str]] = {"all": "by_request", "marketing": "unsubscribed"}


class NewOptOut(Body):
    """What a person no longer wants: anything, or marketing; and where they said so."""

    scope: Scope = "all"
    source: Source
    wording: Wording = ""


class LiftedOptOut(Body):
    """Where a person said that they want to be written to again, and in which words."""

    source: Source
    wording: Wording = ""


class ShownOptOut(Shown):
    """An address that is not written to: at all, or not with marketing."""

    channel: Channel
    address: str
    opted_out_at: datetime
    reason: str
    scope: Scope


async def list_all(call: Call) -> web.Response:
    """List which of a contact's addresses are not written to, and why."""
    return answer({"items": await _opt_outs(call, call.pool, await addresses_of(call, call.pool))})


async def record(call: Call) -> web.Response:
    """Keep a contact's addresses on a channel from being written to; holds from the answer on.

    It counts for the address, whichever contacts it belongs to, and suppresses what is pending.
    """
    new = await call.body(NewOptOut)
    async with call.transaction() as db:
        channel, addresses = await _locked(call, db)
        before = await _opt_outs(call, db, addresses)
        names = [address for _, address in addresses]
        bells = await opt_out_all(db, call.account_id, channel, names, _REASONS[new.scope])
        after = await _opt_outs(call, db, addresses)
        entity = ("contact", call.id("contact_id"))
        told = _told(call, after, new)
        await call.record(db, "opted_out", entity, {"opt_outs": before}, told)
    await call.ring(bells.families, events=bells.events)
    return answer({"items": after})


async def lift(call: Call) -> web.Response:
    """Let a contact's addresses on a channel be written to again, since the person said so.

    What the person said is kept in the audit log. Consent, where it is needed, is recorded apart.
    A number that texted STOP stays blocked at Twilio until it texts START.
    """
    said = await call.body(LiftedOptOut)
    async with call.transaction() as db:
        channel, addresses = await _locked(call, db)
        before = await _opt_outs(call, db, addresses)
        if not before:
            raise not_found("opt_out")
        for _, address in addresses:
            await opt_in(db, call.account_id, channel, address)
        entity = ("contact", call.id("contact_id"))
        told = _told(call, [], said)
        await call.record(db, "opt_out_lifted", entity, {"opt_outs": before}, told)
    return web.Response(status=204)


def _channel(call: Call) -> Channel:
    channel = next((one for one in CHANNELS if one == call.request.match_info["channel"]), None)
    if channel is None:
        raise not_found("channel")
    return channel


async def _locked(call: Call, db: Connection) -> tuple[Channel, Addresses]:
    """Those on the path's channel, locked: a dispatch comes before this or sees it all."""
    channel, before = await _of(call, db)
    names = [address for _, address in before]
    await lock_addresses(db, [call.account_id] * len(names), [channel] * len(names), names)
    _, addresses = await _of(call, db)  # erased or changed while we waited
    if addresses != before:
        message = "The contact's addresses were changed just now. Try again."
        raise conflict("contact_changed", message)
    return channel, addresses


async def _of(call: Call, db: Connection) -> tuple[Channel, Addresses]:
    found = await addresses_of(call, db)
    channel = _channel(call)
    addresses = [one for one in found if one[0] == channel]
    if not addresses:
        raise conflict("no_address_on_channel", f"The contact has no address on {channel}.")
    return channel, addresses


async def _opt_outs(
    call: Call, db: Connection | asyncpg.Pool, addresses: Addresses
) -> list[dict[str, Any]]:
    channels, names = [channel for channel, _ in addresses], [name for _, name in addresses]
    rows = await db.fetch(queries.opt_outs_of_addresses, call.account_id, channels, names)
    return [dict(row) for row in rows]


def _told(call: Call, opt_outs: Sequence[Any], said: NewOptOut | LiftedOptOut) -> dict[str, Any]:
    told = {"channel": _channel(call), "source": said.source, "wording": said.wording}
    return {"opt_outs": opt_outs, **told}


_ALL: Final = "/api/v1/contacts/{contact_id}/opt-outs"

ROUTES: Final = (
    Route("GET", _ALL, list_all, Permission.READ, answers={200: Listing[ShownOptOut]}),
    Route("PUT", f"{_ALL}/{{channel}}", record, Permission.EDIT_CONTACTS, NewOptOut,
          answers={200: Listing[ShownOptOut]}, problems=frozenset({409})),
    Route("POST", f"{_ALL}/{{channel}}/lift", lift, Permission.EDIT_CONTACTS, LiftedOptOut,
          answers={204: None}, problems=frozenset({409})),
)  # fmt: skip
