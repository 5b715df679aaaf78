"""The OpenAPI document and the page that draws it, from files of our own: no other host is asked.

Both are public: they hold nothing that the source does not. They are made once per process and
carry an ETag.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from api.answers import encode
from api.calls import PublicRoute, Route
from api.openapi import document
from runtime.registry import Registry

_HERE: Final = Path(__file__).parent
_UI: Final = _HERE / "vendor" / "swagger-ui"
_FILES: Final = {
    "docs.js": (_HERE / "pages" / "docs.js", "text/javascript"),
    "swagger-ui-bundle.js": (_UI / "swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": (_UI / "swagger-ui.css", "text/css"),
}
# No inline script or style, no other host; Swagger UI's icons are data: URLs in its style sheet.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _Page:
    body: bytes
    media_type: str

    def answer(self, request: web.Request) -> web.Response:
        """Answer with the page, or with 304 if the client has it."""
        tag = hashlib.sha256(self.body).hexdigest()[:32]
        headers = {
            hdrs.ETAG: f'"{tag}"',
            hdrs.CACHE_CONTROL: "no-cache",
            "Content-Security-Policy": _POLICY,
            "Referrer-Policy": "no-referrer",
        }
        known = {etag.value for etag in request.if_none_match or ()}
        if known & {tag, "*"}:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=self.body, content_type=self.media_type, charset="utf-8", headers=headers
        )


def docs_of(routes: Iterable[Route | PublicRoute], registry: Registry) -> tuple[PublicRoute, ...]:
    """Build the routes that show what these routes are."""
    told = tuple(routes)

    @cache
    def described() -> _Page:
        return _Page(encode(document(told, registry)), "application/json")

    async def openapi(request: web.Request) -> web.Response:
        page = await asyncio.to_thread(described)
        return page.answer(request)

    return (
        PublicRoute("GET", "/api/v1/openapi.json", openapi),
        PublicRoute("GET", "/docs", show),
        PublicRoute("GET", "/docs/{name}", show_file),
    )


async def show(request: web.Request) -> web.Response:
    """Show the page."""
    return _read(_HERE / "pages" / "docs.html", "text/html").answer(request)


async def show_file(request: web.Request) -> web.Response:
    """Give one of the files that the page is made of."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound
    page = await asyncio.to_thread(_read, *_FILES[name])
    return page.answer(request)


@cache
def _read(path: Path, media_type: str) -> _Page:
    return _Page(path.read_bytes(), media_type)
