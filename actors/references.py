"""References to rows by id, written into a config or given by merge fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from actors.addresses import has_merge_fields
from actors.fields import MERGE_FIELDS, template
from actors.rendered import UnusableError
from runtime.stage import Stage
from sql import load

queries = load("references")

AccountAndId = tuple[UUID, UUID]
User = Mapping[str, Any]
"""What merge fields can name of a user: id, name, email."""


def _id_or_merge_fields(value: UUID | str) -> UUID | str:
    if isinstance(value, UUID):
        return value
    if not has_merge_fields(value):
        raise PydanticCustomError("uuid", "an id must be a UUID or merge fields that give one")
    return template(value)


MergeId = Annotated[
    UUID | Annotated[str, Field(json_schema_extra=MERGE_FIELDS)],
    Field(union_mode="left_to_right"),
    # Not inside of the union, whose members' names would stand in the paths of errors.
    AfterValidator(_id_or_merge_fields),
]
"""An id, or merge fields that give one, such as {{steps.create_opportunity.opportunity_id}}."""


def id_of(value: UUID | str | None, field: str) -> UUID | None:
    """Read a rendered id; None when nothing was rendered. UnusableError: reference_unusable."""
    if value is None or isinstance(value, UUID):
        return value
    try:
        return UUID(value.strip()) if value.strip() else None
    except ValueError:
        raise UnusableError("reference_unusable", f"{field} is no UUID after rendering") from None


async def find_users(stage: Stage, wanted: Iterable[AccountAndId]) -> dict[AccountAndId, User]:
    """Find those of these (account, user) pairs that exist; asks nothing when none is wanted."""
    pairs = sorted(set(wanted))
    if not pairs:
        return {}
    rows = await stage.db.fetch(queries.find_users, *zip(*pairs, strict=True))
    return {
        (row["account_id"], row["id"]): {name: row[name] for name in ("id", "name", "email")}
        for row in rows
    }
