"""Uploads: the body as it is, or the first file of a form, streamed and looked at on its way.

Nothing is held in memory but a chunk. Size, media type and text are checked while the content is
written to the store; a refusal leaves nothing there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from aiohttp import BodyPartReader, http_exceptions, web

from api import media_types
from api.content_coding import chunks_of, coding_of
from api.problems import Problem

FORM: Final = "multipart/form-data"
CHUNK_SECONDS: Final = 15.0
WHOLE_SECONDS: Final = 600.0
_MOST_PARTS: Final = 20

Read = TypeVar("Read")


@dataclass
class Upload:
    """A file that is on its way in; size and hash are known once `chunks` has been read."""

    name: str | None
    declared: str
    largest: int
    content: AsyncIterator[bytes]
    media_type: str = ""
    size: int = 0
    hash: Any = field(default_factory=hashlib.sha256)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the content, checked; a Problem ends it."""
        head = await self._head()
        self.media_type = _media_type(self.declared, head)
        text = media_types.TextCheck() if self.media_type in media_types.TEXTS else None
        yield self._checked(head, text)
        async for chunk in self.content:
            yield self._checked(chunk, text)
        if text and not text.take(b"", is_last=True):
            raise _mismatch(self.media_type)

    async def _head(self) -> bytes:
        head = bytearray()
        async for chunk in self.content:
            head += chunk
            if len(head) >= media_types.SNIFFED_BYTES:
                break
        if not head:
            raise Problem(400, "empty_file", "The file is empty.")
        return bytes(head)

    def _checked(self, chunk: bytes, text: media_types.TextCheck | None) -> bytes:
        self.size += len(chunk)
        if self.size > self.largest:
            raise Problem(413, "body_too_large", f"A file has {self.largest} bytes at most.")
        if text and not text.take(chunk):
            raise _mismatch(self.media_type)
        self.hash.update(chunk)
        return chunk


async def open_upload(request: web.Request, largest: int) -> Upload:
    """Find the file in a request: the body itself, or the part `file` of a form."""
    if request.content_type != FORM:
        coding_of(request)  # refused now, not while it is stored
        return Upload(None, request.content_type, largest, _raw(request))
    if coding_of(request) is not None:
        detail = "A form cannot be compressed."
        raise Problem(415, "unsupported_content_coding", detail)
    try:
        part = await _file_part(request)
    except (ValueError, http_exceptions.HttpProcessingError):
        raise Problem(400, "malformed_body", "The form cannot be read.") from None
    declared = part.headers.get("Content-Type", media_types.UNSAID).partition(";")[0]
    return Upload(part.filename, declared.strip().lower(), largest, _of_part(part))


async def _file_part(request: web.Request) -> BodyPartReader:
    form, deadline = await request.multipart(), _Deadline()
    for _ in range(_MOST_PARTS):
        part = await deadline.keep(form.next())
        if part is None:
            break
        if isinstance(part, BodyPartReader) and part.name == "file":
            return part
    raise Problem(400, "file_missing", "The form has no part named 'file'.")


async def _raw(request: web.Request) -> AsyncIterator[bytes]:
    deadline, chunks = _Deadline(), chunks_of(request)
    try:
        while chunk := await deadline.keep(anext(chunks, b"")):
            yield chunk
    except (web.RequestPayloadError, http_exceptions.HttpProcessingError):
        raise Problem(400, "malformed_body", "The body cannot be decoded.") from None


async def _of_part(part: BodyPartReader) -> AsyncIterator[bytes]:
    deadline = _Deadline()
    try:
        while chunk := await deadline.keep(part.read_chunk(64 << 10)):
            yield bytes(chunk)
    except (ValueError, web.RequestPayloadError, http_exceptions.HttpProcessingError):
        raise Problem(400, "malformed_body", "The form cannot be read.") from None


class _Deadline:
    """How long an upload may take: each chunk, and all of them together.

    The store reads the chunks in tasks of its own, so that no time-out may span several.
    """

    def __init__(self) -> None:
        self._end = asyncio.get_running_loop().time() + WHOLE_SECONDS

    async def keep(self, reading: Awaitable[Read]) -> Read:
        """Wait for the next chunk; a 408 Problem if it comes too late."""
        latest = asyncio.get_running_loop().time() + CHUNK_SECONDS
        try:
            async with asyncio.timeout_at(min(latest, self._end)):
                return await reading
        except TimeoutError:
            detail = "The file did not arrive in time."
            headers = {"Connection": "close"}
            raise Problem(408, "body_too_slow", detail, headers=headers) from None


def _media_type(declared: str, head: bytes) -> str:
    """Give the type that the file is of: as it says, if it looks like that, or as it looks."""
    if declared == media_types.UNSAID:
        if (guessed := media_types.guess(head)) is None:
            raise Problem(415, "unsupported_media_type", "Files of this type are not taken.")
        return guessed
    said = media_types.canonical(declared)
    if said not in media_types.ALLOWED:
        raise Problem(415, "unsupported_media_type", f"Files of type {declared} are not taken.")
    if not media_types.begins_like(said, head):
        raise _mismatch(said)
    return said


def _mismatch(media_type: str) -> Problem:
    return Problem(415, "media_type_mismatch", f"The content is not {media_type}.")
