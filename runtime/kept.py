"""What is read from the database again and again, kept for some seconds in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Gives what `read` gives for a key, at most `seconds` old; safe for many tasks at once.

    Of all that miss a key, one reads it. At most `most` keys are kept. What `read` raises is not
    kept.
    """

    def __init__(
        self, read: Callable[[Key], Awaitable[Value]], *, seconds: float, most: int
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._most = most
        self._kept: dict[Key, tuple[float, Value]] = {}
        self._reading: dict[Key, asyncio.Lock] = {}

    async def get(self, key: Key) -> Value:
        """Give the value, read if it is not fresh."""
        if (kept := self._fresh(key)) is not None:
            return kept[1]
        async with self._reading.setdefault(key, asyncio.Lock()):
            if (kept := self._fresh(key)) is not None:
                return kept[1]
            value = await self._read(key)
            if len(self._kept) >= self._most:
                self._kept.clear()
                self._reading = {one: lock for one, lock in self._reading.items() if lock.locked()}
            self._kept[key] = (time.monotonic() + self._seconds, value)
            return value

    def _fresh(self, key: Key) -> tuple[float, Value] | None:
        kept = self._kept.get(key)
        return kept if kept is not None and kept[0] > time.monotonic() else None
