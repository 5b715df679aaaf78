"""Which merge fields there are, and where a text names one that does not exist."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from runtime.configuration import Fault, did_you_mean, path_of
from runtime.registry import ActionType
from runtime.templates import TemplateError, compile_text

CONTACT: Final = frozenset(
    {
        "id", "first_name", "last_name", "email", "phone", "time_zone", "owner_id", "owner", "tags",
        "custom_fields", "created_at", "updated_at",
    }
)  # fmt: skip
FIELDS: Final[Mapping[str, Collection[str] | None]] = {
    "contact": CONTACT,
    "contact.owner": {"id", "name", "email"},
    "account": {"name", "currency"},
    "workflow": {"id", "name", "execution_id", "execution_date"},
    # What they hold is known only when it is there.
    "trigger": None,
    "steps": None,
}
"""What stands under each root; None: anything may."""

Steps = Mapping[str, ActionType]
"""The actions whose results a text may read, by key."""

Path = tuple[str | int, ...]


def faults_of_merge_fields(
    type_: ActionType,
    config: Mapping[str, Any],
    prefix: str,
    steps: Steps,
) -> list[Fault]:
    """Find merge fields that lead nowhere, with line and column.

    Text whose syntax is wrong is passed over: that is a fault of the config itself. Custom fields
    are rows, and looked for as such (actors/referents.py).
    """
    faults = []
    for path, text in texts_of(type_, config):
        try:
            fields = compile_text(text).fields
        except TemplateError:
            continue
        for field in sorted(fields):
            reason = _reason(field.split("."), steps)
            if reason is not None:
                line, column = place_of(text, field)
                message = f"{reason} (line {line}, column {column})"
                faults.append(Fault(path_of(path, prefix), "merge_field_unknown", message))
    return faults


def texts_of(type_: ActionType, config: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Give all texts of a config that are rendered, with their paths."""
    pending: list[tuple[Path, Any]] = [
        ((name,), value) for name, value in config.items() if name not in type_.verbatim
    ]
    while pending:
        path, value = pending.pop()
        match value:
            case str():
                yield path, value
            case dict():
                pending += [((*path, str(key)), inner) for key, inner in value.items()]
            case list():
                pending += [((*path, number), inner) for number, inner in enumerate(value)]


def _reason(parts: list[str], steps: Steps) -> str | None:
    """Say why a merge field leads nowhere; None if it may lead somewhere."""
    root, *rest = parts
    if root not in FIELDS:
        return f"There is nothing called {{{{{root}}}}}.{did_you_mean(root, _roots())}"
    if root == "steps":
        return _reason_of_step(rest, steps) if rest else None
    known = FIELDS[root]
    if not rest or known is None:
        return None
    if (reason := _unknown(f"field of {root}", rest[0], known)) or not rest[1:]:
        return reason
    inner = FIELDS.get(f"{root}.{rest[0]}")
    return _unknown(f"field of {root}.{rest[0]}", rest[1], inner) if inner else None


def _reason_of_step(rest: list[str], steps: Steps) -> str | None:
    key, *fields = rest
    if key not in steps:
        hint = did_you_mean(key, steps)
        return f"No action with the key {key} comes before this one.{hint}"
    gives = steps[key].gives
    return _unknown(f"result of {key}", fields[0], gives) if fields and gives else None


def _unknown(what: str, name: str, known: Collection[str]) -> str | None:
    return None if name in known else f"There is no {what} {name}.{did_you_mean(name, known)}"


def _roots() -> list[str]:
    return [name for name in FIELDS if "." not in name]


def place_of(text: str, field: str) -> tuple[int, int]:
    """Find line and column at which a text names a field: by dots, or else by its root."""
    root, *rest = field.split(".")
    dotted = r"\s*\.\s*".join(map(re.escape, [root, *rest]))
    found = re.search(rf"\b{dotted}", text) or re.search(rf"\b{re.escape(root)}\b", text)
    at = found.start() if found else 0
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
