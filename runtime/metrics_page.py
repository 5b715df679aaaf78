"""The page on which a worker alone tells Prometheus what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from runtime.measures import PROCESS
from runtime.settings import Settings


@asynccontextmanager
async def metrics_page(settings: Settings) -> AsyncIterator[None]:
    """Serve /metrics inside the block where the settings name a port; OSError if it is taken."""
    if not settings.metrics_port:
        yield
        return
    app = web.Application()
    app.router.add_get("/metrics", _show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.metrics_host, settings.metrics_port).start()
        yield
    finally:
        await runner.cleanup()


async def _show(_request: web.Request) -> web.Response:
    page = await asyncio.to_thread(generate_latest, PROCESS)
    return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE_LATEST})
