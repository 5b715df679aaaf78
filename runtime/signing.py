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
from typing import Final

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
        raw = message + _mac(self._keys[0], message)
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def verify(self, token: str) -> bytes | None:
        """Give the message of a token that we wrote; None for anything else."""
        if not _TOKEN.fullmatch(token):
            return None
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        message, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        # Unpadded base64 leaves bits over: only the token as we write it is ours.
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") != token:
            return None
        is_ours = [hmac.compare_digest(_mac(key, message), mac) for key in self._keys]
        return message if any(is_ours) else None


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)[:MAC_BYTES]
