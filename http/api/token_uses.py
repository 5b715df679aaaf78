"""When tokens were last used: to the minute, written beside the requests and not within them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

import asyncpg

from runtime import log
from sql import load

queries = load("access")
logger = log.get(__name__)

SECONDS = 60.0
MOST_TOKENS = 10_000


class TokenUses:
    """Writes each token's use at most once a minute; a use that cannot be written is let go."""

    def __init__(self, pool: asyncpg.Pool, now: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._now = now
        self._noted: OrderedDict[UUID, float] = OrderedDict()
        self._new: set[UUID] = set()
        self._writing: asyncio.Task[None] | None = None

    def note(self, token_id: UUID) -> None:
        """Take down that a token was used; costs a look into a dictionary."""
        now = self._now()
        if now - self._noted.get(token_id, -SECONDS) < SECONDS:
            return
        self._noted[token_id] = now
        self._noted.move_to_end(token_id)
        if len(self._noted) > MOST_TOKENS:
            self._noted.popitem(last=False)
        self._new.add(token_id)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def written(self) -> None:
        """Wait until everything noted so far is written."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._new:
            ids, self._new = list(self._new), set()
            try:
                await self._pool.execute(queries.note_use, ids)
            except Exception:  # nobody's request may suffer for it
                logger.warning("token.use_not_noted", exc_info=True)
