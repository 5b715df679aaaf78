"""add_tag: give the contact a tag, making the tag if the account has none of that name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from pydantic import Field

from actors.fields import Config, RequiredMergeText
from actors.tags import get_or_create
from runtime.failures import Failure, Kind
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("add_tag")

LONGEST_NAME = 100


class AddTag(Config):
    """The tag to give; the colour counts only when the tag is new."""

    tag_name: RequiredMergeText
    tag_color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None = None


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Add the tags set-based; a contact that has its tag already keeps it, without an event."""
    names = [str(item.values["tag_name"]).strip() for item in items]
    wanted = {
        (item.account_id, name): item.values["tag_color"]
        for item, name in zip(items, names, strict=True)
        if 0 < len(name) <= LONGEST_NAME
    }
    tags = await get_or_create(stage, wanted)
    ids = [tags.get((i.account_id, name)) for i, name in zip(items, names, strict=True)]
    added = await _add(stage, items, ids)
    return [
        _outcome(stage, item, name, tag_id, is_new=item.contact_id in added)
        for item, name, tag_id in zip(items, names, ids, strict=True)
    ]


async def _add(stage: Stage, items: Sequence[Item], ids: Sequence[UUID | None]) -> set[UUID]:
    """Write the pairs; gives the contacts for whom theirs is new."""
    rows = [
        (item.account_id, item.contact_id, tag_id, item.step_id)
        for item, tag_id in zip(items, ids, strict=True)
        if tag_id is not None
    ]
    if not rows:
        return set()
    columns = zip(*rows, strict=True)
    new = await stage.db.fetch(queries.add_contact_tags, *map(list, columns), stage.now)
    return {row["contact_id"] for row in new}


def _outcome(stage: Stage, item: Item, name: str, tag_id: UUID | None, *, is_new: bool) -> Outcome:
    if tag_id is None:
        message = f"a tag name has 1 to {LONGEST_NAME} characters after rendering, not {len(name)}"
        return Failed(Failure(Kind.INVALID_CONFIG, "tag_name_unusable", message))
    told = {"tag_id": str(tag_id), "tag_name": name}
    if is_new:
        stage.emit(item, "tag_added", told)
        if "tags" in item.contact:
            item.contact["tags"] = sorted([*item.contact["tags"], name], key=str.lower)
    return Done({**told, "added": is_new})


ACTION = ActionType(name="add_tag", family="crm", config=AddTag, perform=perform)
