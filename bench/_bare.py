"""The floor of `bench api`: a bare aiohttp handler that inserts with asyncpg, in a process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import uvloop
from aiohttp import web
from uuid_utils.compat import uuid7

from sql import Queries

queries = Queries(Path(__file__).with_name("_api.sql"))

POOL: Final = 8
"""As many connections as our API has by default."""


async def _serve(dsn: str, account_id: UUID) -> web.Application:
    pool = await asyncpg.create_pool(dsn, min_size=POOL, max_size=POOL)

    async def create(request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        config = json.dumps(body["action_config"])
        id_ = uuid7()
        await pool.execute(queries.insert_bare, id_, account_id, body["action_type"], config)
        return web.json_response({"id": str(id_), **body}, status=201)

    app = web.Application()
    app.router.add_post("/actions", create)
    return app


if __name__ == "__main__":
    dsn, account, port = sys.argv[1:]
    web.run_app(
        _serve(dsn, UUID(account)),
        host="127.0.0.1",
        port=int(port),
        print=None,
        access_log=None,
        loop=uvloop.new_event_loop(),  # ours runs on it too
    )
