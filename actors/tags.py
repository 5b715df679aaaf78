"""Tags by name, made when missing: shared by the actions that speak of tags by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from actors.colors import is_color
from actors.rendered import UnusableError
from runtime.stage import Stage
from sql import load

queries = load("tags")

LONGEST_NAME: Final = 100

TagKey = tuple[UUID, str]
"""Account and name as given; which names are the same tag is PostgreSQL's to say."""


def name_of(text: str) -> str:
    """Check the name of a tag that may have to be made; UnusableError: tag_name_unusable."""
    name = text.strip()
    if not 0 < len(name) <= LONGEST_NAME:
        message = f"a tag name has 1 to {LONGEST_NAME} characters after rendering, not {len(name)}"
        raise UnusableError("tag_name_unusable", message)
    return name


def color_of(text: str | None) -> str | None:
    """Check a tag's colour; None when nothing is left. UnusableError: tag_color_unusable."""
    color = (text or "").strip()
    if color and not is_color(color):
        message = "a tag's colour is #rgb, #rrggbb or a colour name of CSS"
        raise UnusableError("tag_color_unusable", message)
    return color or None


async def get_or_create(stage: Stage, wanted: Mapping[TagKey, str | None]) -> dict[TagKey, UUID]:
    """Find the ids of tags by account and name, making those that are missing.

    `wanted` maps (account, name) to the colour of a new tag. New tags are made outside the
    batch's transaction, in one order: many contacts share them, and no lock on them may last
    until the batch commits.
    """
    keys = sorted(wanted)
    found = await _find(stage, keys)
    missing = [key for key in keys if key not in found]
    if missing:
        colors = [wanted[key] for key in missing]
        await stage.outside(queries.make_tags, *_columns(missing), colors)
        found |= await _find(stage, missing)
    return found


async def _find(stage: Stage, keys: list[TagKey]) -> dict[TagKey, UUID]:
    rows = await stage.db.fetch(queries.find_tags, *_columns(keys)) if keys else []
    return {(row["account_id"], row["wanted_name"]): row["id"] for row in rows}


def _columns(keys: list[TagKey]) -> tuple[list[UUID], list[str]]:
    return [account for account, _ in keys], [name for _, name in keys]
