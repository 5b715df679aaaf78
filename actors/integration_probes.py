"""Probes: whether an integration really works, asked of its provider without sending anything.

Each connects and authenticates as a send would, within PROBE_SECONDS in all. What it says holds
no secret. An account in test mode asks only what is on loopback.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import aiosmtplib

from actors.integration_kinds import Facebook, Smtp, Twilio, read_settings
from actors.integrations import Integration
from actors.test_mode import is_loopback

PROBE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found: a stable code (`ok`, or what failed) and a sentence for people."""

    code: str
    message: str

    @property
    def is_ok(self) -> bool:
        """Whether the integration works."""
        return self.code == "ok"


OK: Final = Probed("ok", "The provider answers and knows who is asking.")


async def probe(integration: Integration) -> Probed:
    """Try an integration out; never raises for what the other side does."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            if integration.is_test and not await is_loopback(_host(integration)):
                message = "The account is in test mode: only hosts on loopback are asked."
                return Probed("test_mode", message)
            return await PROBES[integration.kind](integration)
    except TimeoutError:
        return Probed("timeout", f"There was no answer within {PROBE_SECONDS:.0f} s.")
    except ssl.SSLError as error:
        return Probed("tls_failed", f"No secure connection could be made ({error.reason}).")
    except (OSError, aiohttp.ClientError) as error:
        return Probed("unreachable", f"No connection could be made ({type(error).__name__}).")


def _host(integration: Integration) -> str:
    settings = read_settings(integration.kind, integration.settings)
    if isinstance(settings, Smtp):
        return settings.host
    return urlsplit(settings.base_url).hostname or ""


async def _smtp(integration: Integration) -> Probed:
    settings: Smtp = read_settings("smtp", integration.settings)
    client = aiosmtplib.SMTP(
        hostname=settings.host.strip("[]"),
        port=settings.port,
        use_tls=settings.security == "tls",
        start_tls=settings.security == "starttls",
        timeout=settings.timeout_seconds,
    )
    try:
        async with client:
            if settings.username:
                await client.login(settings.username, integration.secrets.get("password", ""))
            await client.noop()
    except aiosmtplib.SMTPAuthenticationError as error:
        return Probed("authentication_failed", f"The server refused the login ({error.code}).")
    except aiosmtplib.SMTPTimeoutError:
        return Probed("timeout", f"There was no answer within {settings.timeout_seconds:g} s.")
    except aiosmtplib.SMTPConnectError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            return Probed("tls_failed", "No secure connection could be made.")
        return Probed("unreachable", "No connection to the server could be made.")
    except aiosmtplib.SMTPResponseException as error:
        return Probed("refused", f"The server answered {error.code}.")
    except aiosmtplib.SMTPException as error:
        return Probed("refused", f"The server does not do what is asked ({type(error).__name__}).")
    return OK


async def _twilio(integration: Integration) -> Probed:
    settings: Twilio = read_settings("twilio", integration.settings)
    url = f"{settings.base_url}/2010-04-01/Accounts/{settings.account_sid}.json"
    auth = aiohttp.encode_basic_auth(settings.account_sid, integration.secrets["auth_token"])
    status, said = await _get(url, {"Authorization": auth})
    if status == 200 and said.get("status", "active") != "active":
        return Probed("account_not_active", f"The account is {said['status']}.")
    return _by_status(status)


async def _facebook(integration: Integration) -> Probed:
    settings: Facebook = read_settings("facebook", integration.settings)
    url = f"{settings.base_url}/{settings.api_version}/me?fields=id"
    token = integration.secrets["page_access_token"]
    status, said = await _get(url, {"Authorization": f"Bearer {token}"})
    if status == 200 and str(said.get("id")) != integration.address:
        return Probed("another_page", "The access token is of another page.")
    if status == 400:  # how the Graph API says that a token is invalid or has expired
        return Probed("authentication_failed", "The access token is not taken (400).")
    return _by_status(status)


async def _get(url: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, allow_redirects=False) as reply,
    ):
        try:
            said = await reply.json(content_type=None)
        except ValueError:
            said = None
        return reply.status, said if isinstance(said, dict) else {}


def _by_status(status: int) -> Probed:
    match status:
        case 200:
            return OK
        case 401 | 403:
            return Probed("authentication_failed", f"The login is not taken ({status}).")
        case 404:
            return Probed("account_unknown", "The provider knows no such account (404).")
        case 429:
            return Probed("rate_limited", "The provider asks to come back later (429).")
    return Probed("refused", f"The provider answered {status}.")


PROBES: Final[Mapping[str, Callable[[Integration], Awaitable[Probed]]]] = {
    "smtp": _smtp,
    "twilio": _twilio,
    "facebook": _facebook,
}
