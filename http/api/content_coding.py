"""Compressed request bodies: inflated here, chunk by chunk, so that nothing is half taken in.

aiohttp's own inflating takes a body that was cut off for a whole one, and hangs up on one that is
not what it says. Taken are gzip and deflate (RFC 9110, 8.4.1); a stream must be there to its end.
Whoever reads counts what comes out against a bound: a bomb goes off in pieces of CHUNK bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from aiohttp import web

from api.problems import Problem

CHUNK: Final = 64 << 10
TAKEN: Final = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}


def coding_of(request: web.Request) -> str | None:
    """The coding of a body; None for one that is as it is, a 415 Problem for what is not taken."""
    codings = [
        one.strip().lower()
        for one in ",".join(request.headers.getall("Content-Encoding", [])).split(",")
    ]
    named = [one for one in codings if one not in {"", "identity"}]
    if not named:
        return None
    if len(named) > 1 or named[0] not in TAKEN:
        detail = "A body may be compressed once, by gzip or deflate."
        # RFC 9110, 12.5.3: so the client learns what would have been taken.
        headers = {"Accept-Encoding": "gzip, deflate"}
        raise Problem(415, "unsupported_content_coding", detail, headers=headers)
    return named[0]


async def chunks_of(request: web.Request) -> AsyncIterator[bytes]:
    """Give the body, inflated if it is compressed; a 400 Problem for a stream that is broken."""
    coding = coding_of(request)
    if coding is None:
        async for chunk in request.content.iter_any():
            yield chunk
        return
    inflater = _Inflater(TAKEN[coding])
    async for chunk in request.content.iter_any():
        for piece in inflater.take(chunk):
            yield piece
    inflater.end()


class _Inflater:
    """Inflates one stream after the other: gzip may have several members (RFC 1952, 2.2)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._stream = zlib.decompressobj(wbits)
        self._has_begun = False

    def take(self, data: bytes) -> Iterator[bytes]:
        """Inflate some more, in pieces."""
        while data:
            if self._stream.eof:
                if self._wbits == zlib.MAX_WBITS:
                    raise _broken()
                self._stream = zlib.decompressobj(self._wbits)
            self._has_begun = True
            try:
                piece = self._stream.decompress(data, CHUNK)
            except zlib.error:
                raise _broken() from None
            if piece:
                yield piece
            data = self._stream.unconsumed_tail or self._stream.unused_data

    def end(self) -> None:
        """Refuse a stream that is cut off."""
        if self._has_begun and not self._stream.eof:
            raise _broken()


def _broken() -> Problem:
    return Problem(400, "malformed_body", "The body cannot be decoded.")
