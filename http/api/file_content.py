"""The content of a file as an answer: whole or a range of it, never run by the browser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from api.media_types import is_shown_inline
from api.problems import Problem
from runtime.storage import Storage

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class _Span:
    begin: int
    end: int
    is_whole: bool


async def send(
    request: web.Request, storage: Storage, account_id: Any, row: Mapping[str, Any]
) -> web.StreamResponse:
    """Answer with the content of a file; a MissingObjectError if the store does not have it."""
    tag = f'"{row["sha256"]}"'
    headers = _headers(row, tag)
    known = {etag.value for etag in request.if_none_match or ()}
    if known & {row["sha256"], "*"}:
        return web.Response(status=304, headers=headers)
    span = _span(request, row["size"], tag)
    chunks = await storage.read(account_id, row["id"], span.begin, span.end)
    if not span.is_whole:
        headers[hdrs.CONTENT_RANGE] = f"bytes {span.begin}-{span.end - 1}/{row['size']}"
    response = web.StreamResponse(status=200 if span.is_whole else 206, headers=headers)
    response.content_length = span.end - span.begin
    await response.prepare(request)
    async for chunk in chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


def _headers(row: Mapping[str, Any], tag: str) -> dict[str, str]:
    way = "inline" if is_shown_inline(row["media_type"]) else "attachment"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", row["name"])
    return {
        hdrs.CONTENT_TYPE: row["media_type"],
        # RFC 6266: the plain name for old readers, then the real one.
        hdrs.CONTENT_DISPOSITION: f"{way}; filename=\"{plain}\"; filename*=UTF-8''"
        f"{quote(row['name'], safe='')}",
        hdrs.ETAG: tag,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CACHE_CONTROL: "private, max-age=3600",
        # Even what a browser takes for a page could do nothing and reach nobody.
        "Content-Security-Policy": "default-src 'none'; sandbox",
        # What the middleware gives to all others comes too late for an answer that is streamed.
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": structlog.contextvars.get_contextvars()["request_id"],
    }


def _span(request: web.Request, size: int, tag: str) -> _Span:
    """Read `Range` (RFC 9110, 14): one range is given, of several or of another unit the whole."""
    whole = _Span(0, size, is_whole=True)
    match = _RANGE.fullmatch(request.headers.get(hdrs.RANGE, ""))
    if match is None or match.groups() == ("", ""):
        return whole
    if request.headers.get(hdrs.IF_RANGE, tag) != tag:
        return whole
    first, last = match.groups()
    if first == "":
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1 if last else size)
    if last and first and int(last) < int(first):
        return whole  # such a range is invalid, and to be ignored
    if begin >= end:
        headers = {"Content-Range": f"bytes */{size}"}
        raise Problem(416, "range_not_satisfiable", f"There are {size} bytes.", headers=headers)
    return _Span(begin, end, is_whole=False)
