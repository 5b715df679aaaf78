"""SMTP connections that are kept: a bounded number for each integration, many mails each.

A connection that was closed while it lay idle is opened anew without a word; one that breaks after
the mail has gone out leaves unknown whether it was taken. One that is old, or has brought enough
mails, makes room for a new one: servers bound both, and a name may lead elsewhere by now.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import aiosmtplib

from actors.integration_kinds import Smtp, read_settings
from actors.integrations import Integration, Integrations
from actors.mail_conversation import Conversation, Envelope
from actors.mail_replies import NO_CONNECTION, NO_UNICODE, Posted, failure_of_connection, judged
from actors.test_mode import loopback_address
from runtime.failures import Failure, Kind
from runtime.house import House

MOST_POSTS: Final = 200
MOST_MAILS: Final = 500
OLDEST_SECONDS: Final = 600.0
UNUSABLE: Final = Failure(Kind.REFUSED, "address_unusable", "an address cannot be sent to")


@dataclass(slots=True)
class Post:
    """The connections of one integration."""

    integration: Integration
    settings: Smtp
    host: str | None
    """Where to connect to; None in test mode beyond loopback: nothing is sent."""
    _places: asyncio.Semaphore = field(init=False)
    _idle: list[Conversation] = field(default_factory=list)
    _name: str | None = None
    _tls: ssl.SSLContext | None = None
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.settings.connections)

    async def send(self, envelope: Envelope) -> Posted:
        """Give a mail to the server; whatever it does becomes a value."""
        async with self._places:
            while (kept := self._kept()) is not None:
                posted = await self._over(kept, envelope)
                if posted is not None:
                    return posted
            opened = await self._connect()
            if isinstance(opened, Failure):
                return opened
            return await self._over(opened, envelope) or NO_CONNECTION

    def _kept(self) -> Conversation | None:
        while self._idle:
            if (kept := self._idle.pop()).is_open:
                return kept
        return None

    async def _over(self, conversation: Conversation, envelope: Envelope) -> Posted | None:
        """Send over a connection; None when it was gone before the mail went out."""
        if envelope.is_unicode and "smtputf8" not in conversation.extensions:
            await self._put_back(conversation)
            return NO_UNICODE
        try:
            answer = await conversation.give(envelope)
        except ValueError:
            await self._put_back(conversation)
            return UNUSABLE
        except BaseException:
            conversation.abort()
            raise
        await self._put_back(conversation)
        return judged(answer)

    async def _put_back(self, conversation: Conversation) -> None:
        if not conversation.is_open:
            return
        age = asyncio.get_running_loop().time() - conversation.began_at
        if self.is_closed or conversation.mails >= MOST_MAILS or age >= OLDEST_SECONDS:
            await conversation.leave()
        else:
            self._idle.append(conversation)

    async def _connect(self) -> Conversation | Failure:
        client = self._client()
        try:
            await client.connect()
            if self.settings.username:
                password = self.integration.secrets.get("password", "")
                await client.login(self.settings.username, password)
            await _introduce(client)
            conversation = Conversation.taken_over(client, self.settings.timeout_seconds)
        except BaseException as error:
            client.close()
            if isinstance(error, (aiosmtplib.SMTPException, OSError, ValueError)):
                return failure_of_connection(error)
            raise
        self._name = client.local_hostname
        return conversation

    def _client(self) -> aiosmtplib.SMTP:
        settings = self.settings
        if settings.security != "none" and self._tls is None:
            self._tls = ssl.create_default_context()
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=settings.port,
            local_hostname=self._name,  # asked of the system once, which may take long
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            timeout=settings.timeout_seconds,
            tls_context=self._tls,
        )

    async def close(self) -> None:
        """Take leave of the server on every idle connection."""
        self.is_closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(conversation.leave() for conversation in idle))


async def _introduce(client: aiosmtplib.SMTP) -> None:
    """Have the extensions that the server offers now: after STARTTLS they are others."""
    if not client.is_ehlo_or_helo_needed:
        return
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not client.is_connected:
            raise
        await client.helo()


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
