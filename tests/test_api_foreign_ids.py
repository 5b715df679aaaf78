"""An id of another account is as unknown as one that never was, wherever a body may hold one.

The places are read from the models themselves, so that a new field takes part by being declared:
one whose name says nothing of what it leads to fails here with what there is to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from pydantic import BaseModel

from actors import registry
from api.calls import Route
from api.server import ROUTES
from runtime.settings import Settings
from tests.api_desk import READY, Answer, Caller, open_desk
from tests.test_api_access import contents_of, filled, owned

ITEM = "[]"
Path = tuple[str, ...]

NAMES = {
    "previous_action_id": "action_id",
    "fallback_action_id": "action_id",
    "related_action_id": "action_id",
    "timeout_branch_id": "branch_id",
    "member_id": "user_id",
    "recipient_id": "user_id",
    "attachment": "file_id",
    "audio_file_id": "file_id",
    "step_id": "action_id",
}
"""What a place leads to, where its own name is not the one that paths have for it."""

ROUTE_BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/workflows/{workflow_id}/actions": {"action_type": "add_tag"},
    "/api/v1/workflows/{workflow_id}/actions/reorder": {"action_ids": []},
    "/api/v1/executions/bulk": {"action": "cancel", "filter": {}, "dry_run": True},
    "/api/v1/events/bulk": {"events": [{"event_type": "form_submit", "contact_id": "own"}]},
    "/api/v1/events": {"event_type": "form_submit", "contact_id": "own"},
    "/api/v1/contacts/bulk": {"contacts": [{"first_name": "Bo"}]},
    "/api/v1/workflows/{workflow_id}/enroll-by-tag": {"tag_id": "own"},
    "/api/v1/campaigns": {"name": "Autumn"},
    "/api/v1/lessons": {"name": "Arcs"},
    "/api/v1/opportunities": {"name": "Deal", "contact_id": "own", "pipeline_id": "own"},
    "/api/v1/tasks": {"title": "Call", "contact_id": "own"},
    "/api/v1/notes": {"content": "Hello"},
    "/api/v1/teams": {"name": "Support"},
    "/api/v1/code/test": {"code": "return 1"},
    "/api/v1/tokens": {"name": "mine"},
    "/api/v1/contacts/{contact_id}/messenger": {"psid": "77"},
}
"""What a body needs beside the id; `own` is the caller's row of that name."""

CONFIGS: dict[tuple[str, str], dict[str, Any]] = {
    ("add_to_campaign", "step_id"): {"campaign_id": "own", "start_position": "specific_step"},
    ("assign_to_user", "user_id"): {"assignment_type": "specific"},
    ("assign_to_user", "team_id"): {"assignment_type": "round_robin"},
    ("send_notification", "recipient_ids"): {"recipient_type": "specific_user"},
}

NOT_LOOKED_UP = {
    # A filter is applied when the operation runs, to the caller's account only.
    "POST /api/v1/workflows/{workflow_id}/enroll-by-tag: filter.owner_id",
    "POST /api/v1/contacts/export: filter.owner_id",
    # The caller's own integration is a mail server.
    "PUT /api/v1/contacts/{contact_id}/messenger: page_id",
    "send_messenger.page_id",
    # One of the contact's own, which is known when the step is performed.
    "move_pipeline_stage.opportunity_id",
    # The caller's own id is that of the action itself.
    "PUT /api/v1/workflows/{workflow_id}/actions/{action_id}: previous_action_id",
    "PUT /api/v1/workflows/{workflow_id}/actions/{action_id}: fallback_action_id",
}
"""Places at which the caller's own id is answered as an unknown one is, and why."""


@dataclass(frozen=True)
class Place:
    """A place for an id: in the body of a route or the config of an action type."""

    route: Route
    path: Path
    body: Mapping[str, Any]
    said: str

    @property
    def name(self) -> str:
        """What the id there is of, as paths say it."""
        last = [part for part in self.path if part != ITEM][-1]
        singular = re.sub(r"s$", "", last)
        return NAMES.get(singular, singular)


