"""JSON answers: orjson, instants in UTC with a Z."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def encode(data: Any) -> bytes:
    """Write JSON; UUIDs of asyncpg (a class of its own) and decimals become text."""
    return orjson.dumps(data, default=str, option=orjson.OPT_UTC_Z)


def answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON."""
    return web.Response(
        body=encode(data), status=status, content_type="application/json", headers=headers
    )
