"""SMTP connections that are kept: a bounded number for each integration, many mails each.

What the other side says is told apart by where it was said. To the connection or the sender: the
integration is at fault. To the recipient: 4xx comes again later, 5xx is a bounce (RFC 5321, 4.2.1).
A connection that was closed while it lay idle is opened anew without a word; one that breaks after
the mail has gone out leaves unknown whether it was taken.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import aiosmtplib

from actors.integration_kinds import Smtp, read_settings
from actors.integrations import Integration, Integrations
from actors.test_mode import loopback_address
from runtime.failures import Failure, Kind
from runtime.house import House

MOST_POSTS: Final = 200
# Greylisting servers take a mail at its second try, some minutes later (RFC 6647, 2.1).
DEFERRED_AGAIN: Final = timedelta(minutes=1)
_UNKNOWN_MAILBOX: Final = frozenset({550, 551, 553})
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


@dataclass(frozen=True, slots=True)
class Envelope:
    """A mail on its way; `is_unicode` where an address needs SMTPUTF8 (RFC 6531)."""

    sender: str
    recipient: str
    content: bytes
    is_unicode: bool = False


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


@dataclass(slots=True)
class Post:
    """The connections of one integration."""

    integration: Integration
    settings: Smtp
    host: str | None
    """Where to connect to; None in test mode beyond loopback: nothing is sent."""
    _places: asyncio.Semaphore = field(init=False)
    _idle: list[aiosmtplib.SMTP] = field(default_factory=list)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.settings.connections)

    async def send(self, envelope: Envelope) -> Posted:
        """Give a mail to the server; whatever it does becomes a value."""
        async with self._places:
            while self._idle:
                client = self._idle.pop()
                if client.is_connected:
                    posted = await self._over(client, envelope)
                    if posted is not None:
                        return posted
            opened = await self._connect()
            if isinstance(opened, Failure):
                return opened
            return await self._over(opened, envelope) or NO_CONNECTION

    async def _over(self, client: aiosmtplib.SMTP, envelope: Envelope) -> Posted | None:
        """Send over a connection; None when it was gone before the mail went out."""
        try:
            posted = await _converse(client, envelope)
        except BaseException:
            client.close()
            raise
        if client.is_connected and not self.is_closed:
            self._idle.append(client)
        else:
            client.close()
        return posted

    async def _connect(self) -> aiosmtplib.SMTP | Failure:
        settings = self.settings
        context = ssl.create_default_context() if settings.security != "none" else None
        client = aiosmtplib.SMTP(
            hostname=self.host,
            port=settings.port,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            timeout=settings.timeout_seconds,
            tls_context=context,
        )
        try:
            await client.connect()
            if settings.username:
                password = self.integration.secrets.get("password", "")
                await client.login(settings.username, password)
            await client.ehlo()  # for the extensions that it offers after STARTTLS
        except BaseException as error:
            client.close()
            if isinstance(error, (aiosmtplib.SMTPException, OSError, ValueError)):
                return failure_of_connection(error)
            raise
        return client

    async def close(self) -> None:
        """Take leave of the server on every idle connection."""
        self.is_closed = True
        for client in self._idle:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=1)
            client.close()
        self._idle.clear()


async def _converse(client: aiosmtplib.SMTP, envelope: Envelope) -> Posted | None:
    is_out = False
    try:
        options: Sequence[str] = ("SMTPUTF8", "BODY=8BITMIME") if envelope.is_unicode else ()
        encoding = "utf-8" if envelope.is_unicode else "ascii"
        if envelope.is_unicode and not client.supports_extension("smtputf8"):
            return NO_UNICODE
        await client.mail(envelope.sender, options=options, encoding=encoding)
        try:
            await client.rcpt(envelope.recipient, encoding=encoding)
        except aiosmtplib.SMTPRecipientRefused as refusal:
            posted = of_recipient(refusal.code, refusal.message)
            with suppress(aiosmtplib.SMTPException):
                await client.rset()
            return posted
        is_out = True
        reply = await client.data(envelope.content)
        return Taken(reply.message[:500])
    except aiosmtplib.SMTPServerDisconnected:
        client.close()
        return BROKEN if is_out else None
    except aiosmtplib.SMTPTimeoutError:
        client.close()
        return BROKEN if is_out else TIMED_OUT
    except aiosmtplib.SMTPResponseException as error:
        posted = _of_mail(error)
        if error.code == 421:  # it closes the channel (RFC 5321, 3.8)
            client.close()
        else:
            with suppress(aiosmtplib.SMTPException):
                await client.rset()
        return posted


def of_recipient(code: int, said: str) -> Posted:
    """Judge what was answered to RCPT."""
    enhanced = enhanced_code(said)
    if code < 500:
        return _deferred(code)
    is_of_mailbox = enhanced is None or enhanced.startswith("5.1.") or enhanced == "5.2.1"
    return Bounced(code, enhanced, code in _UNKNOWN_MAILBOX and is_of_mailbox)


def _of_mail(error: aiosmtplib.SMTPResponseException) -> Failure:
    code = error.code
    if code == 421:
        return Failure(Kind.SERVICE_UNAVAILABLE, "smtp_421", "the server closes the connection")
    if isinstance(error, aiosmtplib.SMTPSenderRefused):
        if code < 500:
            return Failure(Kind.SERVICE_UNAVAILABLE, f"smtp_{code}", f"the server answered {code}")
        if code in {530, 535}:
            return _unauthenticated(code)
        return Failure(
            Kind.INVALID_CONFIG, "smtp_sender_refused", f"the server refused the sender ({code})"
        )
    if code < 500:
        return _deferred(code)
    return Failure(Kind.REFUSED, "smtp_message_refused", f"the server refused the mail ({code})")


def _deferred(code: int) -> Failure:
    if code == 421:
        return Failure(Kind.SERVICE_UNAVAILABLE, "smtp_421", "the server closes the connection")
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
    if isinstance(error, (aiosmtplib.SMTPNotSupported, ValueError)):
        return Failure(Kind.INVALID_CONFIG, "smtp_not_supported", "the server lacks what is set up")
    return NO_CONNECTION


def enhanced_code(said: str) -> str | None:
    """Read the enhanced status code (RFC 3463) that an answer begins with, such as 5.1.1."""
    found = _ENHANCED.match(said)
    return ".".join(found.groups()) if found else None


@dataclass(slots=True)
class Posts:
    """What all mails of one pool share: the house, the integrations, their connections."""

    house: House
    integrations: Integrations
    _posts: dict[UUID, Post] = field(default_factory=dict)

    async def of(self, integration_id: UUID | None) -> Post | None:
        """Give the connections of an integration; None when it was removed.

        Made anew when the integration was read anew and is another; its old ones take leave.
        """
        integration = await self.integrations.get(integration_id) if integration_id else None
        if integration is None or integration_id is None:
            return None
        kept = self._posts.get(integration_id)
        if kept is not None and kept.integration is integration:
            return kept
        if kept is not None and kept.integration == integration:
            kept.integration = integration
            return kept
        if kept is not None:
            await kept.close()
        elif len(self._posts) >= MOST_POSTS:
            await self.close()
        # No wait between this and the one before: two tasks may have come here.
        settings: Smtp = read_settings("smtp", integration.settings)
        host = settings.host.strip("[]")
        to = await loopback_address(host) if integration.is_test else host
        if (other := self._posts.get(integration_id)) is not None and not other.is_closed:
            return other
        post = self._posts[integration_id] = Post(integration, settings, to)
        return post

    async def close(self) -> None:
        """Close all idle connections."""
        posts = list(self._posts.values())
        self._posts.clear()
        for post in posts:
            await post.close()


@asynccontextmanager
async def posts(house: House) -> AsyncIterator[Posts]:
    """Open what mails share, and close it at the end."""
    opened = Posts(house, Integrations(house))
    try:
        yield opened
    finally:
        await opened.close()
