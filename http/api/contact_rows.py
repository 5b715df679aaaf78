"""Contacts as clients give them, checked and brought to rows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
from pydantic import Field

from actors.contact_changes import columns_of
from actors.custom_fields import CustomField, CustomFields, custom_field, to_field
from actors.rendered import UnusableError
from api.bodies import Body
from api.fields import Object
from api.problems import invalid
from runtime.configuration import MOST_FAULTS, Fault, path_of
from runtime.database import Connection
from runtime.ids import new_id
from sql import load

queries = load("api_contacts")
custom_field_queries = load("custom_fields")

_TEXTS = ("first_name", "last_name", "email", "phone", "time_zone")

Row = dict[str, Any]


class NewContact(Body):
    """A contact to be; phone numbers without a country code are of the account's country."""

    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone: str | None = None
    time_zone: str | None = None
    owner_id: UUID | None = None
    custom_fields: Object = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """What contacts of one account are checked by."""

    country: str
    zone: ZoneInfo
    custom_fields: CustomFields
    users: frozenset[UUID]


async def rules_of(
    db: Connection | asyncpg.Pool, account_id: UUID, contacts: Sequence[NewContact]
) -> Rules:
    """Read what these contacts are checked by, in three queries for any number."""
    account = await db.fetchrow(queries.account, account_id)
    assert account is not None
    owners = {contact.owner_id for contact in contacts if contact.owner_id}
    users = await db.fetch(queries.users_of_account, account_id, list(owners))
    defined = await db.fetch(custom_field_queries.custom_fields_of_accounts, [account_id])
    return Rules(
        account["country"],
        ZoneInfo(account["time_zone"]),
        {r["key"]: CustomField(r["key"], r["field_type"], tuple(r["options"])) for r in defined},
        frozenset(row["id"] for row in users),
    )


async def checked_rows(
    db: Connection | asyncpg.Pool,
    account_id: UUID,
    contacts: Sequence[NewContact],
    *,
    is_list: bool,
) -> list[Row]:
    """Check contacts and bring them to rows; a 422 Problem names what is wrong."""
    rules = await rules_of(db, account_id, contacts)
    rows, faults = await asyncio.to_thread(rows_of, contacts, rules, is_list=is_list)
    if faults:
        raise invalid(*faults)
    return rows


def rows_of(
    contacts: Sequence[NewContact], rules: Rules, *, is_list: bool
) -> tuple[list[Row], list[Fault]]:
    """Bring contacts to rows with ids; and what is wrong with those that cannot be.

    Slow for thousands (parsing addresses): call it in a thread.
    """
    rows, faults = [], list[Fault]()
    for index, contact in enumerate(contacts):
        row, wrong = _row(contact, rules, ("contacts", index) if is_list else ())
        rows.append(row)
        faults += wrong
        if len(faults) >= MOST_FAULTS:
            break
    return rows, faults


def _row(
    contact: NewContact, rules: Rules, place: tuple[str | int, ...]
) -> tuple[Row, list[Fault]]:
    row: Row = {"id": new_id(), "owner_id": contact.owner_id, "custom_fields": {}}
    faults = []
    for name in _TEXTS:
        try:
            row |= columns_of(name, getattr(contact, name), rules.country)
        except UnusableError as error:
            faults.append(Fault(path_of((*place, name)), error.code, error.message))
    if contact.owner_id is not None and contact.owner_id not in rules.users:
        faults.append(
            Fault(path_of((*place, "owner_id")), "user_unknown", "There is no such user.")
        )
    for key, value in contact.custom_fields.items():
        try:
            stored = to_field(custom_field(rules.custom_fields, key), value, rules.zone)
        except UnusableError as error:
            path = path_of((*place, "custom_fields", key))
            faults.append(Fault(path, error.code, error.message))
        else:
            row["custom_fields"] |= {} if stored is None else {key: stored}
    return row, faults


_COLUMNS = (
    "id", "first_name", "last_name", "email", "email_normalized", "phone", "phone_normalized",
    "time_zone", "owner_id", "custom_fields",
)  # fmt: skip


def columns(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Turn rows into the arrays that `add_contacts` takes."""
    return [[row[name] for row in rows] for name in _COLUMNS]