def places_in(schema: Mapping[str, Any], defs: Mapping[str, Any], at: Path = ()) -> Iterator[Path]:
    """Every place of a JSON Schema that holds a UUID."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        rest = {key: value for key, value in defs.items() if key != name}  # ends a recursion
        yield from places_in(defs.get(name, {}), rest, at)
    if schema.get("format") == "uuid":
        yield at
    for word in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(word, ()):
            yield from places_in(one, defs, at)
    for name, one in schema.get("properties", {}).items():
        yield from places_in(one, defs, (*at, name))
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from places_in(schema[word], defs, (*at, ITEM))


def places_of(model: type[BaseModel]) -> list[Path]:
    schema = model.model_json_schema()
    return list(dict.fromkeys(places_in(schema, schema.get("$defs", {}))))


def places() -> Iterator[Place]:
    for route in ROUTES:
        for path in places_of(route.body) if route.body else ():
            said = f"{route.method} {route.path}: {'.'.join(path)}"
            yield Place(route, path, ROUTE_BODIES.get(route.path, {}), said)
    (create,) = [route for route in ROUTES if route.path.endswith("/actions") and route.body]
    for name, kind in registry.actions.items():
        for path in places_of(kind.config):
            config = CONFIGS.get((name, path[0]), {})
            body = {"action_type": name, "action_config": config}
            yield Place(create, ("action_config", *path), body, f"{name}.{'.'.join(path)}")


def put(body: Any, path: Path, id_: str) -> Any:
    """The body with the id at its place."""
    first, *rest = path
    if first == ITEM:
        inner = body[0] if isinstance(body, list) and body else None
        return [put(inner, tuple(rest), id_) if rest else id_]
    body = dict(body or {})
    body[first] = put(body.get(first), tuple(rest), id_) if rest else id_
    return body


def with_own(body: Any, own: Mapping[str, str]) -> Any:
    """The body with the caller's ids where it says so."""
    if isinstance(body, dict):
        return {
            name: own[name] if value == "own" else with_own(value, own)
            for name, value in body.items()
        }
    return [with_own(one, own) for one in body] if isinstance(body, list) else body


def masked(answer: Answer) -> tuple[int, str]:
    """What an answer says, whatever ids and instants it says it with."""
    text = json.dumps(answer.data, sort_keys=True, default=str)
    for pattern in (
        r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}",
        r"\d{4}-\d\d-\d\dT[\d:.]+Z",
        r'"key": "\w+"|"position": \d+',  # of an action among others
    ):
        text = re.sub(pattern, "_", text)
    return answer.status, text


async def test_an_id_of_another_account_in_any_body_is_as_unknown_as_any(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    told = list(places())
    assert len(told) > 60
    async with open_desk(pool, settings) as desk:
        owner, other = await desk.caller("Acme"), await desk.caller("Globex")
        foreign, own = await owned(owner, pool), await owned(other, pool)
        active = await other.workflow(READY)
        await other.post(f"{active}/activate")
        own["active"] = active.rpartition("/")[2]
        before = await contents_of(pool, "Acme")
        for place in told:
            await _is_unknown(other, place, foreign, own)
        assert await contents_of(pool, "Acme") == before


async def _is_unknown(
    other: Caller, place: Place, foreign: Mapping[str, str], own: Mapping[str, str]
) -> None:
    if place.name not in own:
        pytest.fail(f"{place.said}: say in NAMES of {__file__} what it leads to", pytrace=False)
    is_for_active = "/enroll" in place.route.path
    paths = {**own, "workflow_id": own["active"]} if is_for_active else dict(own)
    path, body = filled(place.route, paths), with_own(place.body, own)
    said = []
    for id_ in (foreign[place.name], str(uuid4()), own[place.name]):
        answer = await other.call(place.route.method, path, put(body, place.path, id_))
        said.append(masked(answer))
    assert said[0] == said[1], place.said
    # Otherwise it was refused for something else, and nothing was looked up.
    assert (said[2] == said[1]) is (place.said in NOT_LOOKED_UP), place.said
