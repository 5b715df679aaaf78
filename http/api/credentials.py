"""Who asks: the caller that a bearer token or a JWT speaks for, within the limits on requests.

A token is looked up in every request, for all requests that came meanwhile in one query by a unique
index, and none of it is cached: what is revoked, expired or demoted ends with the next request.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from aiohttp import web

from api.access import Caller, Permission, permissions_of
from api.gathering import PATIENCE_SECONDS, Gathering
from api.problems import Problem
from api.rate_limits import RateLimit
from api.signed_tokens import (
    REFETCH_SECONDS,
    KeysUnavailableError,
    SignedTokenError,
    SignedTokens,
)
from api.token_uses import TokenUses
from api.tokens import TOKEN_PATTERN, digest
from runtime.settings import Settings
from sql import load

queries = load("access")

MOST_KNOWN: Final = 10_000
MOST_AT_ONCE: Final = 500
_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9._~+/=-]{1,8000}) *")
_ALL: Final = frozenset(map(str, Permission))
_TOKEN: Final = re.compile(TOKEN_PATTERN)


class Gate:
    """Lets callers in: one for each application."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings, turns: asyncio.Semaphore) -> None:
        self._pool = pool
        self._turns = turns
        self.uses = TokenUses(pool)
        self.signed = SignedTokens(settings)
        self._requests = RateLimit("token", settings.api_rate_per_second, settings.api_rate_burst)
        failures = settings.api_failures_per_minute
        self._failures = RateLimit("address", failures / 60, max(1, failures))
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._callers = Gathering(self._callers_of_tokens, MOST_AT_ONCE, alone=())

    async def identify(self, request: web.Request) -> Caller:
        """Find the caller of a request; a 401 Problem without a credential that is valid now.

        An address that sent too many unusable ones gets a 429 Problem, without a look into the
        database, unless its token was seen to be good before.
        """
        credential = _credential_of(request)
        address = request.remote or ""
        key = digest(credential)
        if key not in self._known:
            self._refuse_guessers(address)
        try:
            caller = await self._find(credential, key)
        except Problem as problem:
            self._known.pop(key, None)
            if self._failures.is_on and problem.status == 401:
                self._failures.take(address)
            raise
        self._remember(key)
        if caller.token_id:
            self.uses.note(caller.token_id)
        return caller

    async def is_good(self, request: web.Request) -> bool:
        """Whether the credential of a request that was let in is good still."""
        credential = _credential_of(request)
        try:
            await self._find(credential, digest(credential))
        except Problem:
            return False
        return True

    def admit(self, caller: Caller) -> dict[str, str]:
        """Count a request of a caller; gives the headers that say how it stands, or a 429."""
        if not self._requests.is_on:
            return {}
        standing = self._requests.take(caller.credential)
        if standing.is_refused:
            raise self._requests.refusal(standing)
        return dict(self._requests.headers(standing))

    async def _find(self, credential: str, key: bytes) -> Caller:
        if _TOKEN.fullmatch(credential):
            row = await self._callers.bring(key)
            if row is None:
                raise _invalid("token_invalid", "The access token is unknown, expired or revoked.")
            return _caller(row, row["scopes"], token_id=row["token_id"], expires=row["expires_at"])
        if not self.signed.is_on:
            raise _invalid("token_invalid", "The access token is unknown, expired or revoked.")
        try:
            claims = await self.signed.read(credential)
        except SignedTokenError as error:
            raise _invalid("jwt_invalid", str(error)) from None
        except KeysUnavailableError as error:
            headers = {"Retry-After": str(int(REFETCH_SECONDS))}
            raise Problem(503, "issuer_keys_unavailable", str(error), headers=headers) from None
        who = claims.account_id, claims.user_id, claims.email
        async with self._turns:
            row = await self._pool.fetchrow(queries.caller_by_subject, *who)
        if row is None:
            raise _invalid("jwt_invalid", "The JWT speaks for nobody whom we know.")
        return _caller(row, claims.scopes, jwt_id=claims.id, expires=claims.expires_at)

    async def _callers_of_tokens(self, keys: Sequence[bytes]) -> Sequence[asyncpg.Record | None]:
        async with self._turns:
            rows = await self._pool.fetch(
                queries.callers_of_tokens, list(set(keys)), timeout=PATIENCE_SECONDS
            )
        found = {row["token_sha256"]: row for row in rows}
        return [found.get(key) for key in keys]

    def _refuse_guessers(self, address: str) -> None:
        if self._failures.is_on:
            standing = self._failures.look(address)
            if standing.is_refused:
                raise self._failures.refusal(standing)

    def _remember(self, key: bytes) -> None:
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


def _credential_of(request: web.Request) -> str:
    headers = request.headers.getall("Authorization", [])
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    of_browser = [one.strip().removeprefix("bearer.") for one in offered if "bearer." in one]
    if not headers and len(of_browser) == 1:
        headers = [f"Bearer {of_browser[0]}"]
    if not headers:
        raise _unauthorized("token_missing", "This needs an access token.", "")
    match = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
    return match[1] if match else ""


def _caller(
    row: asyncpg.Record,
    scopes: Iterable[str] | None,
    *,
    token_id: UUID | None = None,
    jwt_id: str | None = None,
    expires: datetime | None,
) -> Caller:
    permissions = permissions_of(row["role"], scopes)
    narrowed = None if scopes is None else frozenset(Permission(s) for s in scopes if s in _ALL)
    return Caller(
        row["account_id"],
        row["user_id"],
        row["role"],
        permissions,
        narrowed,
        token_id,
        jwt_id,
        expires,
    )


def _invalid(code: str, detail: str) -> Problem:
    return _unauthorized(code, detail, ', error="invalid_token"')


def _unauthorized(code: str, detail: str, challenge: str) -> Problem:
    headers = {"WWW-Authenticate": f'Bearer realm="callboard"{challenge}'}
    return Problem(401, code, detail, headers=headers)
