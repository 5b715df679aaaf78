"""What Twilio's refusals mean: its error codes and HTTP statuses as kinds of the retry table.

The codes are those of https://www.twilio.com/docs/api/errors. A code that is not in the table is
judged by the HTTP status; of a message that could not be delivered it counts as an outage, whose
tries are bounded. Texts of Twilio are not kept: they quote numbers.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import aiohttp
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException

from actors.twilio_client import asked_to_wait
from runtime.effect import Effect
from runtime.failures import Failure, Kind

Made = TypeVar("Made")

OPTED_OUT: Final = 21610
OPTED_OUT_CODE: Final = "opted_out"

_KINDS: Final[dict[int, Kind]] = {
    # Who we are
    20003: Kind.AUTHENTICATION,  # wrong credentials
    20005: Kind.AUTHENTICATION,  # account not active
    20006: Kind.AUTHENTICATION,  # access denied
    30002: Kind.AUTHENTICATION,  # account suspended
    # Too much at once
    20429: Kind.RATE_LIMIT,
    10004: Kind.RATE_LIMIT,  # calls at once
    14107: Kind.RATE_LIMIT,
    21611: Kind.RATE_LIMIT,  # the sender's queue is full
    30001: Kind.RATE_LIMIT,  # queue overflow
    30022: Kind.RATE_LIMIT,  # US A2P 10DLC
    30026: Kind.RATE_LIMIT,
    30027: Kind.RATE_LIMIT,  # daily cap of US A2P 10DLC
    # The sender, or what is sent
    21210: Kind.INVALID_CONFIG,
    21212: Kind.INVALID_CONFIG,  # no such sender
    21213: Kind.INVALID_CONFIG,
    21602: Kind.INVALID_CONFIG,  # no body
    21603: Kind.INVALID_CONFIG,
    21606: Kind.INVALID_CONFIG,  # not a number of this account
    21608: Kind.INVALID_CONFIG,  # trial accounts reach verified numbers only
    21609: Kind.INVALID_CONFIG,  # unusable status callback
    21617: Kind.INVALID_CONFIG,  # too long
    21620: Kind.INVALID_CONFIG,  # unusable media
    21623: Kind.INVALID_CONFIG,
    21659: Kind.INVALID_CONFIG,
    21660: Kind.INVALID_CONFIG,
    30019: Kind.INVALID_CONFIG,  # more content than the carrier takes
    30032: Kind.INVALID_CONFIG,  # toll-free number not verified
    30034: Kind.INVALID_CONFIG,  # number not registered for A2P 10DLC
    # The other end
    OPTED_OUT: Kind.REFUSED,
    21211: Kind.REFUSED,  # no phone number
    21214: Kind.REFUSED,
    21215: Kind.REFUSED,  # country not permitted
    21216: Kind.REFUSED,
    21217: Kind.REFUSED,
    21408: Kind.REFUSED,  # region not permitted
    21612: Kind.REFUSED,  # unreachable from this sender
    21614: Kind.REFUSED,  # not a mobile number
    30004: Kind.REFUSED,  # blocked
    30005: Kind.REFUSED,  # unknown handset
    30006: Kind.REFUSED,  # landline
    30007: Kind.REFUSED,  # filtered
    30011: Kind.REFUSED,  # takes no MMS
    30003: Kind.SERVICE_UNAVAILABLE,  # unreachable handset: switched off
    30008: Kind.SERVICE_UNAVAILABLE,  # unknown error of the carrier
    30017: Kind.SERVICE_UNAVAILABLE,  # carrier congested
}

_PHRASES: Final[dict[Kind, str]] = {
    Kind.AUTHENTICATION: "Twilio does not accept the account's credentials",
    Kind.RATE_LIMIT: "Twilio takes no more for the moment",
    Kind.INVALID_CONFIG: "Twilio refused the sender or the content",
    Kind.REFUSED: "Twilio refused the recipient",
    Kind.SERVICE_UNAVAILABLE: "Twilio or the carrier is not available",
    Kind.UNKNOWN_OUTCOME: "nobody knows whether Twilio took it",
}

# A gateway gave up waiting for the answer: what stands behind it may have done the work.
_AMBIGUOUS: Final = frozenset({502, 504})


async def attempt(create: Callable[[], Awaitable[Made]], effect: Effect) -> Made | Failure:
    """Ask Twilio for something; gives what was made, or the failure.

    A connection that never stood is tried again. What went wrong once the request was on its way
    leaves an unknown outcome, which is tried again only where the effect asks for it.
    """
    made = await _attempt(create)
    if (
        isinstance(made, Failure)
        and made.kind is Kind.UNKNOWN_OUTCOME
        and effect.on_unknown == "repeat"
    ):
        return replace(made, kind=Kind.NETWORK_TIMEOUT)
    return made


async def _attempt(create: Callable[[], Awaitable[Made]]) -> Made | Failure:
    try:
        return await create()
    except (TwilioRestException, TwilioServiceException) as error:
        return _refusal(error.status, error.code)
    except aiohttp.ConnectionTimeoutError:
        return Failure(Kind.NETWORK_TIMEOUT, "timeout", "no connection to Twilio in time")
    except aiohttp.ClientConnectorError:
        return Failure(Kind.SERVICE_UNAVAILABLE, "provider_unreachable", "Twilio is unreachable")
    except (TimeoutError, aiohttp.ClientError, json.JSONDecodeError, TwilioException) as error:
        message = f"{_PHRASES[Kind.UNKNOWN_OUTCOME]}: {type(error).__name__}"
        return Failure(Kind.UNKNOWN_OUTCOME, "outcome_unknown", message)


def _refusal(status: int, code: int | None) -> Failure:
    if status < 400 or status in _AMBIGUOUS:
        return _failure(Kind.UNKNOWN_OUTCOME, code, status)
    kind = _KINDS.get(code or 0) or _kind_of_status(status)
    return _failure(kind, code, status, _wait(asked_to_wait()))


def _kind_of_status(status: int) -> Kind:
    if status in (401, 403):
        return Kind.AUTHENTICATION
    if status == 429:
        return Kind.RATE_LIMIT
    if status == 408:
        return Kind.NETWORK_TIMEOUT
    return Kind.SERVICE_UNAVAILABLE if status >= 500 else Kind.REFUSED


def failure_of_delivery(code: int | None) -> Failure:
    """Say why an accepted message did not arrive, by the code of its status callback."""
    return _failure(_KINDS.get(code or 0, Kind.SERVICE_UNAVAILABLE), code)


def _failure(
    kind: Kind, code: int | None, status: int | None = None, wait: timedelta | None = None
) -> Failure:
    if kind is Kind.UNKNOWN_OUTCOME:
        name = "outcome_unknown"
    elif code == OPTED_OUT:
        name = OPTED_OUT_CODE
    else:
        # Twilio's codes have five digits; whatever else comes is not ours to store.
        is_known = code is not None and 10_000 <= code <= 99_999
        name = f"twilio_{code}" if is_known else f"http_{status}" if status else "undelivered"
    return Failure(kind, name, _PHRASES.get(kind, "Twilio did not take it"), wait)


def _wait(retry_after: str | None) -> timedelta | None:
    """Read a Retry-After: seconds or a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.isdecimal():
        return timedelta(seconds=min(int(retry_after[:9]), 10**8))
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(until - datetime.now(UTC), timedelta(0))
