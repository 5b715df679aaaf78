"""JWTs of a configured issuer, and what is not taken for one."""

import time
from typing import Any
from uuid import uuid4

import asyncpg
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from api.signed_tokens import REFETCH_SECONDS, SignedTokenError, SignedTokens
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
        unverified = with_jwt(sub="ada", email="ada@example.com", email_verified=False)
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
