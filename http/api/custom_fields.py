"""Custom fields of contacts: defined, relabelled, given other options or another type.

What contacts hold always fits the definition. A change of type or options is refused unless every
value that is held can be read by the new definition; they are then brought to its form. Deleting
a field that is held needs `force`, and takes the values along.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from aiohttp import web
from pydantic import Field, StringConstraints

from actors.custom_fields import CustomField, to_field
from actors.rendered import UnusableError
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call
from api.contact_rows import queries as contact_queries
from api.fields import Key, left_out
from api.lists import List, Page
from api.problems import Problem, conflict, invalid
from api.resources import Handlers, Resource, Values, routes_of
from api.shown import Shown
from api.uses import Force
from runtime import clock
from runtime.configuration import Fault
from runtime.database import Connection
from sql import load

queries = load("api_custom_fields")

MOST_VALUES: Final = 10_000
_CHOICES: Final = {"choice", "multi_choice"}

FieldType = Literal["text", "number", "boolean", "date", "datetime", "choice", "multi_choice"]
Label = Annotated[str, Field(max_length=200)]
Option = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
Options = Annotated[list[Option], Field(max_length=500)]


class NewCustomField(Body):
    """A custom field to be; the key is what merge fields name it by and never changes."""

    key: Key
    label: Label = ""
    field_type: FieldType = "text"
    options: Options = Field(default_factory=list)


class CustomFieldChange(Body):
    """What is to be different; the key is not among it."""

    label: Label = left_out()
    field_type: FieldType = left_out()
    options: Options = left_out()


class CustomFieldPage(Page):
    """Which custom fields to list."""

    field_type: FieldType | None = None


class ShownCustomField(Shown):
    """A custom field; choices are made from its options."""

    id: UUID
    key: str
    label: str
    field_type: FieldType
    options: list[str]
    created_at: datetime
    updated_at: datetime


async def _check(call: Call, db: Connection, before: Values | None, after: dict[str, Any]) -> None:
    _check_options(after)
    shape = ("field_type", "options")
    if before and any(before[name] != after[name] for name in shape):
        await _bring_values(call, db, after)


def _check_options(after: Values) -> None:
    options = [option.casefold() for option in after["options"]]
    if bool(options) != (after["field_type"] in _CHOICES):
        message = "Choices need options, and other types have none."
        raise invalid(Fault("options", "options_unusable", message))
    if len(set(options)) < len(options):
        raise invalid(Fault("options", "options_unusable", "Two options differ in case at most."))


async def _bring_values(call: Call, db: Connection, after: Values) -> None:
    """Read all values that are held by the new definition, and write those that it writes else."""
    field = CustomField(after["key"], after["field_type"], tuple(after["options"]))
    account = await db.fetchrow(contact_queries.account, call.account_id)
    assert account is not None
    rows = await db.fetch(queries.held_values, call.account_id, field.key, MOST_VALUES + 1)
    if len(rows) > MOST_VALUES:
        raise _unfit(f"More than {MOST_VALUES:,} different values are held.")
    zone = ZoneInfo(account["time_zone"])
    pairs = [(row["value"], _read(field, row["value"], zone)) for row in rows]
    different = [(old, new) for old, new in pairs if (type(old), old) != (type(new), new)]
    if different:
        old, new = (list(column) for column in zip(*different, strict=True))
        now = await clock.current_instant(db)
        await db.execute(queries.rewrite_values, call.account_id, field.key, old, new, now)


def _read(field: CustomField, value: Any, zone: ZoneInfo) -> Any:
    try:
        read = to_field(field, value, zone)
    except UnusableError:
        read = None
    if read is None:
        raise _unfit("Contacts hold values that would not fit.")
    return read


def _unfit(message: str) -> Problem:
    return conflict("values_do_not_fit", message)


async def _spare_values(call: Call, db: Connection, before: dict[str, Any]) -> None:
    if call.parameters(Force).force:
        now = await clock.current_instant(db)
        await db.execute(queries.drop_values, call.account_id, before["key"], now)
    elif await db.fetch(queries.held_values, call.account_id, before["key"], 1):
        message = "Contacts hold values of this field; force=true deletes them with it."
        raise conflict("custom_field_in_use", message)


CUSTOM_FIELDS: Final = Resource(
    "custom_field",
    "/api/v1/custom-fields",
    queries,
    ("key", "label", "field_type", "options"),
    taken={"custom_field_key_is_unique_in_account": "key"},
    check=_check,
    spare=_spare_values,
    referred_by="key",
)
LIST: Final = List(queries.custom_fields, ShownCustomField, "key")


async def create(call: Call) -> web.Response:
    """Define a custom field; a 409 Problem if the account has one of this key."""
    return await CUSTOM_FIELDS.create(call, await call.body(NewCustomField))


async def list_all(call: Call) -> web.Response:
    """List custom fields; sorts: key, created_at."""
    return answer(await LIST.page(call.pool, call.parameters(CustomFieldPage), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one custom field."""
    return await CUSTOM_FIELDS.read(call)


async def change(call: Call) -> web.Response:
    """Change a custom field; a 409 Problem if values that contacts hold would not fit."""
    return await CUSTOM_FIELDS.change(call, await call.body(CustomFieldChange))


async def delete(call: Call) -> web.Response:
    """Delete a custom field; with values, which go along, only by force."""
    return await CUSTOM_FIELDS.delete(call)


ROUTES: Final = routes_of(
    CUSTOM_FIELDS,
    Permission.EDIT_SETTINGS,
    Handlers(
        create, list_all, read, change, delete,
        NewCustomField, CustomFieldPage, CustomFieldChange,
    ),
    ShownCustomField,
)  # fmt: skip
