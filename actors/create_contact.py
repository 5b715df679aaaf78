"""create_contact: make a contact from static values and merge fields, or find the one there is.

One that has the same e-mail address or phone number (both normalised) is handled as configured:

- `skip` (default): nothing is written; the step is completed with that contact's id and `created`
  false, so that later steps can go on with it.
- `update`: what was given and is not empty is set on it; contact_updated if anything changed.
- `create_duplicate`: a further contact is made, marked as duplicate where it shares the e-mail.

contact_created is an event of the new contact, so that workflows that it starts run for that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from actors.contact_changes import (
    announce,
    check_column,
    columns_of,
    copy_of,
    differences,
    write,
)
from actors.contact_matching import Draft, find_or_create, lock
from actors.custom_fields import (
    CustomFieldKey,
    CustomFields,
    custom_field,
    custom_fields_of,
    to_field,
)
from actors.fields import Config, MergeText, MergeValue, incomplete
from actors.literals import literal
from actors.rendered import UnusableError, each, is_blank, zone_of
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage

NAMES_AND_ADDRESSES = ("first_name", "last_name", "email", "phone")


class CreateContact(Config):
    """The new contact's fields, of which a name, an e-mail or a phone number must be there."""

    first_name: Annotated[MergeText, literal(partial(check_column, "first_name"))] | None = None
    last_name: Annotated[MergeText, literal(partial(check_column, "last_name"))] | None = None
    email: Annotated[MergeText, literal(partial(check_column, "email"))] | None = None
    phone: Annotated[MergeText, literal(partial(check_column, "phone"))] | None = None
    custom_fields: dict[CustomFieldKey, MergeValue] = Field(default_factory=dict)
    duplicate_handling: Literal["skip", "update", "create_duplicate"] = "skip"

    @model_validator(mode="after")
    def _is_somebody(self) -> CreateContact:
        if all(is_blank(getattr(self, name)) for name in NAMES_AND_ADDRESSES):
            raise incomplete("email", "a name, an e-mail address or a phone number is required")
        return self


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Find, make and update contacts set-based, whatever the number of items."""
    defined = await custom_fields_of(
        stage, {item.account_id for item in items if item.values["custom_fields"]}
    )
    drafts = each(items, lambda item: _draft(item, defined.get(item.account_id, {})))
    usable = [draft for draft in drafts if isinstance(draft, Draft)]
    await find_or_create(stage, usable)
    updated = await _update(
        stage, [d for d in usable if d.handling == "update" and not d.is_created], items
    )
    return [
        draft if isinstance(draft, Failed) else _finish(stage, draft, updated.get(draft, {}))
        for draft in drafts
    ]


def _draft(item: Item, fields: CustomFields) -> Draft:
    values = item.values
    columns: dict[str, str] = {}
    for name in NAMES_AND_ADDRESSES:
        given = columns_of(name, values[name], item.account.country)
        columns |= {column: text for column, text in given.items() if text}
    if not columns:
        message = "neither name, email nor phone is left after rendering"
        raise UnusableError("contact_empty", message)
    custom = _custom_fields(item, fields) if values["custom_fields"] else {}
    return Draft(item, values["duplicate_handling"], columns, custom)


def _custom_fields(item: Item, fields: CustomFields) -> dict[str, Any]:
    zone = zone_of(item.account.time_zone, "the account's time zone")
    given = {
        key: to_field(custom_field(fields, key), value, zone)
        for key, value in item.values["custom_fields"].items()
    }
    return {key: value for key, value in given.items() if value is not None}


async def _update(
    stage: Stage, drafts: Sequence[Draft], items: Sequence[Item]
) -> Mapping[Draft, Mapping[str, tuple[Any, Any]]]:
    # Several drafts may have come to one contact: each changes what the one before it left.
    contacts = await lock(stage, drafts)
    changed: dict[Draft, Mapping[str, tuple[Any, Any]]] = {}
    for draft in drafts:
        before = contacts[draft.contact_id]
        after = copy_of(before) | draft.columns
        after["custom_fields"] |= draft.custom_fields
        if changes := differences(before, after):
            changed[draft] = changes
            contacts[draft.contact_id] = after | {"updated_at": stage.now}
    written = {draft.contact_id: contacts[draft.contact_id] for draft in changed}
    await write(stage, written.values())
    for item in items:
        item.contact.update(written.get(item.contact_id, {}))
    return changed


def _finish(stage: Stage, draft: Draft, changes: Mapping[str, tuple[Any, Any]]) -> Done:
    contact_id = draft.contact_id
    if draft.is_created:
        payload = {"contact_id": str(contact_id), "is_duplicate": draft.is_duplicate}
        stage.emit(draft.item, "contact_created", payload, contact_id=contact_id)
    changed = announce(stage, draft.item, contact_id, changes)
    return Done(
        {"contact_id": str(contact_id), "created": draft.is_created, "changed_fields": changed}
    )


# Contended: others queue up at its phone locks and e-mails, and it writes contacts that are not
# its items' own, which steps fused behind it would not see.
ACTION = ActionType(
    name="create_contact",
    family="crm",
    config=CreateContact,
    perform=perform,
    contended=True,
    gives={
        "contact_id": "the contact that was made or found",
        "created": "whether it is new",
        "changed_fields": "which of its fields changed",
    },
    emits=frozenset({"contact_created", "contact_updated"}),
    refers={"custom_fields{}": "custom_field"},
)
