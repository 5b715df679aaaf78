"""Values of requests and results as they are shown: without secrets, and not at any length."""

from __future__ import annotations

import re
from typing import Any, Final

LONGEST_TEXT: Final = 500
MOST_PARTS: Final = 50
DEEPEST: Final = 8

_SECRET: Final = re.compile(
    r"authori[sz]ation|secret|passw|token|api[-_]?key|credential|signature|cookie|session",
    re.IGNORECASE,
)
HIDDEN: Final = "(hidden)"


def bounded(value: Any, depth: int = 0) -> Any:
    """Show a JSON value: secrets by their names hidden, long texts and lists cut.

    Headers are shown by name alone: any of them may carry a key.
    """
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…"
    if not isinstance(value, dict | list):
        return value
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, list):
        shown = [bounded(part, depth + 1) for part in value[:MOST_PARTS]]
        return shown if len(value) <= MOST_PARTS else [*shown, "…"]
    return {
        name[:LONGEST_TEXT]: _hidden(part) if _is_secret(name) else bounded(part, depth + 1)
        for name, part in list(value.items())[:MOST_PARTS]
    }


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) or name.lower() in {"headers", "auth"}


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return dict.fromkeys(list(value)[:MOST_PARTS], HIDDEN)
    return HIDDEN if value is not None else None
