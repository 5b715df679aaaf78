"""JSON that came from outside, brought to what PostgreSQL can keep."""

from __future__ import annotations

from typing import Any

REPLACEMENT = "\ufffd"


def storable_text(text: str) -> str:
    """Replace NUL and lone surrogates, which JSON may carry and a text column cannot."""
    return text.replace("\x00", REPLACEMENT).encode("utf-8", "replace").decode()


def storable(value: Any) -> Any:
    """Do the same in every text and key of a JSON value."""
    match value:
        case str():
            return storable_text(value)
        case list():
            return [storable(inner) for inner in value]
        case dict():
            return {storable_text(key): storable(inner) for key, inner in value.items()}
    return value
