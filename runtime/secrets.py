"""Secrets at rest: AES-256-GCM under a key from the environment, bound to the place they stand in.

A sealed secret is text, fit for a column or for JSON: `cbs1.<key id>.<base64url of nonce and
ciphertext>`. The place (`<account>:<table>:<row>:<field>`) is authenticated along with it, so that
a sealed secret that is copied into another row cannot be opened there. Rotation: a new key is put
in front of CALLBOARD_SECRET_KEYS, what older keys have sealed still opens, and is sealed anew as
`is_current` says.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.secret_keys import KEY_BYTES, parse_keys
from runtime.settings import Settings
from runtime.signing import Signer

_PREFIX: Final = "cbs1"
_NONCE_BYTES: Final = 12  # NIST SP 800-38D: random nonces of 96 bits, for up to 2^32 secrets a key
_KEY_FILE: Final = "secret.key"


class VaultError(Exception):
    """A secret cannot be sealed or opened; the text holds nothing of it.

    `code`: secret_key_missing, secret_key_unknown, secret_damaged.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Vault:
    """Seals and opens secrets; the first of its keys seals, all of them open."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._current = next(iter(keys), None)
        self._keys = tuple(keys.values())
        self._link_keys = tuple(hmac.digest(k, b"callboard:links", "sha256") for k in self._keys)

    @property
    def link_keys(self) -> tuple[bytes, ...]:
        """What signs links in messages: a key derived from each of these, the first one signs."""
        return self._link_keys

    @property
    def has_key(self) -> bool:
        """Whether there is a key to seal and to sign with."""
        return self._current is not None

    def seal(self, secret: str, place: str) -> str:
        """Encrypt a secret for the place where it will stand; VaultError without a key."""
        if self._current is None:
            raise VaultError("secret_key_missing", "CALLBOARD_SECRET_KEYS is not set.")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, secret.encode(), place.encode())
        body = base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")
        return f"{_PREFIX}.{self._current}.{body}"

    def open(self, sealed: str, place: str) -> str:
        """Decrypt what was sealed for this place; VaultError if it was not, or is damaged."""
        key, body = _parts(sealed)
        if key not in self._ciphers:
            message = f"CALLBOARD_SECRET_KEYS has no key named {key}."
            raise VaultError("secret_key_unknown", message)
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        try:
            plain = self._ciphers[key].decrypt(
                raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()
            )
        except (InvalidTag, ValueError):
            message = "A secret is damaged, or stands where it was not put."
            raise VaultError("secret_damaged", message) from None
        return plain.decode()

    def signer(self, purpose: str) -> Signer:
        """Give what signs links of one purpose with keys derived from these."""
        return Signer(self._keys, purpose)

    def is_current(self, sealed: str) -> bool:
        """Whether the key that seals now has sealed this; otherwise it is to be sealed anew."""
        return _parts(sealed)[0] == self._current


def is_sealed(value: object) -> bool:
    """Whether a value has the form of a sealed secret."""
    return isinstance(value, str) and value.startswith(f"{_PREFIX}.")


def vault_of(settings: Settings) -> Vault:
    """Build the vault of a process.

    Keys come from CALLBOARD_SECRET_KEYS. Without it the embedded server has a key of its own,
    in a file beside it that only its owner reads; on any other server there is none, and sealing
    is refused.
    """
    if settings.secret_keys is not None:
        return Vault(parse_keys(settings.secret_keys.get_secret_value()))
    if settings.database_url is None:
        return Vault({"local": _local_key(settings.data)})
    return Vault({})


def _local_key(folder: Path) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _KEY_FILE
    # Whole from the start, and the first of two who make it at once wins.
    fresh = folder / f"{_KEY_FILE}.{os.getpid()}"
    if not path.exists():
        fresh.touch(mode=0o600)
        fresh.write_bytes(secrets.token_bytes(KEY_BYTES))
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    return path.read_bytes()


def _parts(sealed: str) -> tuple[str, str]:
    match sealed.split("."):
        case [prefix, key, body] if prefix == _PREFIX:
            return key, body
    raise VaultError("secret_damaged", "This is no sealed secret.")
