"""Health: whether the process lives, and whether it can serve. No token needed."""

from __future__ import annotations

import asyncio

from aiohttp import web

from api.answers import answer
from api.calls import SERVICES

READY_SECONDS = 2.0


async def alive(_request: web.Request) -> web.Response:
    """Say that the process answers."""
    return answer({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Say that the database answers too; otherwise it is a 503 Problem."""
    async with asyncio.timeout(READY_SECONDS):
        await request.app[SERVICES].pool.fetchval("SELECT 1")
    return answer({"status": "ready"})


def add_health(app: web.Application) -> None:
    """Put both into an application."""
    app.router.add_get("/healthz", alive, allow_head=True)
    app.router.add_get("/readyz", ready, allow_head=True)
