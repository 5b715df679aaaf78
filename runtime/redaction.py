"""What must not be read by everybody who reads logs: one place for secrets and personal data.

`redacted` takes secrets out of values by the names of their fields (for the audit log and for log
lines alike); `redact_text` takes e-mail addresses, phone numbers, tokens and passwords in addresses
out of text, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

SECRET: Final = "(redacted)"  # noqa: S105 (what stands in a secret's place)
DEEPEST: Final = 64

_SECRET_NAME: Final = re.compile(
    r"(^|[_-])(auth[_-]?config|secrets?|password|passwd|passphrase|credentials?|authorization|"
    r"api[_-]?key|private[_-]?key|signing[_-]?key|secret[_-]?keys?|token|access[_-]?token|"
    r"auth[_-]?token|bearer|cookie|set[_-]cookie)$",
    re.IGNORECASE,
)
_PLACE: Final = re.compile(r"(database|dsn|db)[_-]?ur[il]$", re.IGNORECASE)

_EMAIL: Final = re.compile(r"[^\s@<>()\[\]\"',;:=/\\]{1,64}@(?:[\w-]{1,63}\.){1,8}\w[\w-]{0,62}")
_TOKENS: Final = re.compile(
    r"\bcb_[A-Za-z0-9_-]{20,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"
    r"|\b(?:SG\.|sk_|whsec_|xox[bp]-)[A-Za-z0-9_.-]{12,}"
)
_BEARER: Final = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_PASSWORD_IN_URL: Final = re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s:@/]{0,80}):[^\s@/]{1,200}@")
_NAMED: Final = re.compile(
    r"(?P<name>\b(?:password|passwd|secret|api_?key|auth_?token|access_?token|private_?key))"
    r"(?P<is>[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}\)]{1,200}",
    re.IGNORECASE,
)
# With a plus, or grouped as people write numbers: never a bare run of digits, which may be a count
# or an id, and never within a UUID, an instant or an IP address.
_PHONE: Final = re.compile(
    r"(?<![\w.:-])(?:\+\d(?:[ ().-]{0,2}\d){6,14}"
    r"|\(\d{2,5}\)[ .-]?\d{3,5}[ .-]?\d{3,5}"
    r"|\d{3}[ .-]\d{3}[ .-]\d{4})(?![\w-])"
)


@lru_cache(maxsize=4096)
def is_secret_name(name: object) -> bool:
    """Whether a field of this name holds a secret."""
    return isinstance(name, str) and bool(_SECRET_NAME.search(name) or _PLACE.search(name))


def redacted(value: Any, depth: int = 0) -> Any:
    """Give a copy without the values of fields that hold secrets; null stays null."""
    if depth > DEEPEST:
        return SECRET
    if isinstance(value, Mapping):
        return {
            key: SECRET
            if is_secret_name(key) and held not in (None, "")
            else redacted(held, depth + 1)
            for key, held in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(held, depth + 1) for held in value]
    return value


def redact_text(text: str) -> str:
    """Give the text without addresses, phone numbers, tokens and passwords."""
    text = _PASSWORD_IN_URL.sub(rf"\1:{SECRET}@", text)
    text = _TOKENS.sub("(token)", text)
    text = _BEARER.sub(r"\1 (token)", text)
    text = _NAMED.sub(rf"\g<name>\g<is>{SECRET}", text)
    text = _EMAIL.sub("(e-mail)", text) if "@" in text else text
    return _PHONE.sub("(phone)", text)
