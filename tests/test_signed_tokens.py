"""JWTs of a configured issuer, and what is not taken for one."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import jwt
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from api.signed_tokens import (
    REFETCH_SECONDS,
    KeysUnavailableError,
    SignedTokenError,
    SignedTokens,
)
from runtime.settings import Settings
from tests.api_desk import Caller, open_desk

KEY = generate_private_key(SECP256R1())
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CONFIGURED = {"jwt_issuer": "https://id.example.com", "jwt_audience": "callboard"}


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    known = {
        "iss": "https://id.example.com",
        "aud": "callboard",
        "iat": now,
        "exp": now + 300,
        "account_id": str(uuid4()),
        "sub": str(uuid4()),
        **changed,
    }
    return {name: value for name, value in known.items() if value is not None}


async def test_a_jwt_speaks_for_a_user_whose_role_its_scope_narrows(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    async with open_desk(
        pool, settings.model_copy(update={**CONFIGURED, "jwt_public_keys": PEM})
    ) as desk:
        account = await pool.fetchval("insert into accounts (name) values ('A') returning id")
        user = await pool.fetchval(
            "insert into users (account_id, email, role) values ($1, 'Ada@example.com', 'editor')"
            " returning id",
            account,
        )

        def with_jwt(**changed: Any) -> Caller:
            token = jwt.encode(claims(account_id=str(account), **changed), KEY, "ES256")
            return desk.stranger(token)

        me = await with_jwt(sub=str(user), jti="j1").get("/api/v1/me")
        assert (me["user"]["role"], me["token"]["jwt_id"]) == ("editor", "j1")
        narrow = with_jwt(sub="ada", email="ada@example.com", scope="read audit")
        assert (await narrow.get("/api/v1/me"))["permissions"] == ["read"]
        unverified = with_jwt(sub="ada", email="ada@example.com", email_verified="false")
        refusal = await unverified.refused("GET", "/api/v1/me")
        assert (refusal.status, refusal.code) == (401, "jwt_invalid")
        assert 'error="invalid_token"' in refusal.headers["WWW-Authenticate"]
        assert (await with_jwt().refused("GET", "/api/v1/me")).status == 401
        workflow = await with_jwt(sub=str(user), jti="j2").post("/api/v1/workflows", {"name": "W"})
        row = await pool.fetchrow("select token_id, jwt_id from audit_log")
        assert row is not None
        assert (row["token_id"], row["jwt_id"]) == (None, "j2"), workflow


NOW = int(time.time())


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "https://evil.example.com"},
        {"aud": "other"},
        {"exp": NOW - 60, "iat": NOW - 120},
        {"exp": None},
        {"iat": None},
        {"nbf": NOW + 86_400},
        {"iat": NOW + 86_400, "exp": NOW + 86_500},
        {"exp": NOW + 100_000},
        {"account_id": "x"},
        {"account_id": 5},
        {"account_id": None},
        {"sub": "x"},
        {"sub": "x", "email": "a\x00@b"},
        {"scope": ["read"]},
    ],
    ids="_".join,
)
async def test_a_jwt_with_wrong_claims_is_not_taken(changed: dict[str, Any]) -> None:
    signed = SignedTokens(Settings(**CONFIGURED, jwt_public_keys=PEM))  # type: ignore[arg-type]
    with pytest.raises(SignedTokenError):
        await signed.read(jwt.encode(claims(**changed), KEY, "ES256"))


async def test_the_algorithm_is_the_keys_own() -> None:
    signed = SignedTokens(Settings(**CONFIGURED, jwt_public_keys=PEM))  # type: ignore[arg-type]
    other = generate_private_key(SECP256R1())
    hmac = jwt.api_jws.encode(b"{}", "x" * 32, "HS256")
    for text in (
        jwt.encode(claims(), "", "none"),
        hmac,
        jwt.encode(claims(), other, "ES256"),
        jwt.encode(claims(), Ed25519PrivateKey.generate(), "EdDSA"),
        "a.b.c",
        "",
    ):
        with pytest.raises(SignedTokenError):
            await signed.read(text)
    assert (await signed.read(jwt.encode(claims(), KEY, "ES256"))).scopes is None


async def test_keys_are_fetched_once_and_again_for_an_unknown_one_but_not_too_often() -> None:
    old, new = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    published, fetches, now = {"old": old}, [0], [0.0]

    async def fetch(_url: str) -> bytes:
        fetches[0] += 1
        keys = [
            {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid}
            for kid, key in published.items()
        ]
        return orjson.dumps({"keys": [*keys, {"kty": "oct", "k": "AAAA", "kid": "hmac"}]})

    settings = Settings(**CONFIGURED, jwt_jwks_url="https://id.example.com/jwks")  # type: ignore[arg-type]
    signed = SignedTokens(settings, fetch, lambda: now[0])

    def token(kid: str, key: Ed25519PrivateKey) -> str:
        return jwt.encode(claims(), key, "EdDSA", headers={"kid": kid})

    for _ in range(3):
        await signed.read(token("old", old))
    assert fetches == [1]
    published["new"] = new
    for _ in range(3):
        with pytest.raises(SignedTokenError):
            await signed.read(token("new", new))
    assert fetches == [1]
    now[0] += REFETCH_SECONDS
    await signed.read(token("new", new))
    assert fetches == [2]


@dataclass
class Issuer:
    """An issuer that publishes its keys on loopback."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    asked: int = 0
    url: str = ""

    async def publish(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({"keys": self.keys}, status=self.status)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer, app = Issuer(), web.Application()
    app.router.add_get("/jwks", issuer.publish)
    async with TestServer(app) as server:
        issuer.url = str(server.make_url("/jwks"))
        yield issuer


def reader(issuer: Issuer, now: list[float]) -> SignedTokens:
    settings = Settings(**CONFIGURED, jwt_jwks_url=issuer.url)  # type: ignore[arg-type]
    return SignedTokens(settings, now=lambda: now[0])


async def test_keys_come_over_http_of_several_types_with_and_without_names(issuer: Issuer) -> None:
    named, first, second = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        generate_private_key(SECP256R1()),
        generate_private_key(SECP256R1()),
    )
    issuer.keys = [
        {**RSAAlgorithm.to_jwk(named.public_key(), as_dict=True), "kid": "r"},
        ECAlgorithm.to_jwk(first.public_key(), as_dict=True),
        ECAlgorithm.to_jwk(second.public_key(), as_dict=True),
    ]
    signed = reader(issuer, [0.0])
    await signed.read(jwt.encode(claims(), named, "RS256", headers={"kid": "r"}))
    await signed.read(jwt.encode(claims(), first, "ES256"))
    await signed.read(jwt.encode(claims(), second, "ES256"))
    with pytest.raises(SignedTokenError):
        await signed.read(jwt.encode(claims(), named, "RS512", headers={"kid": "r"}))
    assert issuer.asked == 1


