"""Integrations as senders use them: found by address, read with their secrets opened.

What is read is kept for a few seconds in each process, so that a thousand sends cost one read;
a change takes effect everywhere within `KEPT_SECONDS`. That an integration was disabled is
looked at anew before each dispatch (see message_permission).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg

from actors.integration_kinds import domain_of
from runtime.database import Connection
from runtime.house import House
from runtime.kept import Kept
from runtime.stage import Stage
from sql import load

queries = load("integrations")

KEPT_SECONDS: Final = 5.0
MOST_KEPT: Final = 1000

SenderKey = tuple[UUID, str, str]
"""Account, kind of integration (smtp, twilio, facebook) and normalised address."""


@dataclass(frozen=True, slots=True)
class Integration:
    """One integration, with its secrets opened. Never show or log `secrets`.

    `settings` are as stored, see integration_kinds for the models; `address` is the first of
    `addresses` that is no domain. `is_test`: its account only records, see test_mode.
    """

    id: UUID
    account_id: UUID
    kind: str
    name: str
    address: str | None
    addresses: tuple[str, ...]
    settings: Mapping[str, Any]
    is_test: bool
    is_disabled: bool
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Sender:
    """What an action needs to know of the integration that it sends by."""

    integration_id: UUID
    address: str
    is_disabled: bool = False


class Integrations:
    """Reads integrations for the sends of one process; safe to be used by many tasks at once."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._kept = Kept(self._read, seconds=KEPT_SECONDS, most=MOST_KEPT)

    async def get(self, integration_id: UUID) -> Integration | None:
        """Give an integration; None when there is none, or it was removed.

        VaultError when its secrets cannot be opened with the keys of this process.
        """
        return await self._kept.get(integration_id)

    async def _read(self, integration_id: UUID) -> Integration | None:
        row = await self._house.pool.fetchrow(queries.integration, integration_id)
        return None if row is None or row["is_deleted"] else opened(row, self._house)


def place_of(account_id: UUID, integration_id: UUID, name: str) -> str:
    """The place that a secret of an integration is sealed for."""
    return f"{account_id}:integrations:{integration_id}:{name}"


def opened(row: asyncpg.Record, house: House) -> Integration:
    """An integration from its row (`queries.integration`), with its secrets opened."""
    addresses = tuple(row["addresses"])
    secrets = {
        name: house.vault.open(sealed, place_of(row["account_id"], row["id"], name))
        for name, sealed in row["secrets"].items()
    }
    return Integration(
        id=row["id"],
        account_id=row["account_id"],
        kind=row["kind"],
        name=row["name"],
        address=next((a for a in addresses if not a.startswith("@")), None),
        addresses=addresses,
        settings=row["settings"],
        is_test=row["is_test"],
        is_disabled=row["is_disabled"],
        secrets=secrets,
    )


async def find_senders(stage: Stage, wanted: Sequence[SenderKey]) -> dict[SenderKey, Sender]:
    """Find the integrations that own these addresses; one statement, none when nothing is wanted.

    Addresses must be normalised (`normalize_address`); a page is wanted by its integration's id,
    written as text. What no integration owns is left out.
    """
    keys = list(dict.fromkeys(wanted))
    if not keys:
        return {}
    rows = await stage.db.fetch(
        queries.find_senders,
        [account_id for account_id, _, _ in keys],
        [kind for _, kind, _ in keys],
        [address for _, _, address in keys],
        [domain_of(address) for _, _, address in keys],
        [_id_of(address) for _, _, address in keys],
    )
    return {
        key: Sender(row["id"], key[2], row["is_disabled"])
        for row in rows
        if (key := keys[row["place"] - 1])
    }


def _id_of(address: str) -> UUID | None:
    try:
        return UUID(address)
    except ValueError:
        return None


async def default_senders(
    db: Connection, account_ids: Collection[UUID], kinds: Collection[str]
) -> Mapping[tuple[UUID, str], Sender]:
    """The senders of what names none, such as notices: the oldest enabled ones."""
    if not kinds:
        return {}
    rows = await db.fetch(queries.default_senders, list(account_ids), list(kinds))
    return {(row["account_id"], row["kind"]): Sender(row["id"], row["address"]) for row in rows}
