"""JWTs of a configured issuer (RFC 7519, RFC 8725), as an alternative to tokens of our own.

Taken are RS256, ES256 and EdDSA only, each only with a key of its own type: no key can be used as
a shared secret, and `none` is no algorithm. `iss` and `aud` must be ours, `exp` and `iat` be there,
and the life between them at most `jwt_max_seconds`. Claims: `account_id`, and either a `sub` that
is a user's id or an `email` (refused if `email_verified` is there and not true); `scope` narrows
the role.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import aiohttp
import jwt
import orjson

from runtime import log
from runtime.public_keys import Key, algorithm_of, is_usable, parse_public_keys
from runtime.settings import Settings

logger = log.get(__name__)

LEEWAY_SECONDS: Final = 10
FETCH_SECONDS: Final = 5.0
LARGEST_KEY_SET: Final = 256 << 10
FRESH_SECONDS: Final = 600.0
REFETCH_SECONDS: Final = 30.0
"""How soon an unknown `kid`, or a failed fetch, may cause the next fetch."""

Keys = Sequence[tuple[str | None, Key]]
Fetch = Callable[[str], Any]


class SignedTokenError(Exception):
    """A JWT that is not taken; the text says why, and repeats nothing of it."""


class KeysUnavailableError(Exception):
    """The issuer's keys were never seen, and cannot be fetched now: nothing is known of the JWT."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a JWT that was taken says."""

    id: str | None
    account_id: UUID
    user_id: UUID | None
    email: str | None
    scopes: frozenset[str] | None
    expires_at: datetime


class SignedTokens:
    """Reads JWTs with the issuer's keys: those of the settings, or of its key set (JWKS)."""

    def __init__(
        self,
        settings: Settings,
        fetch: Fetch | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_on = settings.jwt_issuer is not None
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._longest = settings.jwt_max_seconds
        self._url = settings.jwt_jwks_url
        self._fetch = fetch or _fetch
        self._now = now
        own = parse_public_keys(settings.jwt_public_keys or "")
        self._keys: Keys = [(None, key) for key in own]
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def read(self, text: str) -> Claims:
        """Check a JWT and give its claims; a SignedTokenError for one that is not taken.

        KeysUnavailableError while the issuer's keys cannot be had.
        """
        try:
            header = jwt.get_unverified_header(text)
        except jwt.PyJWTError:
            raise SignedTokenError("The access token is no JWT that can be read.") from None
        algorithm = header.get("alg")
        keys = [k for k in await self._keys_for(header.get("kid")) if algorithm_of(k) == algorithm]
        if not keys:
            raise SignedTokenError("The JWT is signed with a key or an algorithm that is not ours.")
        for key in keys[:-1]:
            try:
                return self._claims(self._decode(text, key))
            except jwt.InvalidSignatureError:
                continue
        try:
            return self._claims(self._decode(text, keys[-1]))
        except jwt.InvalidSignatureError:
            raise SignedTokenError("The JWT's signature is wrong.") from None

    def _decode(self, text: str, key: Key) -> dict[str, Any]:
        try:
            return jwt.decode(
                text,
                key,
                algorithms=[algorithm_of(key)],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud"]},
            )
        except jwt.InvalidSignatureError:
            raise
        except jwt.ExpiredSignatureError:
            raise SignedTokenError("The JWT has expired.") from None
        except jwt.ImmatureSignatureError:
            raise SignedTokenError("The JWT is not valid yet.") from None
        except (jwt.InvalidIssuerError, jwt.InvalidAudienceError):
            raise SignedTokenError("The JWT is of another issuer or for somebody else.") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise SignedTokenError("The JWT lacks a claim or holds one that is wrong.") from None

    def _claims(self, claims: Mapping[str, Any]) -> Claims:
        try:
            life = claims["exp"] - claims["iat"]
            expires_at = datetime.fromtimestamp(claims["exp"], UTC)
            account_id = UUID(claims["account_id"])
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, OSError):
            raise SignedTokenError("The JWT names no account_id, or a time is wrong.") from None
        if life > self._longest:
            raise SignedTokenError(f"The JWT may live for {self._longest} s at most.")
        user_id, email = _subject(claims)
        jwt_id = claims.get("jti")
        shown = jwt_id[:200].replace("\x00", "") if isinstance(jwt_id, str) else None
        return Claims(shown, account_id, user_id, email, _scopes(claims), expires_at)

    async def _keys_for(self, kid: object) -> Sequence[Key]:
        name = kid if isinstance(kid, str) else None
        if self._url is None:
            return [key for _, key in self._keys]
        if self._is_stale() or not self._has(name):
            await self._refresh(name)
        if self._fetched_at is None:
            raise KeysUnavailableError("The issuer's keys cannot be had right now.")
        return [key for kid, key in self._keys if name is None or kid == name]

    def _has(self, name: str | None) -> bool:
        return name is None or any(kid == name for kid, _ in self._keys)

    def _is_stale(self) -> bool:
        return self._fetched_at is None or self._now() - self._fetched_at > FRESH_SECONDS

    async def _refresh(self, name: str | None) -> None:
        """Fetch the key set, one at a time and not too often; known keys stay on failure."""
        async with self._fetching:
            if not self._is_stale() and self._has(name):
                return  # another request has fetched it meanwhile
            if self._tried_at is not None and self._now() - self._tried_at < REFETCH_SECONDS:
                return
            self._tried_at = self._now()
            assert self._url is not None
            try:
                self._keys = _keys_of_set(orjson.loads(await self._fetch(self._url)))
                self._fetched_at = self._now()
            except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
                logger.warning("jwks.not_fetched", error=type(error).__name__)


def _subject(claims: Mapping[str, Any]) -> tuple[UUID | None, str | None]:
    try:
        return UUID(claims["sub"]), None
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    email = claims.get("email")
    is_text = isinstance(email, str) and 3 <= len(email) <= 254 and email.isprintable()
    # OpenID Connect has it as a boolean; some issuers write it as text.
    verified = claims.get("email_verified", True)
    if not is_text or not (verified is True or verified == "true"):
        raise SignedTokenError("The JWT names no user: neither sub as an id nor a verified email.")
    return None, email


def _scopes(claims: Mapping[str, Any]) -> frozenset[str] | None:
    if "scope" not in claims:
        return None
    if not isinstance(claims["scope"], str):
        raise SignedTokenError("The JWT's scope is no text.")
    return frozenset(claims["scope"].split())


def _keys_of_set(document: Any) -> Keys:
    """Take the public signing keys of a JWK set (RFC 7517) that are of our types."""
    found: list[tuple[str | None, Key]] = []
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no key set")  # noqa: TRY004 - as for text that is no JSON
    for entry in listed[:100]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
            continue
        try:
            key = jwt.PyJWK(entry).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue  # of a type that we do not know: the issuer may have such
        if is_usable(key):
            kid = entry.get("kid")
            found.append((kid if isinstance(kid, str) else None, key))
    return found


async def _fetch(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as client,
        client.get(url, allow_redirects=False, raise_for_status=True) as response,
    ):
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        raw = bytearray()
        async for chunk in response.content.iter_any():
            raw += chunk
            if len(raw) > LARGEST_KEY_SET:
                raise ValueError("the key set is too large")
        return bytes(raw)
