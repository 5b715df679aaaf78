"""The palette: every action type with the JSON Schema of its config."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from api import action_configs
from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.fields import Object
from api.shown import Listing, Shown
from runtime.registry import ActionType


class ShownActionType(Shown):
    """An action type; `is_available` says whether workflows that hold it can be activated.

    `gives` are its results with what they hold: later steps read them as {{steps.<key>.<name>}}.
    `emits` are the domain events that it may emit.
    """

    name: str
    family: str
    is_available: bool
    description: str
    config_schema: Object
    default_config: Object
    gives: dict[str, str]
    emits: list[str]


async def list_all(call: Call) -> web.Response:
    """List the action types by name."""
    actions = call.services.registry.actions
    return answer({"items": [_show(actions[name]) for name in sorted(actions)]})


def _show(type_: ActionType) -> dict[str, Any]:
    return {
        "name": type_.name,
        "family": type_.family,
        "is_available": type_.perform is not None,
        "description": (type_.config.__doc__ or "").strip().partition("\n")[0],
        "config_schema": type_.config.model_json_schema(),
        "default_config": action_configs.defaults(type_),
        "gives": dict(type_.gives),
        "emits": sorted(type_.emits),
    }


ROUTES: Final = (
    Route(
        "GET",
        "/api/v1/action-types",
        list_all,
        Permission.READ,
        answers={200: Listing[ShownActionType]},
    ),
)
