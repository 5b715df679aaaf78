"""The OpenAPI 3.1 document: everything that routes declare, and nothing that is written twice."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from actors.message_permission import CHANNELS
from api.access import PERMITS
from api.action_requests import NewAction
from api.calls import PublicRoute, Route
from api.openapi_actions import config_keys, name_types
from api.openapi_answers import HEADERS, PARAMETERS, PROBLEM, headers_of, name_of, problem, success
from api.openapi_schemas import SHOWN, TAKEN, Key, Schema, Schemas, query_parameters
from api.shown import Download
from api.uploads import FORM
from runtime.registry import Registry

_INTRODUCTION: Final = """\
Defines workflows, lets contacts in, and shows how they go on.

Ids are UUIDs, instants RFC 3339 in UTC. What is refused is `application/problem+json` (RFC 9457) \
with a stable `code`; wrong fields are named by their paths. Unknown fields and parameters are \
refused. Text holds no NUL. What belongs to another account is answered as if it did not exist."""

_FORM: Final[Schema] = {
    "schema": {
        "type": "object",
        "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
        "required": ["file"],
    }
}
_UUID: Final[Schema] = {"type": "string", "format": "uuid"}


VERSION: Final = "1"
"""Of the API: what /api/v1 means."""


def document(routes: Iterable[Route | PublicRoute], registry: Registry) -> Schema:
    """Describe the routes; public ones only where they declare what they answer."""
    told = [route for route in routes if isinstance(route, Route) or route.answers]
    schemas = Schemas(_keys(told, registry))
    refusals = sorted({status for route in told for status in route.refusals})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Callboard", "version": VERSION, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": _tags(told),
        "paths": _paths(told, schemas, registry),
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {name_of(status): problem(status, schemas) for status in refusals},
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `run.py token create`, or of `POST /api/v1/tokens`.",
                }
            },
        },
    }


def _keys(routes: Sequence[Route | PublicRoute], registry: Registry) -> Iterator[Key]:
    yield PROBLEM
    yield from config_keys(registry)
    for route in routes:
        if isinstance(route, Route) and route.body:
            yield route.body, TAKEN
        for declared in route.answers.values():
            if declared is not None and not isinstance(declared, Download):
                yield declared, SHOWN


def _paths(
    routes: Sequence[Route | PublicRoute], schemas: Schemas, registry: Registry
) -> dict[str, Schema]:
    paths: dict[str, Schema] = {}
    for route in routes:
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)
        operation = _operation(route, path, schemas)
        if isinstance(route, Route) and route.body is NewAction:
            name_types(operation["requestBody"], schemas, registry)
        paths.setdefault(path, {})[route.method.lower()] = operation
    return paths


def _operation(route: Route | PublicRoute, path: str, schemas: Schemas) -> Schema:
    summary, description = _told(route.handler)
    operation: Schema = {
        "operationId": f"{_module(route)}_{route.handler.__name__}",
        "tags": [_module(route)],
        "summary": summary,
        "parameters": [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", path)],
        "responses": _responses(route, schemas),
    }
    if isinstance(route, PublicRoute):
        operation["security"] = []
    else:
        description += (
            f"\n\nNeeds the permission `{route.permission}`: {PERMITS[route.permission]}."
        )
        operation["parameters"] += query_parameters(route.parameters) if route.parameters else []
        if route.method != "GET":
            operation["parameters"].append({"$ref": "#/components/parameters/IfMatch"})
        if route.method == "POST":
            operation["parameters"].append({"$ref": "#/components/parameters/IdempotencyKey"})
        if body := _body(route, schemas):
            operation["requestBody"] = body
    return {**operation, "description": description.strip()}


def _responses(route: Route | PublicRoute, schemas: Schemas) -> Schema:
    found = {
        str(status): success(status, declared, schemas)
        for status, declared in route.answers.items()
    }
    if "201" in found:
        found["201"]["headers"]["Location"] = {"$ref": "#/components/headers/Location"}
    if isinstance(route, Route):
        for status in route.answers:
            found[str(status)]["headers"] |= headers_of(route.method, status)
    for status in sorted(route.refusals):
        found[str(status)] = {"$ref": f"#/components/responses/{name_of(status)}"}
    return found


def _body(route: Route, schemas: Schemas) -> Schema | None:
    content: Schema = {
        media_type: _FORM if media_type == FORM else {} for media_type in route.upload
    }
    if route.body:
        content["application/json"] = {"schema": schemas[route.body, TAKEN]}
    return {"required": not route.body_is_optional, "content": content} if content else None


_NAMED: Final[dict[str, Schema]] = {"channel": {"type": "string", "enum": list(CHANNELS)}}


def _path_parameter(name: str) -> Schema:
    schema = _UUID if name.endswith("_id") else _NAMED.get(name, {"type": "string"})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _told(handler: Callable[..., Any]) -> tuple[str, str]:
    """Give the first sentence of a handler's docstring, and the rest of it."""
    line, _, rest = (inspect.getdoc(handler) or "").partition("\n")
    return line.removesuffix("."), rest.strip()


def _module(route: Route | PublicRoute) -> str:
    return route.handler.__module__.rpartition(".")[2]


def _tags(routes: Iterable[Route | PublicRoute]) -> list[Schema]:
    modules = dict.fromkeys(route.handler.__module__ for route in routes)
    return [
        {
            "name": name.rpartition(".")[2],
            "description": (sys.modules[name].__doc__ or "").partition("\n\n")[0],
        }
        for name in modules
    ]
