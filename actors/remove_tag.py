"""remove_tag: take a tag off the contact.

A contact without the tag, an account without such a tag, a name that renders empty: none of these
stops the workflow (requirement R3.4). The step is completed with `removed` false, without event.
"""

from __future__ import annotations

from collections.abc import Sequence

from actors.fields import Config, RequiredMergeText
from runtime.outcomes import Done, Outcome
from runtime.registry import ActionType
from runtime.stage import Contact, Item, Stage
from sql import load

queries = load("remove_tag")


class RemoveTag(Config):
    """The tag to take off, by its name in any case."""

    tag_name: RequiredMergeText


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Take the tags off in one statement; the tags themselves stay."""
    names = [str(item.values["tag_name"]).strip() for item in items]
    rows = await stage.db.fetch(
        queries.remove_contact_tags,
        [item.account_id for item in items],
        [item.contact_id for item in items],
        names,
    )
    removed = {row["contact_id"]: str(row["tag_id"]) for row in rows}
    outcomes = []
    for item, name in zip(items, names, strict=True):
        tag_id = removed.get(item.contact_id)
        if tag_id is not None:
            stage.emit(item, "tag_removed", {"tag_id": tag_id, "tag_name": name})
            _forget(item.contact, name)
        outcomes.append(Done({"tag_name": name, "tag_id": tag_id, "removed": tag_id is not None}))
    return outcomes


def _forget(contact: Contact, name: str) -> None:
    # Loaded only when merge fields of the workflow name it.
    if "tags" in contact:
        contact["tags"] = [tag for tag in contact["tags"] if tag.lower() != name.lower()]


ACTION = ActionType(
    name="remove_tag",
    family="crm",
    config=RemoveTag,
    perform=perform,
    gives={
        "tag_id": "the tag, if there is one",
        "tag_name": "its name",
        "removed": "false if it was not there",
    },
    emits=frozenset({"tag_removed"}),
    refers={"tag_name": "tag"},
)