async def test_an_issuer_that_is_away_ends_nobody_s_token_and_makes_none_wrong(
    issuer: Issuer,
) -> None:
    issuer.status, now = 500, [0.0]
    signed, text = reader(issuer, now), jwt.encode(claims(), KEY, "ES256", headers={"kid": "a"})
    for _ in range(3):
        with pytest.raises(KeysUnavailableError):
            await signed.read(text)
    assert issuer.asked == 1
    issuer.keys = [{**ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "a"}]
    issuer.status, now[0] = 200, REFETCH_SECONDS
    await signed.read(text)
    issuer.status, now[0] = 500, 10_000.0
    await signed.read(text)
    assert issuer.asked == 3


async def test_without_the_issuer_s_keys_the_answer_is_503_and_no_guess_is_counted(
    issuer: Issuer, pool: asyncpg.Pool, settings: Settings
) -> None:
    issuer.status = 500
    configured = settings.model_copy(
        update={**CONFIGURED, "jwt_jwks_url": issuer.url, "api_failures_per_minute": 1}
    )
    async with open_desk(pool, configured) as desk:
        stranger = desk.stranger(jwt.encode(claims(), KEY, "ES256"))
        for _ in range(3):
            answer = await stranger.call("GET", "/api/v1/me")
            assert (answer.status, answer.code) == (503, "issuer_keys_unavailable")
            assert answer.headers["Retry-After"] == "30"
