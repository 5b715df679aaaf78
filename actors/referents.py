"""What action configs refer to: rows of the account, by id, by name or by key.

Each action type declares its fields in `ActionType.refers`: the place in the config to the kind of
what stands there. In a place `[]` stands for every item of a list, `[2]` for one item, `{}` for
every key of an object.
Merge fields name custom fields, too. What is only known after rendering is no reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from actors.addresses import has_merge_fields
from actors.merge_fields import place_of, texts_of
from runtime.configuration import path_of
from runtime.registry import ActionType
from runtime.templates import TemplateError, compile_text

BY_ID: Final = frozenset(
    {
        "user", "team", "campaign", "pipeline", "stage", "template", "file", "course",
        "integration", "page",
    }
)  # fmt: skip
"""Kinds whose rows are named by their id."""

_STEP: Final = re.compile(r"\.|(?=\[\d*\]|\{\})")
_CUSTOM: Final = "custom_fields."
_CUSTOM_FIELD: Final = re.compile(r"contact\.custom_fields\.([a-z][a-z0-9_]{0,63})")


@dataclass(frozen=True, slots=True)
class Referent:
    """What a place of a config refers to: a row's id, a tag's name in lower case, a field's key."""

    kind: str
    target: str
    path: str
    place: tuple[int, int] | None = None
    """Line and column of a merge field in its text."""


def referents_of(type_: ActionType, config: Mapping[str, Any]) -> list[Referent]:
    """Find all that a config refers to."""
    places = type_.refers(config) if callable(type_.refers) else type_.refers
    found = [
        Referent(kind, target, path_of(path))
        for place, kind in places.items()
        for path, value in _values(config, _STEP.split(place), ())
        if (target := _target(kind, value)) is not None
    ]
    return found + list(_custom_fields_rendered(type_, config))


def _values(
    value: Any, steps: Sequence[str], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if not steps:
        yield path, value
        return
    step, *rest = steps
    if step.startswith("["):
        for number, inner in enumerate(value if isinstance(value, list) else ()):
            if step in {"[]", f"[{number}]"}:
                yield from _values(inner, rest, (*path, number))
    elif step == "{}":
        for key in value if isinstance(value, dict) else ():
            yield (*path, key), key
    elif isinstance(value, dict) and value.get(step) is not None:
        yield from _values(value[step], rest, (*path, step))


def _target(kind: str, value: Any) -> str | None:
    """Bring a value to the form that targets of its kind have; None for what names no row."""
    if not isinstance(value, str) or has_merge_fields(value):
        return None
    if kind in BY_ID:
        try:
            return str(UUID(value))
        except ValueError:
            return None
    if kind == "custom_field":
        is_bare = "." not in value
        return value if is_bare and value not in _STANDARD else _custom_key(value)
    return value.strip().lower()


# What update_contact and wait_until_date name beside custom fields.
_STANDARD: Final = frozenset(
    {
        "first_name", "last_name", "email", "phone", "time_zone", "owner_id", "created_at",
        "updated_at",
    }
)  # fmt: skip


def _custom_key(value: str) -> str | None:
    return value.removeprefix(_CUSTOM) if value.startswith(_CUSTOM) else None


def _custom_fields_rendered(type_: ActionType, config: Mapping[str, Any]) -> Iterator[Referent]:
    for path, text in texts_of(type_, config):
        try:
            fields = compile_text(text).fields
        except TemplateError:  # reported as a fault of the config
            continue
        for field in sorted(fields):
            if match := _CUSTOM_FIELD.match(field):
                yield Referent("custom_field", match[1], path_of(path), place_of(text, field))
