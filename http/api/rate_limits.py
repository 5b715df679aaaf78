"""How many requests a token may make, and an address without a token: GCRA in this process.

Limits hold per API process: two processes let twice as many through. That costs nothing per request
and needs no database, which is what the limit is there to protect.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.problems import Problem

MOST_KEYS = 10_000
"""Keys that are remembered; beyond them the one that asked longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key stands after a request: refused or not, what is left, when more is."""

    is_refused: bool
    remaining: int
    wait: float
    """Seconds until a refused request would be let through, else until the full burst is back."""


class RateLimit:
    """Lets `burst` requests of a key through at once, and `per_second` in the long run.

    The headers are those of draft-ietf-httpapi-ratelimit-headers: a quota of `burst` in the window
    in which the burst fills up again.
    """

    def __init__(
        self,
        name: str,
        per_second: float,
        burst: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_on = per_second > 0
        self._name = name
        self._burst = burst
        self._pause = 1 / per_second if self.is_on else 0.0
        self._now = now
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> Standing:
        """Count one request of a key. A refused one costs nothing."""
        now = self._now()
        full_at = max(now, self._full_at.get(key, now))
        wait = full_at + self._pause - now - self._burst * self._pause
        if wait > self._pause * 1e-6:  # a rounding error refuses nobody
            return Standing(True, 0, wait)
        self._full_at[key] = full_at + self._pause
        self._full_at.move_to_end(key)
        if len(self._full_at) > MOST_KEYS:
            self._full_at.popitem(last=False)
        used = full_at + self._pause - now
        return Standing(False, int(self._burst - used / self._pause + 1e-6), used)

    def look(self, key: str) -> Standing:
        """Say how a key stands, counting nothing."""
        now = self._now()
        used = max(0.0, self._full_at.get(key, now) - now)
        wait = used + self._pause - self._burst * self._pause
        if wait > self._pause * 1e-6:
            return Standing(True, 0, wait)
        return Standing(False, int(self._burst - used / self._pause + 1e-6), used)

    def headers(self, standing: Standing) -> Mapping[str, str]:
        """Write the standing as `RateLimit` and `RateLimit-Policy`."""
        window = max(1, math.ceil(self._burst * self._pause))
        return {
            "RateLimit-Policy": f'"{self._name}";q={self._burst};w={window}',
            "RateLimit": f'"{self._name}";r={standing.remaining};t={math.ceil(standing.wait)}',
        }

    def refusal(self, standing: Standing) -> Problem:
        """Build the 429 Problem, which says when to come again."""
        wait = max(1, math.ceil(standing.wait))
        headers = {**self.headers(standing), "Retry-After": str(wait)}
        return Problem(429, "rate_limited", f"Too many requests; wait {wait} s.", headers=headers)
