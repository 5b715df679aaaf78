"""What SMTP servers say, made into values.

What it means depends on where it was said. To the connection or the sender: the integration is at
fault. To the recipient, or about the mailbox once the mail was there (RFC 3463: 5.1.x, 5.2.x): 4xx
comes again later, 5xx is a bounce (RFC 5321, 4.2.1). Any other 5xx refuses this mail alone: a
server's policy (5.7.x) says nothing of whether there is such a mailbox.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import aiosmtplib

from runtime.failures import Failure, Kind

# Greylisting servers take a mail at its second try, some minutes later (RFC 6647, 2.1).
DEFERRED_AGAIN: Final = timedelta(minutes=1)
LONGEST_REPLY: Final = 500
_UNKNOWN_MAILBOX: Final = frozenset({550, 551, 553})
_OF_SENDER: Final = frozenset({"5.1.7", "5.1.8"})
_ENHANCED: Final = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})\b")

TIMED_OUT: Final = Failure(
    Kind.NETWORK_TIMEOUT, "smtp_timeout", "the server did not answer in time"
)
NO_CONNECTION: Final = Failure(
    Kind.SERVICE_UNAVAILABLE, "smtp_unreachable", "no connection to the server could be made"
)
NO_TLS: Final = Failure(
    Kind.INVALID_CONFIG, "smtp_tls_failed", "no secure connection to the server could be made"
)
NO_UNICODE: Final = Failure(
    Kind.REFUSED, "smtputf8_missing", "the server takes no addresses beyond ASCII"
)
BROKEN: Final = Failure(
    Kind.NETWORK_TIMEOUT,  # unknown, and it may be repeated under its Message-ID
    "smtp_connection_broke",
    "the connection broke before the server's answer",
)

Stage = Literal["MAIL", "RCPT", "DATA", "content"]
"""What a reply answers to; `content` is the mail itself."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The server has taken the mail; `reply` is its word, which may bear its own id."""

    reply: str


@dataclass(frozen=True, slots=True)
class Bounced:
    """The server refused the recipient for good; `is_hard`: there is no such mailbox."""

    code: int
    enhanced: str | None
    is_hard: bool


Posted = Taken | Bounced | Failure


@dataclass(frozen=True, slots=True)
class Said:
    """The reply that decided on a mail: the first that refused it, else the last."""

    stage: Stage
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """There was no such reply: the connection broke, or the server kept silent for too long.

    `is_out`: the mail may have arrived.
    """

    is_out: bool
    is_silent: bool


def judged(answer: Said | Lost) -> Posted | None:
    """Make a value of what became of a mail; None when the connection was gone before it."""
    if isinstance(answer, Lost):
        if answer.is_out:
            return BROKEN
        return TIMED_OUT if answer.is_silent else None
    if answer.stage == "content" and answer.code == 250:
        return Taken(answer.text[:LONGEST_REPLY])
    if answer.code == 421:
        return Failure(Kind.SERVICE_UNAVAILABLE, "smtp_421", "the server closes the connection")
    if answer.stage == "RCPT":
        return of_recipient(answer.code, answer.text)
    if answer.stage == "MAIL":
        return _of_sender(answer.code, answer.text)
    return _of_mail(answer.code, answer.text)


def of_recipient(code: int, said: str) -> Posted:
    """Judge what was answered to RCPT."""
    if code < 500:
        return _deferred(code)
    enhanced = enhanced_code(said)
    if enhanced in _OF_SENDER:
        return _sender_refused(code)
    is_hard = code in _UNKNOWN_MAILBOX and (enhanced is None or _is_of_no_mailbox(enhanced))
    return Bounced(code, enhanced, is_hard)


def _of_mail(code: int, said: str) -> Posted:
    if code < 500:
        return _deferred(code)
    enhanced = enhanced_code(said)
    if enhanced in _OF_SENDER:
        return _sender_refused(code)
    if enhanced is not None and enhanced.startswith(("5.1.", "5.2.")):
        return Bounced(code, enhanced, _is_of_no_mailbox(enhanced))
    return Failure(Kind.REFUSED, "smtp_message_refused", f"the server refused the mail ({code})")


def _is_of_no_mailbox(enhanced: str) -> bool:
    # 5.2.1 is a mailbox that is disabled; the other 5.2.x are full, or do not want this mail.
    return enhanced.startswith("5.1.") or enhanced == "5.2.1"


def _of_sender(code: int, said: str) -> Failure:
    if code < 500:
        return Failure(Kind.SERVICE_UNAVAILABLE, f"smtp_{code}", f"the server answered {code}")
    if code in {530, 535}:
        return _unauthenticated(code)
    if enhanced_code(said) == "5.3.4":  # it was told the size (RFC 1870)
        return Failure(Kind.REFUSED, "smtp_message_too_large", "the mail is too large for it")
    return _sender_refused(code)


def _sender_refused(code: int) -> Failure:
    message = f"the server refused the sender ({code})"
    return Failure(Kind.INVALID_CONFIG, "smtp_sender_refused", message)


def _deferred(code: int) -> Failure:
    message = f"the server asks to come again ({code})"
    return Failure(Kind.RATE_LIMIT, "smtp_deferred", message, DEFERRED_AGAIN)


def _unauthenticated(code: int) -> Failure:
    message = f"the server refused the login ({code})"
    return Failure(Kind.AUTHENTICATION, "smtp_authentication_failed", message)


def failure_of_connection(error: Exception) -> Failure:
    """Judge why no connection came about; nothing has been sent."""
    if isinstance(error, (aiosmtplib.SMTPTimeoutError, TimeoutError)):
        return TIMED_OUT
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return NO_TLS
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        if error.code < 500:
            return Failure(Kind.SERVICE_UNAVAILABLE, f"smtp_{error.code}", "no login at present")
        return _unauthenticated(error.code)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        message = f"the server answered {error.code} to the connection"
        return Failure(Kind.SERVICE_UNAVAILABLE, f"smtp_{error.code}", message)
    # How the client says that STARTTLS or AUTH is not offered.
    if type(error) is aiosmtplib.SMTPException or isinstance(error, ValueError):
        return Failure(Kind.INVALID_CONFIG, "smtp_not_supported", "the server lacks what is set up")
    return NO_CONNECTION


def enhanced_code(said: str) -> str | None:
    """Read the enhanced status code (RFC 3463) that an answer begins with, such as 5.1.1."""
    found = _ENHANCED.match(said)
    return ".".join(found.groups()) if found else None
