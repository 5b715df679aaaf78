"""The libraries that scripts may require: vendored, each with its licence and checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

_FOLDER: Final = Path(__file__).parent

MODULES: Final[Mapping[str, Mapping[str, Any]]] = json.loads(
    (_FOLDER / "modules.json").read_text(encoding="utf-8")
)
"""Name (as on npm) to version, licence, origin and SHA-256."""


@cache
def source_of(name: str) -> str:
    """Give a library's source; KeyError for one that is not here."""
    if name not in MODULES:
        raise KeyError(name)
    return (_FOLDER / f"{name}.js").read_text(encoding="utf-8")
