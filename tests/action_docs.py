"""The reference of the actions, actors/README.md, as tests read it: sections, tables, examples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.registry import ActionType

PAGE: Final = Path(__file__).resolve().parent.parent / "actors" / "README.md"

_SECTION: Final = re.compile(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_ROW: Final = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.+?) \|$", re.MULTILINE)
_GIVEN: Final = re.compile(r"^- `(\w+)`: (.+)$", re.MULTILINE)
_EXAMPLE: Final = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Section:
    """What the page says of one type: its fields with kind and default, what it gives, examples."""

    name: str
    text: str

    @property
    def fields(self) -> dict[str, tuple[str, str]]:
        """Kind and default of each field."""
        return {name: (kind, default) for name, kind, default, _ in _ROW.findall(self.text)}

    @property
    def given(self) -> dict[str, str]:
        """What later steps can name."""
        return dict(_GIVEN.findall(self.text))

    @property
    def example(self) -> str:
        """The config that is shown, as JSON."""
        (example,) = _EXAMPLE.findall(self.text)
        return str(example)


def sections() -> list[Section]:
    """Read the page."""
    return [Section(*found) for found in _SECTION.findall(PAGE.read_text())]


def fields_of(type_: ActionType) -> dict[str, tuple[str, str]]:
    """Kind and default of each field of a type, as the page has to say them."""
    schema = type_.config.model_json_schema()
    needed = schema.get("required", [])
    return {
        name: (_kind(part, schema.get("$defs", {})), _default(name, part, needed))
        for name, part in schema.get("properties", {}).items()
    }


def _default(name: str, part: Mapping[str, Any], needed: list[str]) -> str:
    if name in needed:
        return "required"
    if "default" not in part:  # made anew for each config: an empty list or object
        return "none"
    default = part["default"]
    return "none" if default in (None, "") else f"`{json.dumps(default)}`"


def _kind(part: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return _kind(defs[part["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in part:
        kinds = [_kind(one, defs) for one in part["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in part:
        return ", ".join(f"`{word}`" for word in part["enum"])
    if part.get("type") == "array":
        return f"list of {_kind(part.get('items', {}), defs)}"
    least, most = part.get("minimum"), part.get("maximum")
    formats = {"uuid": "id", "time": "time", "date-time": "date or datetime"}
    word = formats.get(part.get("format", ""), {"string": "text"}.get(part["type"], part["type"]))
    if least is not None and most is not None:
        return f"{word} {least:,} to {most:,}"
    return str(word) if least is None else f"{word} from {least:g}"
