"""Tags by name, made when missing: shared by the actions that speak of tags by their names."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from runtime.stage import Stage
from sql import load

queries = load("tags")


async def get_or_create(
    stage: Stage, wanted: Mapping[tuple[UUID, str], str | None]
) -> dict[tuple[UUID, str], UUID]:
    """Find the ids of tags by (account, lower-case name), making those that are missing.

    `wanted` maps (account, name) to the colour of a new tag. New tags are made outside the
    batch's transaction, in the order of their names: many contacts share them, and no lock on
    them may last until the batch commits.
    """
    if not wanted:
        return {}
    unique = {(account, name.lower()): (name, color) for (account, name), color in wanted.items()}
    keys = sorted(unique)
    accounts, names = [k[0] for k in keys], [k[1] for k in keys]
    found = {
        (row["account_id"], row["name"]): row["id"]
        for row in await stage.db.fetch(queries.find_tags, accounts, names)
    }
    missing = [key for key in keys if key not in found]
    if missing:
        made = await stage.outside(
            queries.make_tags,
            [k[0] for k in missing],
            [unique[k][0] for k in missing],
            [unique[k][1] for k in missing],
        )
        found |= {(row["account_id"], row["name"]): row["id"] for row in made}
    return found
