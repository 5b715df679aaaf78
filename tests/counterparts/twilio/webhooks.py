"""The fake's way to its customer's webhooks: form-encoded, signed by the official algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
from twilio.request_validator import RequestValidator


@dataclass(frozen=True, slots=True)
class Told:
    """One webhook that was called, and what it answered."""

    url: str
    params: Mapping[str, str]
    status: int
    answer: str


@dataclass
class Webhooks:
    """Calls webhooks, and remembers what they answered.

    `stands_for` leads public addresses to where they are served here, as a proxy does: what is
    signed is the public address, and the Host header says another.
    """

    auth_token: str
    stands_for: dict[str, str] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    _session: aiohttp.ClientSession | None = None

    async def post(
        self, url: str, params: Mapping[str, str], *, auth_token: str | None = None
    ) -> Told:
        """Call a webhook; signed with another token, if one is given."""
        signature = RequestValidator(auth_token or self.auth_token).compute_signature(url, params)
        return await self.post_as(url, params, {"X-Twilio-Signature": signature})

    async def post_as(
        self, url: str, params: Mapping[str, str], headers: Mapping[str, str]
    ) -> Told:
        """Call a webhook with these headers, as a stranger would."""
        form = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        async with self._open().post(
            self.served_at(url), data=urlencode(params), headers=form
        ) as response:
            told = Told(url, dict(params), response.status, await response.text())
        self.told.append(told)
        return told

    async def get(self, url: str) -> tuple[int, str, bytes]:
        """Fetch a file that TwiML or a message names: status, content type, content."""
        async with self._open().get(self.served_at(url)) as response:
            return response.status, response.content_type, await response.read()

    def served_at(self, url: str) -> str:
        """Give the address at which a public one is served here."""
        for public, served in self.stands_for.items():
            if url.startswith(public):
                return served + url.removeprefix(public)
        return url

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        return self._session


def text_params(fields: Mapping[str, Any]) -> dict[str, str]:
    """Leave out what is None, and make text of the rest."""
    return {name: str(value) for name, value in fields.items() if value is not None}
