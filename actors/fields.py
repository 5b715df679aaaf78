"""The kinds of value that action configs are made of.

Models are strict and refuse unknown fields. They are validated from JSON, where strictness lets
a UUID, an instant or a time of day be text and nothing else be coerced. A value that is missing
(error types `missing` and `incomplete`) leaves a draft incomplete; any other error is refused.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from runtime.templates import TemplateError, compile_text

INCOMPLETE = ("missing", "incomplete")
"""Error types that say «not yet there» instead of «wrong»."""


class Config(BaseModel):
    """The base of all config models: strict, closed, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def misfit(code: str, field: str, reason: str) -> PydanticCustomError:
    """Build the error that a model's validator raises for one of its fields, given by its path."""
    return PydanticCustomError(code, "{field}: {reason}", {"field": field, "reason": reason})


def incomplete(field: str, reason: str) -> PydanticCustomError:
    """Build the error for a field that another field's value makes required."""
    return misfit("incomplete", field, reason)


def storable(text: str) -> str:
    """Refuse what JSON may carry and PostgreSQL text cannot: NUL and lone surrogates."""
    if "\x00" in text:
        raise PydanticCustomError("nul_character", "text must not contain NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("lone_surrogate", "text must be valid Unicode") from None
    return text


def template(text: str) -> str:
    """Refuse a text whose merge fields do not parse, with line and column."""
    try:
        compile_text(storable(text))
    except TemplateError as error:
        raise PydanticCustomError(
            "template_error",
            "{reason}",
            {
                "code": error.code,
                "reason": error.message,
                "line": error.line,
                "column": error.column,
            },
        ) from None
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "a text is needed, not white space alone")
    return text


MERGE_FIELDS = {"x-merge-fields": True}

MergeText = Annotated[str, AfterValidator(template), Field(json_schema_extra=MERGE_FIELDS)]
"""Text with merge fields; may be empty, and may render empty."""

RequiredMergeText = Annotated[
    str,
    Field(min_length=1, json_schema_extra=MERGE_FIELDS),
    AfterValidator(_not_blank),
    AfterValidator(template),
]
"""Text with merge fields that must not be blank before rendering."""

PlainText = Annotated[str, AfterValidator(storable)]
"""Text taken as it is."""


def _templates(value: Any) -> Any:
    match value:
        case str():
            template(value)
        case dict():
            for key, inner in value.items():
                storable(key)
                _templates(inner)
        case list():
            for inner in value:
                _templates(inner)
    return value


MergeValue = Annotated[
    Any,
    AfterValidator(_templates),
    WithJsonSchema({"description": "any JSON value", **MERGE_FIELDS}),
]
"""Any JSON value; every text in it may hold merge fields."""
