"""How the keys that seal secrets are written in CALLBOARD_SECRET_KEYS."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from contextlib import suppress
from typing import Final

KEY_BYTES: Final = 32

_KEY: Final = re.compile(r"([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/_=-]{43,44})")


def parse_keys(text: str) -> dict[str, bytes]:
    """Read `name:key,name:key`, each key 32 bytes in base64; ValueError says what is wrong."""
    keys: dict[str, bytes] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _KEY.fullmatch(part)
        if match is None or match[1] in keys:
            raise ValueError("must be name:key,name:key with 32 bytes in base64 as each key")
        with suppress(binascii.Error, ValueError):
            padded = match[2] + "=" * (-len(match[2]) % 4)
            keys[match[1]] = base64.urlsafe_b64decode(padded.replace("+", "-").replace("/", "_"))
        if len(keys.get(match[1], b"")) != KEY_BYTES:
            raise ValueError(f"the key named {match[1]} is not 32 bytes in base64")
    if not keys:
        raise ValueError("holds no key")
    return keys


def new_key(name: str) -> str:
    """Make a key and write it as CALLBOARD_SECRET_KEYS takes it; put it in front of the others."""
    return f"{name}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"
