"""Finding contacts by e-mail or phone and making those that are missing, each address once.

A match by e-mail counts before one by phone; among several contacts with one phone number the one
with the lowest id counts. Contacts that were made as duplicates are never a match.

Two batches that make the same new address end with one contact. For e-mails the unique index
decides: who loses waits for the winner's commit and looks again. Phone numbers may be shared, so
no index can decide; whoever looks for one locks it first and looks in a second statement. The locks
are advisory and few, since PostgreSQL's lock table is small: numbers are spread over BUCKETS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID
from zlib import crc32

from runtime.ids import new_id
from runtime.stage import Contact, Item, Stage
from sql import load

queries = load("contact_matching")

BUCKETS: Final = 64
# The first half of the advisory locks' keys; the second is the bucket.
LOCK_CLASS: Final = 0x63726D

Handling = Literal["skip", "update", "create_duplicate"]
Key = tuple[UUID, str, str]
"""An account, 'email' or 'phone', and the normalised address."""


@dataclass(slots=True, eq=False)
class Draft:
    """A contact as one item wants it: only what was given, addresses normalised beside.

    `contact_id` is the contact that it came to; `is_created` says whether it was made for it.
    """

    item: Item
    handling: Handling
    columns: dict[str, str]
    custom_fields: dict[str, Any]
    contact_id: UUID = field(default_factory=new_id)
    is_created: bool = False
    is_duplicate: bool = False

    @property
    def keys(self) -> list[Key]:
        """What it is found by, the stronger first."""
        return [
            (self.item.account_id, kind, self.columns[f"{kind}_normalized"])
            for kind in ("email", "phone")
            if kind in self.columns
        ]


async def find_or_create(stage: Stage, drafts: Sequence[Draft]) -> None:
    """Bring every draft to a contact: the one that has its address, or a new one.

    Drafts are taken in their order: what an earlier one makes, a later one finds. Three statements
    as a rule; two more for each time that another transaction made one of the e-mails meanwhile.
    """
    await _lock_phones(stage, drafts)
    waiting = list(drafts)
    while waiting:
        owners = await _owners(stage, waiting)
        for draft in waiting:
            _match(draft, owners)
        lost = await _insert(stage, [draft for draft in waiting if draft.is_created])
        waiting = [draft for draft in waiting if draft.contact_id in lost]


def _match(draft: Draft, owners: dict[Key, UUID]) -> None:
    found = next((owners[key] for key in draft.keys if key in owners), None)
    draft.is_created = found is None or draft.handling == "create_duplicate"
    draft.contact_id = new_id() if draft.is_created or found is None else found
    # One whose e-mail is nobody's owns it, and is no duplicate in the sense of the unique index.
    has_own_email = "email" in draft.columns and draft.keys[0] not in owners
    draft.is_duplicate = found is not None and draft.is_created and not has_own_email
    if draft.handling == "update" or (draft.is_created and not draft.is_duplicate):
        for key in draft.keys:
            owners.setdefault(key, draft.contact_id)


async def _lock_phones(stage: Stage, drafts: Sequence[Draft]) -> None:
    phones = [key for draft in drafts for key in draft.keys if key[1] == "phone"]
    buckets = sorted({crc32(f"{a} {phone}".encode()) % BUCKETS for a, _, phone in phones})
    if buckets:
        await stage.db.execute(queries.lock_buckets, LOCK_CLASS, buckets)


async def _owners(stage: Stage, drafts: Sequence[Draft]) -> dict[Key, UUID]:
    keys = sorted({key for draft in drafts for key in draft.keys})
    if not keys:
        return {}
    rows = await stage.db.fetch(queries.find_contacts, *zip(*keys, strict=True))
    return {(row["account_id"], row["kind"], row["address"]): row["id"] for row in rows}


async def _insert(stage: Stage, drafts: Sequence[Draft]) -> set[UUID]:
    # In the order of their e-mails, since the index's entries are locked in this order.
    rows = sorted((_row(draft) for draft in drafts), key=lambda row: (row[1], row[5] or ""))
    if not rows:
        return set()
    made = await stage.db.fetch(queries.create_contacts, *zip(*rows, strict=True), stage.now)
    return {draft.contact_id for draft in drafts} - {row["id"] for row in made}


def _row(draft: Draft) -> tuple[Any, ...]:
    given = draft.columns.get
    return (
        draft.contact_id, draft.item.account_id, given("first_name"), given("last_name"),
        given("email"), given("email_normalized"), given("phone"), given("phone_normalized"),
        draft.custom_fields, draft.is_duplicate,
    )  # fmt: skip


async def lock(stage: Stage, drafts: Sequence[Draft]) -> dict[UUID, Contact]:
    """Lock the drafts' contacts in the order of their ids, and give them by id as they are now."""
    wanted = sorted({(draft.contact_id, draft.item.account_id) for draft in drafts})
    if not wanted:
        return {}
    rows = await stage.db.fetch(queries.lock_contacts, *zip(*wanted, strict=True))
    return {row["id"]: dict(row) for row in rows}
