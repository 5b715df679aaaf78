"""Rotation of keys: what older keys have sealed is sealed anew by the first one."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from actors.integrations import place_of
from runtime.database import create_pool, resolve_dsn
from runtime.house import House
from runtime.secrets import vault_of
from runtime.settings import Settings
from sql import load

queries = load("api_integrations")

INSTALMENT: Final = 200


async def seal_anew(house: House) -> int:
    """Seal all integrations' secrets with the first key; gives how many were sealed by others.

    An instalment is one commit, so that it can be broken off and begun again. VaultError when a
    secret's key is no longer among the keys: nothing of its instalment is changed then.
    """
    count, behind = 0, UUID(int=0)
    while True:
        async with house.pool.acquire() as db, db.transaction():
            rows = await db.fetch(queries.sealed_secrets, behind, INSTALMENT)
            if not rows:
                return count
            for row in rows:
                anew = _anew(house, row["account_id"], row["id"], row["secrets"])
                if anew:
                    await db.execute(queries.seal_anew, row["id"], {**row["secrets"], **anew})
                count += len(anew)
            behind = rows[-1]["id"]


def _anew(house: House, account_id: UUID, id_: UUID, secrets: dict[str, str]) -> dict[str, str]:
    places = {name: place_of(account_id, id_, name) for name in secrets}
    return {
        name: house.vault.seal(house.vault.open(sealed, places[name]), places[name])
        for name, sealed in secrets.items()
        if not house.vault.is_current(sealed)
    }


def rotate(settings: Settings) -> int:
    """Seal anew in the database that the settings name; gives how many secrets it was."""

    async def run() -> int:
        async with await create_pool(await resolve_dsn(settings), settings, size=1) as pool:
            return await seal_anew(House(pool, settings, vault_of(settings)))

    return asyncio.run(run())
