"""How often a loop of batches may be at it while each of its batches is small.

A batch costs almost as much for one item as for fifty. Where many pools share few cores, each would
take what has just come, one by one, and all of them together get less done the more there is to do.
So who finds little rests, and finds more the next time: rarely at it, a loop never waits; at it all
the time with small batches, it works for a tenth of the time. Large batches are never kept back.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

SHARE: Final = 0.1
"""Of the time, for small batches."""
CREDIT_SECONDS: Final = 0.5
"""How long small batches may go on without a rest, after a quiet time."""
QUICK_SECONDS: Final = 0.015
"""So much of each small batch is free: it takes no longer while there are cores to spare."""
LONGEST_REST: Final = 0.3


class Pace:
    """Counts the time that small batches take, and says when to rest."""

    def __init__(self) -> None:
        self._credit = CREDIT_SECONDS
        self._counted_at = time.monotonic()

    async def rest(self) -> None:
        """Rest if it is time to, for LONGEST_REST at most."""
        self._earn()
        if self._credit < 0:
            await asyncio.sleep(min(-self._credit / SHARE, LONGEST_REST))

    def spend(self, began: float, *, is_small: bool) -> None:
        """Count a batch that began at an instant of the monotonic clock and has just ended."""
        self._earn()
        if is_small:
            self._credit -= max(0.0, time.monotonic() - began - QUICK_SECONDS)

    def _earn(self) -> None:
        now = time.monotonic()
        self._credit = min(CREDIT_SECONDS, self._credit + SHARE * (now - self._counted_at))
        self._counted_at = now
