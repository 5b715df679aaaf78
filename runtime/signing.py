"""Signed tokens for links: bytes that only we can have written, fit for a URL.

Whoever has the link may see what it leads to; nobody can make one for something else. Each purpose
signs with a key of its own, derived from those of CALLBOARD_SECRET_KEYS: the first signs, all of
them verify, so that links survive a rotation until the old key is taken away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

MAC_BYTES: Final = 16  # RFC 2104: at least half of the hash
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22,4000}")


class Signer:
    """Signs and verifies for one purpose; without a key it signs nothing and verifies nothing."""

    def __init__(self, keys: Iterable[bytes], purpose: str) -> None:
        self._keys = [hmac.digest(key, f"callboard:{purpose}".encode(), "sha256") for key in keys]

    def sign(self, message: bytes) -> str:
        """Write the token of a message; a LookupError without a key."""
        if not self._keys:
            raise LookupError("CALLBOARD_SECRET_KEYS is not set.")
        return _written(message + _mac(self._keys[0], message))

    def verify(self, token: str) -> bytes | None:
        """Give the message of a token that we wrote; None for anything else."""
        raw = _read(token)
        if raw is None:
            return None
        message, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        is_ours = [hmac.compare_digest(_mac(key, message), mac) for key in self._keys]
        return message if any(is_ours) else None


class Sealer:
    """Seals for one purpose: a token says nothing to whoever has it, and only we can write one.

    AES-256-SIV (RFC 5297) needs no nonce: the same message gives the same token.
    """

    def __init__(self, keys: Iterable[bytes], purpose: str) -> None:
        name = f"callboard:{purpose}:sealed".encode()
        self._ciphers = [AESSIV(hmac.digest(key, name, "sha512")) for key in keys]

    def seal(self, message: bytes) -> str:
        """Write the token of a message that is not empty; a LookupError without a key."""
        if not self._ciphers:
            raise LookupError("CALLBOARD_SECRET_KEYS is not set.")
        return _written(self._ciphers[0].encrypt(message, None))

    def open(self, token: str) -> bytes | None:
        """Give the message of a token that we wrote; None for anything else."""
        raw = _read(token)
        for cipher in self._ciphers if raw is not None else ():
            with suppress(InvalidTag, ValueError):
                return cipher.decrypt(raw or b"", None)
        return None


def _written(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read(token: str) -> bytes | None:
    if not _TOKEN.fullmatch(token):
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    # Unpadded base64 leaves bits over: only the token as we write it is ours.
    return raw if _written(raw) == token else None


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)[:MAC_BYTES]
