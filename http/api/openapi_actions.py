"""What the OpenAPI document says of action types: their names, configs and an example of each."""

from __future__ import annotations

from collections.abc import Iterator

from api import action_configs
from api.openapi_schemas import TAKEN, Key, Schema, Schemas
from runtime.registry import Registry


def config_keys(registry: Registry) -> Iterator[Key]:
    """Give the configs of all types, which no body refers to: a draft may hold less of them."""
    for type_ in registry.actions.values():
        yield type_.config, TAKEN


def name_types(body: Schema, schemas: Schemas, registry: Registry) -> None:
    """Add to the body that makes an action which types there are, and an example of each."""
    content = body["content"]["application/json"]
    model = schemas.components[content["schema"]["$ref"].rpartition("/")[2]]
    model["properties"]["action_type"]["enum"] = sorted(registry.actions)
    model["properties"]["action_config"]["description"] = (
        "The schema is the type's: see `GET /api/v1/action-types`, and here the schemas that bear "
        "the types' names. What is required of it may come later, before activation."
    )
    content["examples"] = {
        name: {
            "summary": (type_.config.__doc__ or name).partition("\n")[0],
            "value": {"action_type": name, "action_config": action_configs.defaults(type_)},
        }
        for name, type_ in sorted(registry.actions.items())
    }
