"""add_tag: give the contact a tag, making the tag if the account has none of that name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

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
    usable = [bool(name) and len(name) <= LONGEST_NAME for name in names]
    tags = await get_or_create(
        stage,
        {
            (item.account_id, name): item.values["tag_color"]
            for item, name, ok in zip(items, names, usable, strict=True)
            if ok
        },
    )
    ids = [tags.get((i.account_id, n.lower())) for i, n in zip(items, names, strict=True)]
    rows = [(i.account_id, i.contact_id, t, i.step_id) for i, t in zip(items, ids, strict=True) if t]
    added = {
        (row["contact_id"], row["tag_id"])
        for row in await stage.db.fetch(queries.add_contact_tags, *zip(*rows, strict=True), stage.now)
    } if rows else set()

    outcomes: list[Outcome] = []
    for item, name, tag_id in zip(items, names, ids, strict=True):
        if tag_id is None:
            message = f"a tag name has 1 to {LONGEST_NAME} characters after rendering, not {len(name)}"
            outcomes.append(Failed(Failure(Kind.INVALID_CONFIG, "tag_name_unusable", message)))
            continue
        is_new = (item.contact_id, tag_id) in added
        result = {"tag_id": str(tag_id), "tag_name": name, "added": is_new}
        if is_new:
            stage.emit(item, "tag_added", {"tag_id": str(tag_id), "tag_name": name})
        outcomes.append(Done(result))
    return outcomes


ACTION = ActionType(name="add_tag", family="crm", config=AddTag, perform=perform)
