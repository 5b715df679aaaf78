"""What verifies links in messages: the keys in use, and those that were taken out of use.

A link lives longer than the key that it was signed with: who got the mail may unsubscribe years
later. `secrets rotate` keeps what verifies the links of older keys (see `retire`), sealed by the
key in use; what is kept is derived from an older key and opens nothing that it has sealed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from runtime.clock import current_instant
from runtime.database import Connection
from runtime.house import House
from runtime.ids import new_id
from runtime.secrets import VaultError
from sql import load

queries = load("link_keys")

KEPT_SECONDS: Final = 60.0

Read = TypeVar("Read")


def place_of(row_id: object) -> str:
    """The place that a kept key is sealed for."""
    return f"house:link_keys:{row_id}:sealed"


@dataclass
class LinkKeys:
    """Verifies links for one process; asks the database once a minute, however many are forged."""

    house: House
    _retired: Sequence[bytes] = ()
    _fresh_until: float = 0.0
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, reader: Callable[[Sequence[bytes]], Read | None]) -> Read | None:
        """Give what `reader` makes of a link by these keys, the ones in use first; else None."""
        found = reader(self.house.vault.link_keys)
        if found is not None:
            return found
        async with self._reading:
            if self._fresh_until <= time.monotonic():
                self._retired = await self._read_retired()
                self._fresh_until = time.monotonic() + KEPT_SECONDS
        return reader(self._retired) if self._retired else None

    async def _read_retired(self) -> Sequence[bytes]:
        keys = []
        for row in await self.house.pool.fetch(queries.link_keys):
            with suppress(VaultError):  # its key was taken away without a rotation
                key = self.house.vault.open(row["sealed"], place_of(row["id"]))
                keys.append(bytes.fromhex(key))
        return keys


async def retire(db: Connection, house: House) -> None:
    """Keep what verifies the links of all keys but the first; those that are kept stay."""
    now = await current_instant(db)
    for key in house.vault.link_keys[1:]:
        id_ = new_id()
        sealed = house.vault.seal(key.hex(), place_of(id_))
        await db.execute(queries.keep_link_key, id_, hashlib.sha256(key).digest(), sealed, now)
