"""update_contact: set, append to or increment fields of the contact.

- `set` replaces. A value of null or "" clears the field; merge fields that render empty leave it
  as it is, so that a missing value never wipes a stored one.
- `append` joins text with the update's `separator`, or adds options to a multi_choice field.
- `increment` adds to a number field; a missing number counts as 0. Numbers are added as decimals.

Updates of one step happen in their order, all or none of them: if one cannot be used, the step
fails and the contact stays. contact_updated is emitted only when a field ended up different.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from actors.addresses import has_merge_fields
from actors.contact_changes import (
    FIELDS,
    announce,
    check_column,
    columns_of,
    copy_of,
    differences,
    write,
)
from actors.custom_fields import (
    LONGEST_TEXT,
    CustomField,
    CustomFields,
    custom_field,
    custom_fields_of,
    to_decimal,
    to_field,
    to_number,
)
from actors.fields import MERGE_FIELDS, Config, MergeValue, PlainText, misfit, template
from actors.literals import refusing
from actors.references import AccountAndId, User, find_users, id_of
from actors.rendered import UnusableError, each, is_blank, text_of, zone_of
from runtime.configuration import did_you_mean
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import ActionType
from runtime.stage import Contact, Item, Stage
from sql import load

queries = load("update_contact")

Mode = Literal["set", "append", "increment"]
CUSTOM = "custom_fields."
_CUSTOM_NAME = re.compile(r"custom_fields\.[a-z][a-z0-9_]{0,63}")
APPENDABLE = ("first_name", "last_name")
LONGEST_SEPARATOR = 20


def _field_name(name: str) -> str:
    if name in FIELDS or _CUSTOM_NAME.fullmatch(name):
        return name
    hint = did_you_mean(name, FIELDS) or f" Custom fields are written {CUSTOM}<key>."
    raise PydanticCustomError("unknown_field", "There is no such field.{hint}", {"hint": hint})


class FieldUpdate(Config):
    """One field and its value; `mode` counts before the action's update_mode."""

    field: Annotated[PlainText, AfterValidator(_field_name)]
    value: MergeValue
    mode: Mode | None = None
    separator: Annotated[
        str,
        Field(max_length=LONGEST_SEPARATOR, json_schema_extra=MERGE_FIELDS),
        AfterValidator(template),
    ] = ", "


class UpdateContact(Config):
    """The fields to update, in order; custom ones are written custom_fields.<key>."""

    field_updates: Annotated[list[FieldUpdate], Field(min_length=1, max_length=100)]
    update_mode: Mode = "set"

    @model_validator(mode="after")
    def _modes_and_values_fit_fields(self) -> UpdateContact:
        for number, update in enumerate(self.field_updates):
            where, mode = f"field_updates[{number}]", update.mode or self.update_mode
            if mode == "increment" and update.field in FIELDS:
                reason = f"{update.field} is no number and cannot be incremented"
                raise misfit("mode", f"{where}.mode", reason)
            if mode == "append" and update.field in FIELDS and update.field not in APPENDABLE:
                raise misfit("mode", f"{where}.mode", f"{update.field} can only be set")
            if mode != "set" and is_blank(update.value):
                raise misfit("mode", f"{where}.value", f"there is nothing to {mode}")
            with refusing(f"{where}.value"):
                _check_literal(update.field, mode, update.value)
        return self


def _check_literal(field: str, mode: Mode, value: Any) -> None:
    if isinstance(value, str) and has_merge_fields(value):
        return
    if field in FIELDS:
        if value is not None and not isinstance(value, str):
            raise UnusableError("value_unusable", f"{field} takes text")
        check_column(field, value or "")
    elif mode == "increment":
        to_decimal(CustomField(field.removeprefix(CUSTOM), "number"), value)


