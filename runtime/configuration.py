"""What is wrong with a value from outside: pydantic's errors as faults with a path and a code.

The API answers with them and activation reports them, so that a wrong field is named in the same
words wherever it is found.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, get_args

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

MOST_FAULTS: Final = 20
"""No more are looked at: a hostile document must not make us write a long report."""

_LONGEST_PART: Final = 100
_MOST_TOLD: Final = 3
_CODES: Final = {"extra_forbidden": "unknown_field"}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where.

    `path` reads like action_config.headers.Accept or contacts[3].email; `code` is stable,
    `message` is for people and may change.
    """

    path: str
    code: str
    message: str


def faults_of_config(model: type[BaseModel], config: Mapping[str, Any], prefix: str) -> list[Fault]:
    """Validate a config as JSON, where strictness lets a UUID or an instant be text."""
    try:
        model.model_validate_json(orjson.dumps(config))
    except ValidationError as error:
        return faults_of(error, model, prefix)
    return []


def faults_of(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Fault]:
    """Give pydantic's errors as faults; unknown names and options get a «did you mean»."""
    details = error.errors(include_url=False)[:MOST_FAULTS]
    return [_fault(detail, model, prefix) for detail in details]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Give a sentence that names the nearest known word, or nothing if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return f" Did you mean '{near[0]}'?" if near else ""


def summary(faults: Sequence[Fault]) -> str:
    """Say in one text what is wrong and where, as far as three things go."""
    places: dict[str, list[str]] = {}
    for fault in faults:
        places.setdefault(fault.message, []).append(fault.path)
    told = [_told(message, paths) for message, paths in islice(places.items(), _MOST_TOLD)]
    return " ".join(told)


def _told(message: str, paths: Sequence[str]) -> str:
    where = ", ".join(filter(None, paths[:_MOST_TOLD])) + ", …" * (len(paths) > _MOST_TOLD)
    return f"{where}: {message}" if where else message


def path_of(parts: Sequence[str | int], prefix: str = "") -> str:
    """Write a place in a JSON document: ('contacts', 3, 'email') is contacts[3].email."""
    path = prefix
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + part[:_LONGEST_PART]
    return path


def _fault(detail: ErrorDetails, model: type[BaseModel], prefix: str) -> Fault:
    kind, loc, context = detail["type"], detail["loc"], detail.get("ctx", {})
    message = sentence(detail["msg"])
    if kind == "extra_forbidden":
        message = f"There is no such field.{did_you_mean(loc[-1], _fields_at(model, loc[:-1]))}"
    elif "expected" in context:
        options = re.findall(r"'([^']*)'", str(context["expected"]))
        message += did_you_mean(detail["input"], options)
    elif "field" in context and "reason" in context:  # raised for a whole model: it names the field
        loc, message = (*loc, str(context["field"])), sentence(str(context["reason"]))
    elif context.get("line"):
        column = f", column {context['column']}" if context.get("column") else ""
        message = sentence(f"line {context['line']}{column}: {detail['msg']}")
    return Fault(path_of(loc, prefix), _CODES.get(kind, kind), message)


def sentence(text: str) -> str:
    """Write what is wrong as a sentence: with a capital letter and its stop."""
    first = text.partition(" ")[0]
    if first.islower() and re.search(r"[_.]\w", first):
        text = f"The field {text}"
    else:
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _fields_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    models = [model]
    for part in loc:
        inner = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if inner:
            models = [found for annotation in inner for found in _models_in(annotation)]
    return [name for found in models for name in found.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
