"""What a request carries on its way: its id, how its caller's limit stands, a body read early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

REQUEST_ID: Final = web.RequestKey("request_id", str)
LIMITS: Final = web.RequestKey("limits", Mapping[str, str])
KEPT_BODY: Final = web.RequestKey("kept_body", bytes)
