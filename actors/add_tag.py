"""add_tag: give the contact a tag, making the tag if the account has none of that name.

A name or a colour that cannot be used after rendering fails the step (tag_name_unusable,
tag_color_unusable), the colour also where the tag is there already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated
from uuid import UUID

from actors.fields import Config, MergeText, RequiredMergeText
from actors.literals import literal
from actors.rendered import each
from actors.tags import color_of, get_or_create, name_of
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("add_tag")

Wanted = tuple[str, str | None]
"""A tag's name and the colour that it has if it is new."""


class AddTag(Config):
    """The tag to give; the colour counts only when the tag is new."""

    tag_name: Annotated[RequiredMergeText, literal(name_of)]
    tag_color: Annotated[MergeText, literal(color_of)] | None = None


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Add the tags set-based; a contact that has its tag already keeps it, without an event."""
    wanted = each(items, _wanted)
    usable = [
        (item, *one) for item, one in zip(items, wanted, strict=True) if not isinstance(one, Failed)
    ]
    tags = await get_or_create(stage, {(i.account_id, name): color for i, name, color in usable})
    ids = {item.contact_id: tags[item.account_id, name] for item, name, _ in usable}
    added = await _add(stage, [item for item, _, _ in usable], ids)
    return [
        one
        if isinstance(one, Failed)
        else _finish(stage, item, one[0], ids[item.contact_id], is_new=item.contact_id in added)
        for item, one in zip(items, wanted, strict=True)
    ]


def _wanted(item: Item) -> Wanted:
    return name_of(item.values["tag_name"]), color_of(item.values["tag_color"])


async def _add(stage: Stage, items: Sequence[Item], ids: Mapping[UUID, UUID]) -> set[UUID]:
    """Write the pairs; gives the contacts for whom theirs is new."""
    rows = [(i.account_id, i.contact_id, ids[i.contact_id], i.step_id) for i in items]
    if not rows:
        return set()
    columns = zip(*rows, strict=True)
    new = await stage.db.fetch(queries.add_contact_tags, *map(list, columns), stage.now)
    return {row["contact_id"] for row in new}


def _finish(stage: Stage, item: Item, name: str, tag_id: UUID, *, is_new: bool) -> Done:
    told = {"tag_id": str(tag_id), "tag_name": name}
    if is_new:
        stage.emit(item, "tag_added", told)
        if "tags" in item.contact:
            item.contact["tags"] = sorted([*item.contact["tags"], name], key=str.lower)
    return Done({**told, "added": is_new})


ACTION = ActionType(
    name="add_tag",
    family="crm",
    config=AddTag,
    perform=perform,
    gives={"tag_id": "the tag", "tag_name": "its name", "added": "false if it was there"},
    emits=frozenset({"tag_added"}),
    refers={"tag_name": "tag"},
)
