"""What the Send API's refusals mean: codes and subcodes of the Graph API as kinds of our table.

The codes are those of developers.facebook.com/docs/messenger-platform/error-codes and
…/graph-api/guides/error-handling. A code that is not in the tables is judged by `is_transient` and
the HTTP status, so that its tries are bounded. Texts of Facebook are not kept: they quote people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from runtime.effect import Effect
from runtime.failures import Failure, Kind

OUTSIDE_WINDOW: Final = "outside_messaging_window"
UNAVAILABLE: Final = "person_unavailable"

_NAMES: Final[dict[tuple[int, int], str]] = {
    (10, 2018065): OUTSIDE_WINDOW,
    (10, 2018278): OUTSIDE_WINDOW,
    (10, 2018108): UNAVAILABLE,  # does not receive messages from this page
    (200, 1545041): UNAVAILABLE,
    (551, 1545041): UNAVAILABLE,
    (551, 0): UNAVAILABLE,
    (100, 2018001): "person_unknown",  # no such person on this page
    (230, 0): "permission_missing",
}
"""Refusals that have a name of their own; all others are called by their code."""

_REFUSED: Final = frozenset({OUTSIDE_WINDOW, UNAVAILABLE, "person_unknown"})

_KINDS: Final[dict[int, Kind]] = {
    # «Unknown»: Facebook says of it that what was sent may have arrived.
    1: Kind.UNKNOWN_OUTCOME,
    2: Kind.SERVICE_UNAVAILABLE,
    1200: Kind.SERVICE_UNAVAILABLE,  # temporary failure
    # Who we are
    3: Kind.AUTHENTICATION,  # the app has no such capability
    10: Kind.AUTHENTICATION,  # permission
    102: Kind.AUTHENTICATION,
    190: Kind.AUTHENTICATION,  # token
    # Too much at once: of the app, the user, the page, the call, Messenger
    4: Kind.RATE_LIMIT,
    17: Kind.RATE_LIMIT,
    32: Kind.RATE_LIMIT,
    341: Kind.RATE_LIMIT,
    613: Kind.RATE_LIMIT,
    80006: Kind.RATE_LIMIT,
    # What is sent, or to whom
    100: Kind.INVALID_CONFIG,
    368: Kind.REFUSED,  # blocked for what was sent before
    551: Kind.REFUSED,
}

_PHRASES: Final[dict[Kind, str]] = {
    Kind.AUTHENTICATION: "Facebook does not accept the page's access token",
    Kind.RATE_LIMIT: "Facebook takes no more for the moment",
    Kind.INVALID_CONFIG: "Facebook refused the content",
    Kind.REFUSED: "Facebook refused the message to this person",
    Kind.SERVICE_UNAVAILABLE: "Facebook is not available",
    Kind.UNKNOWN_OUTCOME: "nobody knows whether Facebook took it",
}

# A gateway gave up waiting for the answer: what stands behind it may have done the work.
_AMBIGUOUS: Final = frozenset({502, 504})
_USAGE: Final = "X-Business-Use-Case-Usage"


def unknown(effect: Effect, why: str) -> Failure:
    """The failure of a call whose outcome nobody knows; tried again where the effect says so."""
    failure = Failure(
        Kind.UNKNOWN_OUTCOME, "outcome_unknown", f"{_PHRASES[Kind.UNKNOWN_OUTCOME]}: {why}"
    )
    if effect.on_unknown == "repeat":
        return replace(failure, kind=Kind.NETWORK_TIMEOUT)
    return failure


def refusal(effect: Effect, status: int, said: Any, headers: Mapping[str, str]) -> Failure:
    """Say what an answer without a message id means."""
    error = said.get("error") if isinstance(said, dict) else None
    if not isinstance(error, dict):
        error = {}
    code, subcode = _number(error.get("code")), _number(error.get("error_subcode"))
    name = _NAMES.get((code, subcode))
    kind = Kind.REFUSED if name in _REFUSED else _kind(status, code, error)
    if kind is Kind.UNKNOWN_OUTCOME:
        return unknown(effect, f"code {code}, status {status}")
    name = name or (f"facebook_{code}" if 0 < code < 10_000_000 else f"http_{status}")
    return Failure(kind, name, _PHRASES[kind], _wait(headers))


def _kind(status: int, code: int, error: Mapping[str, Any]) -> Kind:
    if status < 400 or (status in _AMBIGUOUS and not error):
        return Kind.UNKNOWN_OUTCOME
    if code in _KINDS:
        return _KINDS[code]
    if 200 <= code <= 299 or (not code and status in (401, 403)):
        return Kind.AUTHENTICATION  # 200 to 299: permissions
    if status == 429:
        return Kind.RATE_LIMIT
    is_transient = error.get("is_transient") is True or status >= 500
    return Kind.SERVICE_UNAVAILABLE if is_transient else Kind.REFUSED


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _wait(headers: Mapping[str, str]) -> timedelta | None:
    """Read how long to wait: Retry-After, or the minutes that the usage header estimates."""
    asked = headers.get("Retry-After", "")
    if asked.isdecimal():
        return timedelta(seconds=int(asked[:8]))
    if asked:
        try:
            until = parsedate_to_datetime(asked)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return max(until - datetime.now(UTC), timedelta(0))
    minutes = _estimated_minutes(headers.get(_USAGE, ""))
    return timedelta(minutes=minutes) if minutes else None


def _estimated_minutes(usage: str) -> int:
    try:
        said = json.loads(usage or "{}")
        estimates = [
            _number(one.get("estimated_time_to_regain_access"))
            for of_page in said.values()
            for one in of_page
        ]
    except (ValueError, AttributeError, TypeError):
        return 0
    return min(max(estimates, default=0), 100_000)
