"""Health: whether the process lives, and whether it can serve. No token needed."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from aiohttp import web

from api.answers import answer
from api.calls import SERVICES, PublicRoute
from api.problems import Problem
from api.shown import Shown
from sql import load
from sql.migrate import all_migrations

queries = load("metrics")

_NEEDED = frozenset(migration.name for migration in all_migrations())

READY_SECONDS = 2.0


async def alive(_request: web.Request) -> web.Response:
    """Say that the process answers."""
    return answer({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Say that the database answers and fits this code; otherwise it is a 503 Problem."""
    async with asyncio.timeout(READY_SECONDS):
        rows = await request.app[SERVICES].pool.fetch(queries.applied_migrations)
    missing = _NEEDED - {row["name"] for row in rows}
    if missing:
        message = f"The database lacks migrations: {', '.join(sorted(missing))}."
        raise Problem(503, "database_not_migrated", message)
    return answer({"status": "ready"})


class ShownHealth(Shown):
    """How the process is."""

    status: Literal["ok", "ready"]


DESCRIBED: Final = (
    PublicRoute("GET", "/healthz", alive, {200: ShownHealth}),
    PublicRoute("GET", "/readyz", ready, {200: ShownHealth}, frozenset({503})),
)
"""For the OpenAPI document."""


def add_health(app: web.Application) -> None:
    """Put both into an application."""
    app.router.add_get("/healthz", alive, allow_head=True)
    app.router.add_get("/readyz", ready, allow_head=True)
