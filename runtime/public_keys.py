"""Public keys of an issuer of JWTs, and the one algorithm that each of them is for.

RSA signs RS256, EC on P-256 ES256, Ed25519 EdDSA (RFC 7518, RFC 8037); nothing else is taken.
"""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

Key = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

SMALLEST_RSA_BITS: Final = 2048
_END: Final = "-----END PUBLIC KEY-----"


def parse_public_keys(text: str) -> list[Key]:
    """Read keys in PEM, one after another (\\n may stand for line ends); ValueError for others."""
    *pems, rest = text.replace("\\n", "\n").split(_END)
    if rest.strip():
        raise ValueError("must hold PEM blocks of a PUBLIC KEY and nothing else")
    keys = []
    for pem in pems:
        key = load_pem_public_key((pem + _END).strip().encode())
        if not is_usable(key):
            raise ValueError("takes RSA from 2048 bits on, EC P-256 and Ed25519 keys only")
        keys.append(key)
    return keys


def is_usable(key: Any) -> TypeGuard[Key]:
    """Whether a key is of a type, and a strength, that we take."""
    match key:
        case RSAPublicKey():
            return key.key_size >= SMALLEST_RSA_BITS
        case EllipticCurvePublicKey():
            return isinstance(key.curve, SECP256R1)
    return isinstance(key, Ed25519PublicKey)


def algorithm_of(key: Key) -> str:
    """The only algorithm that the key verifies."""
    match key:
        case RSAPublicKey():
            return "RS256"
        case EllipticCurvePublicKey():
            return "ES256"
    return "EdDSA"