@dataclass(frozen=True, slots=True)
class _Edit:
    item: Item
    after: Contact
    changed: Mapping[str, tuple[Any, Any]]


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Update the contacts: at most three looks and one write, whatever the number of items."""
    defined = await custom_fields_of(stage, {i.account_id for i in items if _is_custom(i)})
    edits = each(items, lambda item: _edit(item, defined.get(item.account_id, {})))
    edits = await _with_owners(stage, edits)
    edits = await _with_free_emails(stage, edits)
    await write(stage, [e.after for e in edits if isinstance(e, _Edit) and e.changed])
    return [edit if isinstance(edit, Failed) else _finish(stage, edit) for edit in edits]


def _config(item: Item) -> UpdateContact:
    assert isinstance(item.config, UpdateContact)
    return item.config


def _is_custom(item: Item) -> bool:
    return any(update.field.startswith(CUSTOM) for update in _config(item).field_updates)


def _edit(item: Item, fields: CustomFields) -> _Edit:
    after = copy_of(item.contact)
    config = _config(item)
    for update, rendered in zip(config.field_updates, item.values["field_updates"], strict=True):
        mode = update.mode or config.update_mode
        if is_blank(rendered["value"]) and not is_blank(update.value):
            continue
        if update.field.startswith(CUSTOM):
            field = custom_field(fields, update.field.removeprefix(CUSTOM))
            _update_custom(item, after["custom_fields"], field, mode, rendered)
        else:
            _update_standard(item, after, update.field, mode, rendered)
    return _Edit(item, after, differences(item.contact, after))


def _update_standard(
    item: Item, after: Contact, field: str, mode: Mode, rendered: Mapping[str, Any]
) -> None:
    value: str | None = rendered["value"]
    if field == "owner_id":
        after["owner_id"] = id_of(value, field)
        return
    if mode == "append" and after[field] and value:
        value = f"{after[field]}{rendered['separator']}{value.strip()}"
    after.update(columns_of(field, value, item.account.country))


def _update_custom(
    item: Item, stored: dict[str, Any], field: CustomField, mode: Mode, rendered: Mapping[str, Any]
) -> None:
    zone = zone_of(item.account.time_zone, "the account's time zone")
    if mode == "increment":
        new: Any = _incremented(field, stored.get(field.key), rendered["value"])
    else:
        new = to_field(field, rendered["value"], zone)
        if mode == "append":
            new = _appended(field, stored.get(field.key), new, rendered["separator"])
    if new is None:
        stored.pop(field.key, None)
    else:
        stored[field.key] = new


def _incremented(field: CustomField, old: Any, by: Any) -> int | float:
    if field.field_type != "number":
        raise field.unusable("only numbers can be incremented")
    begin = Decimal(0) if old is None else to_decimal(field, old)
    return to_number(begin + to_decimal(field, by), field)


def _appended(field: CustomField, old: Any, new: Any, separator: str) -> Any:
    if field.field_type == "multi_choice":
        return list(dict.fromkeys([*(old or []), *(new or [])])) or None
    if field.field_type != "text":
        raise field.unusable("only text and several choices can be appended to")
    joined = f"{old}{separator}{new}" if old and new else old or new
    return text_of(joined, f"{CUSTOM}{field.key}", LONGEST_TEXT)


async def _with_owners(stage: Stage, edits: Sequence[_Edit | Failed]) -> list[_Edit | Failed]:
    wanted = {
        (edit.item.account_id, edit.after["owner_id"])
        for edit in edits
        if isinstance(edit, _Edit) and "owner_id" in edit.changed and edit.after["owner_id"]
    }
    found = await find_users(stage, wanted)
    return [_with_owner(e, found) if isinstance(e, _Edit) else e for e in edits]


def _with_owner(edit: _Edit, found: Mapping[AccountAndId, User]) -> _Edit | Failed:
    # A user of another account does not exist for this one.
    if "owner_id" in edit.changed:
        owner_id = edit.after["owner_id"]
        owner = found.get((edit.item.account_id, owner_id))
        if owner_id is not None and owner is None:
            message = "the account has no user of the given owner_id"
            return UnusableError("owner_not_found", message).outcome
        edit.after["owner"] = owner  # {{contact.owner.name}} of later steps
    return edit


async def _with_free_emails(stage: Stage, edits: Sequence[_Edit | Failed]) -> list[_Edit | Failed]:
    # An address that is taken between this look and the write fails the write by the unique
    # index; the engine performs the batch again, and then this look sees who holds it.
    taking = [e for e in edits if isinstance(e, _Edit) and _takes_email(e)]
    if not taking:
        return list(edits)
    wanted = [(e.item.account_id, e.item.contact_id, e.after["email_normalized"]) for e in taking]
    rows = await stage.db.fetch(queries.find_email_holders, *zip(*wanted, strict=True))
    exempt = {row["contact_id"] for row in rows if row["is_duplicate"]}
    holders: dict[tuple[UUID, str], UUID] = {
        (row["account_id"], row["email"]): row["holder_id"] for row in rows if row["holder_id"]
    }
    refused: dict[UUID, Failed] = {}
    for account_id, contact_id, email in wanted:
        if contact_id in exempt:
            continue
        if (holder := holders.setdefault((account_id, email), contact_id)) != contact_id:
            message = f"contact {holder} has this email; it is unique in an account"
            refused[contact_id] = UnusableError("email_taken", message).outcome
    return [refused.get(e.item.contact_id, e) if isinstance(e, _Edit) else e for e in edits]


def _takes_email(edit: _Edit) -> bool:
    new = edit.after["email_normalized"]
    return new is not None and new != edit.item.contact["email_normalized"]


def _finish(stage: Stage, edit: _Edit) -> Done:
    item = edit.item
    names = announce(stage, item, item.contact_id, edit.changed)
    if names:
        item.contact.update(edit.after, updated_at=stage.now)
    return Done({"updated": bool(names), "changed_fields": names})


def _refers(config: Mapping[str, Any]) -> Mapping[str, str]:
    updates = config.get("field_updates")
    owners = {
        f"field_updates[{number}].value": "user"
        for number, update in enumerate(updates if isinstance(updates, list) else ())
        if isinstance(update, dict) and update.get("field") == "owner_id"
    }
    return {"field_updates[].field": "custom_field", **owners}


ACTION = ActionType(
    name="update_contact",
    family="crm",
    config=UpdateContact,
    perform=perform,
    gives={"updated": "whether anything changed", "changed_fields": "which fields"},
    emits=frozenset({"contact_updated"}),
    refers=_refers,
)
