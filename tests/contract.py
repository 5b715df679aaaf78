"""Holds every answer that a test gets to what its route declares: status, media type, model."""

from __future__ import annotations

from functools import cache
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import TypeAdapter, ValidationError

from api.calls import PublicRoute, Route
from api.problems import MEDIA_TYPE, ShownProblem
from api.server import PUBLIC_ROUTES, ROUTES
from api.shown import Download

_ALL: tuple[Route | PublicRoute, ...] = (*ROUTES, *PUBLIC_ROUTES)
_ROUTES = {
    (route.method, route.path): route for route in _ALL if isinstance(route, Route) or route.answers
}


class Contract:
    """Looks at all answers of an application that pass; `breaches` says what is not declared."""

    def __init__(self) -> None:
        self.breaches: list[str] = []

    def watch(self, app: web.Application) -> None:
        """Stand around everything else, so that answers are seen as clients get them."""

        @web.middleware
        async def look(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            resource = request.match_info.route.resource
            route = _ROUTES.get((request.method, resource.canonical if resource else ""))
            if route and (breach := breach_of(route, response)):
                self.breaches.append(f"{route.method} {route.path}: {breach}")
            return response

        app.middlewares.insert(0, look)

    def assert_kept(self) -> None:
        """Fail if any answer so far was another than declared."""
        assert not self.breaches, "\n".join(self.breaches)


def breach_of(route: Route | PublicRoute, response: web.StreamResponse) -> str | None:
    """What of a response its route does not declare; None if it keeps to the contract."""
    status = response.status
    if status in route.answers:
        declared = route.answers[status]
    elif status in route.refusals or status == 500:
        declared = ShownProblem  # 500: a defect of ours, which its own test looks at
    else:
        return f"the status {status} is not declared"
    if declared is None:
        return None if _is_empty(response) else f"{status} should have no content"
    if isinstance(declared, Download):
        is_known = response.content_type in declared.media_types
        return None if is_known else f"{response.content_type} is not declared"
    wanted = MEDIA_TYPE if declared is ShownProblem else "application/json"
    if response.content_type != wanted:
        return f"{status} is {response.content_type}, not {wanted}"
    return _unlike(declared, response, status)


def _is_empty(response: web.StreamResponse) -> bool:
    return isinstance(response, web.Response) and not response.body


def _unlike(declared: Any, response: web.StreamResponse, status: int) -> str | None:
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return f"{status} cannot be looked at"
    try:
        _adapter(declared).validate_json(response.body)
    except ValidationError as error:
        return f"{status} is not as declared: {error}"
    return None


@cache
def _adapter(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)
