"""Failures are values: what went wrong, whether trying again can help, and how often.

The table is requirement R7.2 of the specification; the backoff figures are DESIGN.md's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The kinds of error that the retry table knows."""

    NETWORK_TIMEOUT = "network_timeout"
    RATE_LIMIT = "rate_limit"
    SERVICE_UNAVAILABLE = "service_unavailable"
    INVALID_CONFIG = "invalid_config"
    AUTHENTICATION = "authentication"
    REFUSED = "refused"
    UNKNOWN_OUTCOME = "unknown_outcome"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step or an effect did not succeed.

    `code` is stable and documented, `message` is for people and holds no secret and no personal
    data, `retry_after` is the other side's own word on when to come back. `most_retries` stands
    instead of the table's figure, over all kinds together; it makes nothing retryable.
    """

    kind: Kind
    code: str
    message: str
    retry_after: timedelta | None = None
    most_retries: int | None = None

    @property
    def retryable(self) -> bool:
        """Whether the retry table has any retry for this kind."""
        return MAX_RETRIES[self.kind] > 0


MAX_RETRIES: Final[dict[Kind, int]] = {
    Kind.NETWORK_TIMEOUT: 3,
    Kind.RATE_LIMIT: 5,
    Kind.SERVICE_UNAVAILABLE: 3,
    Kind.INVALID_CONFIG: 0,
    Kind.AUTHENTICATION: 0,
    Kind.REFUSED: 0,
    Kind.UNKNOWN_OUTCOME: 0,
    Kind.INTERNAL: 0,
}

FIRST_DELAY: Final = timedelta(seconds=2)
LONGEST_DELAY: Final = timedelta(minutes=5)
RATE_LIMIT_STEP: Final = timedelta(seconds=5)
# A provider may ask for hours; past this the wait is a misconfiguration, not a limit.
LONGEST_RETRY_AFTER: Final = timedelta(hours=24)


def backoff(
    failure: Failure, retries_so_far: int, jitter: Callable[[], float] = random.random
) -> timedelta | None:
    """How long to wait before the next try, or None when there is none.

    `retries_so_far` counts retries of this kind only, or of all where the failure says how many
    there may be. Exponential kinds: full jitter below
    2 s x 2^n, capped at 5 min. Rate limits: the larger of Retry-After and n x 5 s, where n is
    the number of the coming retry; a Retry-After is honoured for every retryable kind.
    """
    most = MAX_RETRIES[failure.kind]
    if most and failure.most_retries is not None:
        most = failure.most_retries
    if retries_so_far >= most:
        return None
    asked = min(failure.retry_after or timedelta(0), LONGEST_RETRY_AFTER)
    if failure.kind is Kind.RATE_LIMIT:
        return max(asked, (retries_so_far + 1) * RATE_LIMIT_STEP)
    ceiling = min(FIRST_DELAY * 2**retries_so_far, LONGEST_DELAY)
    delay: timedelta = ceiling * jitter()
    return max(asked, delay)
