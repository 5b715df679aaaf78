"""The other side of `bench inflight`: answers each call after some seconds, and counts."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import uvloop
from aiohttp import web


async def _serve(seconds: float) -> None:
    came: Counter[str] = Counter()
    now, most = 0, 0

    async def call(request: web.Request) -> web.Response:
        nonlocal now, most
        came[request.headers.get("webhook-id", "")] += 1
        now += 1
        most = max(most, now)
        await asyncio.sleep(seconds)
        now -= 1
        return web.Response(text="ok")

    async def counts(_request: web.Request) -> web.Response:
        told = {"calls": came.total(), "distinct": len(came), "most_at_once": most}
        return web.json_response(told)

    app = web.Application()
    app.router.add_post("/call", call)
    app.router.add_get("/counts", counts)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(float(sys.argv[1])))
