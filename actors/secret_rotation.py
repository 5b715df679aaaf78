"""Rotation of keys: what older keys have sealed is sealed anew by the first one."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from runtime.database import create_pool, resolve_dsn
from runtime.house import House
from runtime.link_keys import retire
from runtime.secrets import vault_of
from runtime.settings import Settings
from sql import load

queries = load("secret_rotation")

INSTALMENT: Final = 200

# Each with the table that its secrets were sealed for: versions hold copies of their actions'.
TABLES: Final = tuple(
    (name, place, getattr(queries, name), getattr(queries, f"keep_{name}"))
    for name, place in (
        ("integrations", "integrations"),
        ("webhook_secrets", "webhook_secrets"),
        ("link_keys", "link_keys"),
        ("workflow_actions", "workflow_actions"),
        ("workflow_version_actions", "workflow_actions"),
    )
)


async def seal_anew(house: House) -> int:
    """Seal all secrets with the first key; gives how many were sealed by others.

    An instalment is one commit, so that it can be broken off and begun again. VaultError when a
    secret's key is no longer among the keys: nothing of its instalment is changed then. Links that
    older keys have signed go on working: see runtime.link_keys.
    """
    async with house.pool.acquire() as db, db.transaction():
        await retire(db, house)
    return sum([await _of_table(house, *table) for table in TABLES])


async def _of_table(house: House, name: str, place: str, find: str, keep: str) -> int:
    count, behind = 0, UUID(int=0)
    while True:
        async with house.pool.acquire() as db, db.transaction():
            rows = await db.fetch(find, behind, INSTALMENT)
            if not rows:
                return count
            for row in rows:
                anew = _anew(house, f"{row['account_id']}:{place}:{row['id']}", row["sealed"])
                version = [row["version_id"]] if name == "workflow_version_actions" else []
                if anew:
                    await db.execute(keep, row["id"], anew, *version)
                count += len(anew)
            behind = rows[-1]["id"]


def _anew(house: House, place: str, secrets: dict[str, str]) -> dict[str, str]:
    return {
        name: house.vault.seal(house.vault.open(sealed, f"{place}:{name}"), f"{place}:{name}")
        for name, sealed in secrets.items()
        if not house.vault.is_current(sealed)
    }


def rotate(settings: Settings) -> int:
    """Seal anew in the database that the settings name; gives how many secrets it was."""

    async def run() -> int:
        async with await create_pool(await resolve_dsn(settings), settings, size=1) as pool:
            return await seal_anew(House(pool, settings, vault_of(settings)))

    return asyncio.run(run())
