"""The people of a page: what they write is taken in, their receipts noted, their wishes heeded.

A person becomes a contact by a link that carries the contact's signed reference, or by a call of
the API. Who is nobody's contact still opens the window: the link may come later.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from actors.inbound_texts import queries as texts
from actors.integrations import Integration
from actors.messenger_events import PersonEvent
from actors.messenger_message import CHANNEL, address_of, queries
from actors.sms_words import Wish, wish_of
from runtime.bells import Bells
from runtime.database import Connection
from runtime.deliveries import Report, take_report
from runtime.dispatching import lock_addresses, opt_in, opt_out
from runtime.events import IncomingEvent, take_in
from runtime.house import House
from runtime.signing import Signer

REPLY, OPTED_OUT, OPTED_IN = "messenger_reply", "messenger_opted_out", "messenger_opted_in"


def reference_signer(house: House) -> Signer:
    """Give what signs the references of m.me links."""
    return house.vault.signer("messenger reference")


def reference_of(house: House, contact_id: UUID) -> str:
    """Write the `ref` of a link that tells us who followed it; a LookupError without a key."""
    return reference_signer(house).sign(contact_id.bytes)


def contact_named(house: House, ref: str | None) -> UUID | None:
    """Give the contact that a reference of ours names."""
    message = reference_signer(house).verify(ref) if ref else None
    return UUID(bytes=message) if message is not None and len(message) == 16 else None


async def take_event(
    db: Connection, house: House, integration: Integration, event: PersonEvent, now: datetime
) -> Bells:
    """Take an event in, in the caller's transaction; what came before changes nothing.

    Locks the contact, then the address, then effects.
    """
    account_id = integration.account_id
    wish = wish_of(event.text) if event.key is not None else None
    if event.key is not None and not await db.fetchval(
        texts.take_text, account_id, event.key, integration.id, wish, now
    ):
        return Bells()
    address = address_of(event.page, event.psid)
    contact_id = await _contact(db, house, account_id, address, event)
    await lock_addresses(db, [account_id], [CHANNEL], [address])
    person = await db.fetchrow(
        queries.know_person,
        account_id,
        event.page,
        event.psid,
        contact_id,
        min(event.at or now, now) if event.opens else None,
        event.delivered_until,
        event.read_until,
    )
    assert person is not None
    bells = Bells()
    if event.key is not None:
        bells |= await _heed(db, account_id, address, contact_id, event, wish)
    bells |= await _echoed(db, account_id, address, event, now)
    seen = replace(
        event, delivered_until=person["delivered_until"], read_until=person["read_until"]
    )
    return bells | await _receipts(db, account_id, address, seen, now)


async def _contact(
    db: Connection, house: House, account_id: UUID, address: str, event: PersonEvent
) -> UUID | None:
    known = await db.fetchval(queries.contact_of, account_id, address)
    wanted = known or contact_named(house, event.ref)
    if wanted is None:
        return None
    found: UUID | None = await db.fetchval(queries.lock_contact, account_id, wanted)
    return found


async def _heed(  # noqa: PLR0917 - all of one event
    db: Connection,
    account_id: UUID,
    address: str,
    contact_id: UUID | None,
    event: PersonEvent,
    wish: Wish | None,
) -> Bells:
    was_out = await db.fetchval(queries.has_opted_out, account_id, address)
    if wish is Wish.START and not was_out:
        wish = None  # YES and START are answers of somebody who has not opted out
    word = {Wish.STOP: OPTED_OUT, Wish.START: OPTED_IN}.get(wish, REPLY) if wish else REPLY
    bells = Bells()
    if contact_id is not None:
        bells |= await _tell(db, account_id, address, contact_id, event, word)
    if wish is Wish.STOP:
        bells |= await opt_out(db, account_id, CHANNEL, address, "stop")
    elif wish is Wish.START:
        await opt_in(db, account_id, CHANNEL, address)
    return bells


async def _tell(  # noqa: PLR0917 - all of one event
    db: Connection, account_id: UUID, address: str, contact_id: UUID, event: PersonEvent, word: str
) -> Bells:
    latest = await db.fetchrow(queries.latest, account_id, address, contact_id)
    payload: dict[str, Any] = {"page": event.page, "psid": event.psid, **event.payload}
    told = IncomingEvent(
        account_id,
        word,
        contact_id,
        payload,
        action_id=latest["action_id"] if latest else None,
        execution_id=latest["execution_id"] if latest else None,
        dedupe_key=f"{word}:{event.key}",
    )
    _, bells = await take_in(db, [told])
    return bells


async def _echoed(
    db: Connection, account_id: UUID, address: str, event: PersonEvent, now: datetime
) -> Bells:
    """Note that a message of ours has arrived at Facebook: settles an unknown outcome."""
    if event.echo_of is None or event.mid is None:
        return Bells()
    by = await db.fetchval(queries.echoed, account_id, event.echo_of, address)
    if by is None:
        return Bells()
    report = Report(account_id, by, event.echo_of, event.mid, "sent")
    return (await take_report(db, report, now)).bells


_MARKS: Final = (("delivered", "delivered_until"), ("read", "read_until"))


async def _receipts(
    db: Connection, account_id: UUID, address: str, event: PersonEvent, now: datetime
) -> Bells:
    bells = Bells()
    for status, name in _MARKS:
        until, mids = getattr(event, name), event.mids if status == "delivered" else ()
        if until is None and not mids:
            continue
        rows = await db.fetch(queries.receipts_due, account_id, address, status, until, mids)
        for row in rows:
            report = Report(
                account_id, row["integration_id"], row["id"], row["provider_id"], status
            )
            bells |= (await take_report(db, report, now)).bells
    return bells
