"""The people of a page: what they write is taken in, their receipts noted, their wishes heeded.

A person becomes a contact by a link that carries the contact's signed reference, or by a call of
the API. Who is nobody's contact still opens the window: the link may come later. All events of a
webhook are taken in by a fixed number of statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from actors.integrations import Integration
from actors.messenger_events import PersonEvent
from actors.messenger_message import CHANNEL, address_of, queries
from actors.messenger_receipts import Echo, Mark, take_echoes, take_receipts
from actors.sms_words import Wish, wish_of
from runtime.bells import Bells
from runtime.database import Connection
from runtime.dispatching import lock_addresses, opt_in, opt_out_all
from runtime.events import IncomingEvent, take_in
from runtime.house import House
from runtime.signing import Signer

REPLY, OPTED_OUT, OPTED_IN = "messenger_reply", "messenger_opted_out", "messenger_opted_in"
_WORDS: Final = {None: REPLY, Wish.HELP: REPLY, Wish.STOP: OPTED_OUT, Wish.START: OPTED_IN}


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


Contacts = Mapping[str, UUID]
"""Who is which contact, by address."""


async def take_events(
    db: Connection,
    house: House,
    integration: Integration,
    events: Sequence[PersonEvent],
    now: datetime,
) -> Bells:
    """Take events in, in the caller's transaction; what came before changes nothing.

    Locks contacts, then addresses, then effects, each in one order.
    """
    if not events:
        return Bells()
    account_id = integration.account_id
    acts = await _new(db, integration, events, now)
    contacts = await _contacts(db, house, account_id, events)
    addresses = sorted({_address(event) for event in events})
    await lock_addresses(db, [account_id] * len(addresses), [CHANNEL] * len(addresses), addresses)
    marks = await _know(db, account_id, _people(events, contacts, now))
    bells = await _heed(db, account_id, contacts, acts)
    echoes = [Echo(e.echo_of, _address(e), e.mid) for e in events if e.echo_of and e.mid]
    await take_echoes(db, account_id, echoes, now)
    await take_receipts(db, account_id, _told(events, marks), now)
    return bells


def _address(event: PersonEvent) -> str:
    return address_of(event.page, event.psid)


async def _new(
    db: Connection, integration: Integration, events: Sequence[PersonEvent], now: datetime
) -> list[PersonEvent]:
    """Give what people did that was not told before, each once, in the order of its telling."""
    acts: dict[str, PersonEvent] = {}
    for event in events:
        if event.key is not None:
            acts.setdefault(event.key, event)
    wishes = [wish_of(event.text) for event in acts.values()]
    rows = await db.fetch(
        queries.take_acts, integration.account_id, list(acts), integration.id, wishes, now
    )
    new = {row["provider_id"] for row in rows}
    return [event for key, event in acts.items() if key in new]


async def _contacts(
    db: Connection, house: House, account_id: UUID, events: Sequence[PersonEvent]
) -> Contacts:
    """Lock the contacts that people are, or that they say they are by a link."""
    addresses = list({_address(event) for event in events})
    rows = await db.fetch(queries.contacts_of, account_id, addresses)
    wanted = {row["address"]: row["contact_id"] for row in rows}
    for event in events:
        named = None if _address(event) in wanted else contact_named(house, event.ref)
        if named is not None:
            wanted[_address(event)] = named
    locked = await db.fetch(queries.lock_contacts, account_id, list(set(wanted.values())))
    are_there = {row["id"] for row in locked}
    return {address: id_ for address, id_ in wanted.items() if id_ in are_there}


@dataclass(slots=True)
class _Person:
    """What one or many events say of a person."""

    page: str
    psid: str
    contact_id: UUID | None
    wrote_at: datetime | None = None
    delivered_until: datetime | None = None
    read_until: datetime | None = None


def _people(events: Sequence[PersonEvent], contacts: Contacts, now: datetime) -> Iterator[_Person]:
    people: dict[str, _Person] = {}
    for event in events:
        address = _address(event)
        person = people.setdefault(address, _Person(event.page, event.psid, contacts.get(address)))
        wrote_at = min(event.at or now, now) if event.opens else None
        person.wrote_at = _later(person.wrote_at, wrote_at)
        person.delivered_until = _later(person.delivered_until, event.delivered_until)
        person.read_until = _later(person.read_until, event.read_until)
    yield from people.values()


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(filter(None, (one, other)), default=None)


async def _know(db: Connection, account_id: UUID, people: Iterator[_Person]) -> dict[str, Mark]:
    """Keep what people did; gives how far the messages to each have come by all that was told."""
    told = [
        (p.page, p.psid, p.contact_id, p.wrote_at, p.delivered_until, p.read_until) for p in people
    ]
    columns = map(list, zip(*told, strict=True))
    rows = await db.fetch(queries.know_people, account_id, *columns)
    return {
        row["address"]: Mark(row["address"], row["delivered_until"], row["read_until"])
        for row in rows
    }


async def _heed(
    db: Connection, account_id: UUID, contacts: Contacts, acts: Sequence[PersonEvent]
) -> Bells:
    """Tell the contacts' runs what people did, and do as they wish; the last wish counts."""
    if not acts:
        return Bells()
    rows = await db.fetch(queries.opted_out, account_id, [_address(event) for event in acts])
    out = {row["address"] for row in rows}
    was_out, stopped, told = frozenset(out), set[str](), list[tuple[PersonEvent, str]]()
    for event in acts:
        address, wish = _address(event), wish_of(event.text)
        if wish is Wish.START and address not in out:
            wish = None  # YES and START are answers of somebody who has not opted out
        if wish is Wish.STOP:
            out.add(address)
            stopped.add(address)
        elif wish is Wish.START:
            out.discard(address)
        told.append((event, _WORDS[wish]))
    bells = await _tell(db, account_id, contacts, told)
    if stopped:
        bells |= await opt_out_all(db, account_id, CHANNEL, sorted(stopped), "stop")
    for address in sorted((was_out | stopped) - out):
        await opt_in(db, account_id, CHANNEL, address)
    return bells


async def _tell(
    db: Connection,
    account_id: UUID,
    contacts: Contacts,
    acts: Sequence[tuple[PersonEvent, str]],
) -> Bells:
    acts = [(event, word) for event, word in acts if _address(event) in contacts]
    if not acts:
        return Bells()
    addresses = list({_address(event) for event, _ in acts})
    rows = await db.fetch(
        queries.latest, account_id, addresses, [contacts[address] for address in addresses]
    )
    latest = {row["address"]: row for row in rows}
    told = [
        IncomingEvent(
            account_id,
            word,
            contacts[_address(event)],
            _payload(event),
            action_id=latest[_address(event)]["action_id"],
            execution_id=latest[_address(event)]["execution_id"],
            dedupe_key=f"{word}:{event.key}",
        )
        for event, word in acts
    ]
    _, bells = await take_in(db, told)
    return bells


def _payload(event: PersonEvent) -> dict[str, Any]:
    return {"page": event.page, "psid": event.psid, **event.payload}


def _told(events: Sequence[PersonEvent], marks: Mapping[str, Mark]) -> list[Mark]:
    """Give how far messages have come to those of whom receipts, or echoes, were told just now."""
    mids: dict[str, tuple[str, ...]] = {}
    for event in events:
        if event.echo_of or event.delivered_until or event.read_until or event.mids:
            mids[_address(event)] = (*mids.get(_address(event), ()), *event.mids)
    return [replace(marks[address], mids=named) for address, named in mids.items()]
