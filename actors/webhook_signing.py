"""Signatures of webhooks by the Standard Webhooks scheme (standardwebhooks.com, version 1).

An account's secret is made when it is first needed. While it is being replaced, the old and the
new one both sign, so that receivers can change over without losing a call.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
from standardwebhooks.webhooks import Webhook

from runtime.database import Connection
from runtime.house import House
from runtime.ids import new_id
from runtime.kept import Kept
from runtime.secrets import VaultError
from sql import load

queries = load("webhooks")

OVERLAP: Final = timedelta(hours=24)
FRESH_SECONDS: Final = 5.0
MOST_KNOWN: Final = 1_000

_SECRET_BYTES: Final = 32  # the scheme asks for 24 to 64


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret as its receiver is given it (`whsec_…`), and until when it signs (None: current)."""

    text: str
    created_at: datetime
    retires_at: datetime | None


async def secrets_of(house: House, account_id: UUID) -> list[SigningSecret]:
    """Give the secrets that sign now, the current one first; the first is made if there is none.

    VaultError if they cannot be opened, or if there is no key to seal one with.
    """
    if found := await known_secrets(house, account_id):
        return found
    await _add(house, house.pool, account_id)
    return await known_secrets(house, account_id)


async def known_secrets(house: House, account_id: UUID) -> list[SigningSecret]:
    """The same, but none is made. VaultError if they cannot be opened."""
    rows = await house.pool.fetch(queries.signing_secrets, account_id)
    return [
        SigningSecret(
            house.vault.open(row["sealed"], _place(account_id, row["id"])),
            row["created_at"],
            row["retires_at"],
        )
        for row in rows
    ]


async def rotate(house: House, db: Connection, account_id: UUID) -> None:
    """Replace the current secret, in the caller's transaction; the old one signs for a day more."""
    await db.execute(queries.retire_secret, account_id, OVERLAP)
    await _add(house, db, account_id)


async def _add(house: House, db: Connection | asyncpg.Pool, account_id: UUID) -> None:
    secret_id = new_id()
    text = "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    sealed = house.vault.seal(text, _place(account_id, secret_id))
    await db.execute(queries.add_first_secret, secret_id, account_id, sealed)


def _place(account_id: UUID, secret_id: UUID) -> str:
    return f"{account_id}:webhook_secrets:{secret_id}:sealed"


class Signer:
    """Signs requests; keeps secrets in memory for some seconds, so that a rotation takes effect."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._signers = Kept(self._read, seconds=FRESH_SECONDS, most=MOST_KNOWN)

    async def headers(self, account_id: UUID, message_id: str, body: bytes) -> Mapping[str, str]:
        """Give webhook-id, webhook-timestamp and webhook-signature for a body.

        The id is the same on every attempt, the timestamp is this one's. Without a key to seal
        secrets with (CALLBOARD_SECRET_KEYS) there is no signature.
        """
        signers = await self._signers.get(account_id)
        at = datetime.now(UTC)
        headers = {"webhook-id": message_id, "webhook-timestamp": str(int(at.timestamp()))}
        text = body.decode()
        signatures = [signer.sign(message_id, at, text) for signer in signers]
        return {**headers, "webhook-signature": " ".join(signatures)} if signatures else headers

    async def _read(self, account_id: UUID) -> Sequence[Webhook]:
        try:
            found = await secrets_of(self._house, account_id)
        except VaultError:
            return []
        return [Webhook(secret.text) for secret in found]
