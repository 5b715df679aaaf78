"""Tags by name, made when missing: shared by the actions that speak of tags by their names."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from runtime.stage import Stage
from sql import load

queries = load("tags")

TagKey = tuple[UUID, str]
"""Account and name as given; which names are the same tag is PostgreSQL's to say."""


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
