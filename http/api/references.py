"""Where-used, as routes: which actions refer to a tag, a stage, a user and so on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from api import files, pipeline_stages
from api.access import Permission
from api.answers import answer
from api.calls import Call, Handler, Route
from api.campaigns import CAMPAIGNS
from api.courses import COURSES
from api.custom_fields import CUSTOM_FIELDS
from api.pipelines import PIPELINES
from api.resources import Resource
from api.shown import Listing
from api.tags import TAGS
from api.teams import TEAMS
from api.templates import TEMPLATES
from api.users import USERS
from api.uses import ShownUse, find_uses

Find = Callable[[Call], Awaitable[Mapping[str, Any]]]
"""Finds the row of the path, or raises its 404 Problem."""

RESOURCES: Final = (TAGS, CAMPAIGNS, PIPELINES, USERS, TEAMS, CUSTOM_FIELDS, TEMPLATES, COURSES)


def _references(kind: str, column: str, find: Find) -> Handler:
    async def list_references(call: Call) -> web.Response:
        """List the actions that refer to it, in drafts and in versions that are in force."""
        row = await find(call)
        target = str(row[column]).lower()
        registry = call.services.registry
        uses = await find_uses(call.pool, registry, call.account_id, kind, target)
        return answer({"items": uses})

    list_references.__name__ = f"of_{kind}"  # the operation's id
    return list_references


def _of_resource(resource: Resource) -> Route:
    async def find(call: Call) -> Mapping[str, Any]:
        return await resource.find(call, call.pool)

    assert resource.referred_by is not None
    handler = _references(resource.word, resource.referred_by, find)
    return _route(f"{resource.path}/{{{resource.word}_id}}", handler)


def _route(path: str, handler: Handler) -> Route:
    return Route(
        "GET",
        f"{path}/references",
        handler,
        Permission.READ,
        answers={200: Listing[ShownUse]},
    )


ROUTES: Final = (
    *map(_of_resource, RESOURCES),
    _route(
        "/api/v1/pipelines/{pipeline_id}/stages/{stage_id}",
        _references("stage", "id", pipeline_stages.find),
    ),
    _route("/api/v1/files/{file_id}", _references("file", "id", files.find)),
)
