"""Keeping the parts of a worker running: what stops or crashes is started again, with backoff."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
# A part that ran for this long was healthy: its next stop counts as its first.
HEALTHY_SECONDS: Final = 30.0
LONGEST_STOP: Final = 60.0


class Supervisor:
    """Runs named parts until they are stopped; a part that ends, however it ends, begins again."""

    def __init__(self) -> None:
        self._parts: dict[str, asyncio.Task[None]] = {}
        self.restarts: dict[str, int] = {}

    def start(self, name: str, part: Callable[[], Awaitable[object]]) -> None:
        """Start a part under supervision."""
        self._parts[name] = asyncio.create_task(self._keep_running(name, part), name=name)

    async def _keep_running(self, name: str, part: Callable[[], Awaitable[object]]) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await part()
                log.warning("part.stopped", part=name)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                log.warning("part.cancelled_itself", part=name)
            except Exception as error:  # noqa: BLE001 - whatever it raised, it begins again
                log.warning("part.crashed", part=name, error=repr(error)[:200])
            self.restarts[name] = self.restarts.get(name, 0) + 1
            if time.monotonic() - began > HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            # Jitter, so that a restarted database is not met by all workers at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE)

    async def stop(self, *names: str) -> None:
        """Stop parts (default: all) and wait until they have."""
        chosen = names or tuple(self._parts)
        parts = [self._parts.pop(name) for name in chosen if name in self._parts]
        for part in parts:
            part.cancel()
        if parts:
            # A part that hangs on a dead network is left behind: the process is about to end.
            await asyncio.wait(parts, timeout=LONGEST_STOP)
