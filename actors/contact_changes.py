"""Changes to contacts: which fields differ, written, logged and announced.

Shared by the actions that change standard or custom fields of contacts. Whoever uses this holds
the locks of the contacts' rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from actors.contact_addresses import (
    LONGEST_ADDRESS,
    check_phone,
    normalize_email,
    normalize_phone,
)
from actors.references import id_of
from actors.rendered import text_of, zone_of
from runtime.stage import Contact, Item, Stage
from sql import load

queries = load("contact_changes")

LONGEST_NAME = 200
FIELDS = ("first_name", "last_name", "email", "phone", "time_zone", "owner_id")
COLUMNS = (
    "account_id", "id", "first_name", "last_name", "email", "email_normalized",
    "phone", "phone_normalized", "time_zone", "owner_id", "custom_fields",
)  # fmt: skip


def columns_of(field: str, value: str | None, country: str) -> dict[str, str | None]:
    """Check a rendered text for a standard field and give the columns it sets; None clears them.

    Not for owner_id. UnusableError as the checks of the field say.
    """
    match field:
        case "email":
            text = text_of(value, field, LONGEST_ADDRESS)
            return {"email": text, "email_normalized": normalize_email(text) if text else None}
        case "phone":
            text = text_of(value, field, LONGEST_ADDRESS)
            normal = normalize_phone(text, country) if text else None
            return {"phone": text, "phone_normalized": normal}
        case "time_zone":
            text = text_of(value, field, LONGEST_NAME)
            return {"time_zone": zone_of(text, field).key if text else None}
        case _:
            return {field: text_of(value, field, LONGEST_NAME)}


def check_column(field: str, text: str) -> None:
    """Check what a config says literally for a standard field, as far as it needs no account.

    UnusableError as the checks of the field say.
    """
    match field:
        case "owner_id":
            id_of(text, field)
        case "phone":
            if stripped := text_of(text, field, LONGEST_ADDRESS):
                check_phone(stripped)
        case _:
            columns_of(field, text, country="")


def copy_of(contact: Contact) -> Contact:
    """Copy a contact so far that the copy's fields can be changed."""
    return {**contact, "custom_fields": dict(contact["custom_fields"])}


def differences(before: Contact, after: Contact) -> dict[str, tuple[Any, Any]]:
    """Give the fields that differ, by name, each with its old and new value as JSON."""
    found = {
        name: (_json(before[name]), _json(after[name]))
        for name in FIELDS
        if before[name] != after[name]
    }
    old, new = before["custom_fields"], after["custom_fields"]
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            found[f"custom_fields.{key}"] = (old.get(key), new.get(key))
    return found


def _json(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


async def write(stage: Stage, contacts: Iterable[Contact]) -> None:
    """Write contacts as they are now, in one statement, ordered by id."""
    ordered = sorted(contacts, key=lambda contact: contact["id"])
    if ordered:
        columns = [[contact[name] for contact in ordered] for name in COLUMNS]
        await stage.db.execute(queries.update_contacts, *columns, stage.now)


def announce(
    stage: Stage, item: Item, contact_id: UUID, changed: Mapping[str, tuple[Any, Any]]
) -> Sequence[str]:
    """Log each changed field and emit contact_updated, if anything changed; gives their names.

    The event names the fields and holds no values: whoever wants them reads the contact.
    """
    for name, (old, new) in changed.items():
        stage.record_change(item, name, old, new, contact_id=contact_id)
    if changed:
        payload = {"contact_id": str(contact_id), "changed_fields": list(changed)}
        stage.emit(item, "contact_updated", payload, contact_id=contact_id)
    return list(changed)
