"""Twilio's own OpenAPI document, and what it refuses.

Requests are checked before the fake looks at them, and its answers can be checked as well. Form
fields are text; they are read as the types that the document gives them first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from jsonschema import FormatChecker
from jsonschema.protocols import Validator
from multidict import MultiMapping
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4, EMPTY_REGISTRY

ROOT: Final = "/2010-04-01/Accounts/{AccountSid}"
_PHONE: Final = re.compile(r"\+[1-9][0-9]{1,14}|[0-9]{3,8}|(whatsapp|messenger|client|sip):.+")
_URI: Final = "callboard:twilio"


def _is_uri(value: object) -> bool:
    parts = urlsplit(str(value))
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _is_phone(value: object) -> bool:
    return _PHONE.fullmatch(str(value)) is not None


_formats: Final = FormatChecker(formats=())
_formats.checks("uri")(_is_uri)
_formats.checks("phone-number")(_is_phone)
_formats.checks("endpoint")(_is_phone)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the document has against a request."""

    field: str
    reason: str


def complaints_of_form(path: str, form: MultiMapping[str]) -> list[Complaint]:
    """Say what the document refuses in the form of a POST to a path; nothing: it takes it."""
    schema, validator = _form_validator(path)
    values, complaints = _typed(schema["properties"], form)
    for error in validator.iter_errors(values):
        field = error.path[0] if error.path else error.message.split("'")[1]
        complaints.append(Complaint(str(field), error.message))
    return complaints


def complaints_of_answer(path: str, method: str, status: int, answer: Any) -> list[str]:
    """Say where an answer of the fake is not as the document has it."""
    response = _load()["paths"][path][method]["responses"][str(status)]
    schema = response["content"]["application/json"]["schema"]
    return [f"{e.json_path}: {e.message}" for e in _validator(schema).iter_errors(answer)]


@cache
def _load() -> Any:
    return json.loads(Path(__file__).with_name("twilio_api_v2010.json").read_text())


@cache
def _registry() -> Registry[Any]:
    document: Resource[Any] = DRAFT4.create_resource(_load())
    registry: Registry[Any] = EMPTY_REGISTRY.with_resource(_URI, document)
    return registry


def _validator(schema: Mapping[str, Any]) -> Validator:
    absolute = json.loads(json.dumps(schema).replace('"#/', f'"{_URI}#/'))
    validator: Validator = OAS30Validator(absolute, registry=_registry(), format_checker=_formats)
    return validator


@cache
def _form_validator(path: str) -> tuple[Any, Validator]:
    body = _load()["paths"][path]["post"]["requestBody"]
    schema = body["content"]["application/x-www-form-urlencoded"]["schema"]
    return schema, _validator(schema)


def _typed(
    properties: Mapping[str, Any], form: MultiMapping[str]
) -> tuple[dict[str, Any], list[Complaint]]:
    values: dict[str, Any] = {}
    complaints = []
    for name in set(form):
        type_ = properties.get(name, {}).get("type", "string")
        try:
            values[name] = _read(type_, form.getall(name))
        except ValueError:
            complaints.append(Complaint(name, f"is not of type {type_!r}"))
    return values, complaints


def _read(type_: str, texts: Sequence[str]) -> Any:
    if type_ == "array":
        return list(texts)
    text = texts[-1]
    match type_:
        case "integer":
            return int(text)
        case "number":
            return float(text)
        case "boolean":
            return ("false", "true").index(text.lower()) == 1
        case _:
            return text
