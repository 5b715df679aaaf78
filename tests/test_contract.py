"""What answers show is what routes declare."""

import json
from typing import Any

import pytest
from aiohttp import web

from api.access import Permission
from api.calls import Call, Route
from api.shown import Download, Shown
from tests.contract import breach_of


class ShownThing(Shown):
    name: str
    size: int


async def nothing(_call: Call) -> web.Response:
    raise NotImplementedError


def thing(answers: dict[int, Any]) -> Route:
    return Route("GET", "/things/{thing_id}", nothing, Permission.READ, answers=answers)


def said(data: Any, status: int = 200, media_type: str = "application/json") -> web.Response:
    body = None if data is None else json.dumps(data).encode()
    return web.Response(body=body, status=status, content_type=media_type)


PROBLEM = {
    "type": "/api/v1/errors/thing_not_found",
    "title": "It does not exist",
    "status": 404,
    "code": "thing_not_found",
    "detail": "There is no such thing.",
    "explanation": "It was deleted.",
    "remedy": "Check the id.",
    "request_id": "1",
}


def test_an_answer_as_declared_keeps_the_contract() -> None:
    route = thing({200: ShownThing, 204: None, 202: Download(("text/csv",))})
    assert breach_of(route, said({"name": "x", "size": 1})) is None
    assert breach_of(route, said(None, 204)) is None
    assert breach_of(route, said("a,b", 202, "text/csv")) is None
    assert breach_of(route, said(PROBLEM, 404, "application/problem+json")) is None


@pytest.mark.parametrize(
    "response",
    [
        said({"name": "x"}),
        said({"name": "x", "size": 1, "color": "red"}),
        said({"name": "x", "size": "1"}),
        said({"name": "x", "size": 1}, media_type="text/json"),
        said({"name": "x", "size": 1}, 201),
        said({"name": "x", "size": 1}, 204),
        said("a,b", 202, "text/plain"),
        said(PROBLEM, 409, "application/problem+json"),
        said(PROBLEM, 404),
        said({"detail": "no"}, 404, "application/problem+json"),
    ],
    ids=str,
)
def test_whatever_else_is_said_breaks_it(response: web.Response) -> None:
    route = thing({200: ShownThing, 204: None, 202: Download(("text/csv",))})
    assert breach_of(route, response)
