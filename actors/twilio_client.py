"""The official Twilio client, one for each integration, with what it lacks: limits and Retry-After.

The client has no time limit of its own and drops the headers of an error. Its HTTP client is given
a session that adds both; nothing of the package itself is changed.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from actors.integration_kinds import Twilio
from actors.integrations import Integration, Integrations
from actors.test_mode import is_loopback
from runtime.house import House

CONNECT_SECONDS: Final = 5.0
MOST_CLIENTS: Final = 200

# Unless it is given others the client reads variables, TWILIO_*, that are no settings here.
_NO_VARIABLES: Final[dict[str, str]] = {"nothing": ""}

# Of the answer that the current task got last; every effect is sent in a task of its own.
_retry_after: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "twilio_retry_after", default=None
)


def asked_to_wait() -> str | None:
    """Give the Retry-After of the last answer that this task got."""
    return _retry_after.get()


class _Credentials:
    """Gives the authorisation as a header: what the client does by itself goes with aiohttp 4."""

    def __init__(self, account_sid: str, auth_token: str) -> None:
        self._header = aiohttp.encode_basic_auth(account_sid, auth_token)

    def to_auth_strategy(self) -> _Credentials:
        """Be the strategy as well."""
        return self

    def get_auth_string(self) -> str:
        """Give the header's value."""
        return self._header


class _Session:
    """What the HTTP client calls instead of a bare session."""

    def __init__(self, session: aiohttp.ClientSession, seconds: float) -> None:
        self._session = session
        connect = min(CONNECT_SECONDS, seconds)
        self._timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=connect)

    async def request(self, **arguments: Any) -> aiohttp.ClientResponse:
        """Make a request within the limits, and note when it may be made again."""
        _retry_after.set(None)
        response = await self._session.request(**{**arguments, "timeout": self._timeout})
        _retry_after.set(response.headers.get("Retry-After"))
        return response


@dataclass(frozen=True, slots=True)
class Line:
    """What one integration sends by: its client, or none in test mode beyond loopback."""

    integration: Integration
    client: Client | None


@dataclass(slots=True)
class Lines:
    """What all sends of one pool share: connections, integrations, a client for each of them."""

    house: House
    integrations: Integrations
    session: aiohttp.ClientSession
    _lines: dict[UUID, Line] = field(default_factory=dict)

    async def of(self, integration_id: UUID | None) -> Line | None:
        """Give what an integration sends by; None when it was removed.

        Its client is made anew when its settings have changed.
        """
        if integration_id is None:
            return None
        integration = await self.integrations.get(integration_id)
        if integration is None:
            return None
        kept = self._lines.get(integration_id)
        # The same object as long as it is kept: a read of the row gives another.
        if kept is None or kept.integration is not integration:
            if len(self._lines) >= MOST_CLIENTS:
                self._lines.clear()
            kept = Line(integration, await self._client(integration))
            self._lines[integration_id] = kept
        return kept

    async def _client(self, integration: Integration) -> Client | None:
        host = urlsplit(settings_of(integration).base_url).hostname or ""
        if integration.is_test and not await is_loopback(host):
            return None
        return make_client(integration, self.session)


def settings_of(integration: Integration) -> Twilio:
    """Read an integration's settings."""
    return Twilio.model_validate(dict(integration.settings))


def make_client(integration: Integration, session: aiohttp.ClientSession) -> Client:
    """Build the client of an integration on a session; must run inside the event loop."""
    settings, auth_token = settings_of(integration), integration.secrets["auth_token"]
    http_client = AsyncTwilioHttpClient(pool_connections=False)
    http_client.session = _Session(session, settings.timeout_seconds)
    client = Client(
        settings.account_sid,
        auth_token,
        credential_provider=_Credentials(settings.account_sid, auth_token),
        http_client=http_client,
        environment=_NO_VARIABLES,
    )
    client.api.base_url = settings.base_url
    return client


@asynccontextmanager
async def new_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open connections that are kept, as many as are needed at once."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    # Nothing that one account is given may reach another.
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
        yield session


@asynccontextmanager
async def lines(house: House) -> AsyncIterator[Lines]:
    """Open what effect types of Twilio share."""
    # The client loads its hundred modules when it is first asked: half a second, in which nothing
    # else of the worker would run.
    await asyncio.to_thread(import_module, "twilio.rest.api.v2010")
    async with new_session() as session:
        yield Lines(house, Integrations(house), session)
