"""The schemas of the OpenAPI document: what pydantic says of the models that routes declare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

Schema = dict[str, Any]

Key = tuple[Any, JsonSchemaMode]
"""A type and whether clients send it (validation) or are shown it (serialization)."""

TAKEN: Final = "validation"
SHOWN: Final = "serialization"

_PREFIX: Final = "#/components/schemas/"


class _Untitled(GenerateJsonSchema):
    """Schemas without a title for each field, which only repeats its name.

    What is shown has no defaults either: there they say that a field may be left out.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (pydantic's signature)
        return False

    def default_schema(self, schema: Any) -> Any:
        return (
            self.generate_inner(schema["schema"])
            if self.mode == SHOWN
            else super().default_schema(schema)
        )


class Schemas:
    """The schemas of many types at once; models become components that refer to each other.

    A component bears the name of its class without `Shown`; two of one name are told apart by
    their modules.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        inputs = [(key, key[1], TypeAdapter(key[0])) for key in dict.fromkeys(keys)]
        found, described = TypeAdapter.json_schemas(
            inputs, ref_template=f"{_PREFIX}{{model}}", schema_generator=_Untitled
        )
        components = described.get("$defs", {})
        names = _names(components)
        self.components: dict[str, Schema] = {
            names[name]: _without_title(_renamed(components[name], names)) for name in components
        }
        self._found = {key: _renamed(schema, names) for (key, _mode), schema in found.items()}

    def __getitem__(self, key: Key) -> Schema:
        """Give the schema of a type, a reference if it is a model."""
        return dict(self._found[key])


def _names(components: Mapping[str, Schema]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in components:
        short = re.sub(r"Shown(?=[A-Z])", "", name).rstrip("_").replace("_", "")
        names[name] = short if short not in names.values() else name
    return names


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        return {
            key: _PREFIX + names[value.removeprefix(_PREFIX)]
            if key == "$ref" and isinstance(value, str)
            else _renamed(value, names)
            for key, value in schema.items()
        }
    return [_renamed(part, names) for part in schema] if isinstance(schema, list) else schema


def _without_title(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}


def query_parameters(model: Any) -> list[Schema]:
    """Describe the fields of a query string's model as parameters; null cannot be said in it."""
    described = model.model_json_schema(schema_generator=_Untitled, mode=TAKEN)
    required = described.get("required", [])
    return [
        _query_parameter(name, inlined(schema, described.get("$defs", {})), name in required)
        for name, schema in described["properties"].items()
    ]


def _query_parameter(name: str, schema: Schema, is_required: bool) -> Schema:
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if "anyOf" in schema:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        schema = rest | (options[0] if len(options) == 1 else {"anyOf": options})
    if schema.get("default", ...) is None:
        del schema["default"]
    parameter = {"name": name, "in": "query", "required": is_required}
    if description := schema.pop("description", None):
        parameter["description"] = description
    return {**parameter, "schema": schema}


def inlined(schema: Any, definitions: Mapping[str, Schema]) -> Any:
    """Put definitions where they are referred to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: inlined(value, definitions) for key, value in schema.items()}
    return [inlined(part, definitions) for part in schema] if isinstance(schema, list) else schema
