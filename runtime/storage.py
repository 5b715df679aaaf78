"""Object storage: where the content of files is kept, a local folder or an S3-compatible service.

Objects are named `<account id>/<file id>`, are written once and never changed. All I/O is done by
obstore's own threads: the loop is never blocked.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from runtime.settings import Settings

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import S3Config

CHUNK_BYTES: Final = 256 << 10
SMALL_BYTES: Final = 1 << 20
_LISTED_AT_ONCE: Final = 500

_stores: dict[tuple[Any, ...], Storage] = {}


class StorageError(Exception):
    """The store does not answer, or not as it should."""


class MissingObjectError(Exception):
    """The store does not have this object."""


# What obstore raises. That an object is missing is a FileNotFoundError, caught before.
_FAILURES: Final = (BaseError, OSError)


class Storage:
    """One store. What fails in it is a StorageError."""

    def __init__(self, store: LocalStore | S3Store | MemoryStore) -> None:
        self._store = store

    async def write(self, account_id: UUID, file_id: UUID, chunks: AsyncIterable[bytes]) -> None:
        """Write an object whole or not at all: what `chunks` raises is raised, nothing stays."""
        path = _path(account_id, file_id)
        remaining = aiter(chunks)
        begin = await _up_to(SMALL_BYTES, remaining)
        is_small = len(begin) < SMALL_BYTES
        try:
            # A service takes what is streamed in three requests or more, what is small in one.
            await obstore.put_async(
                self._store, path, begin if is_small else _all(begin, remaining)
            )
        except _FAILURES as error:
            raise StorageError(str(error)) from error

    async def read(
        self, account_id: UUID, file_id: UUID, begin: int, end: int
    ) -> AsyncIterator[bytes]:
        """Give the bytes from `begin` up to `end`; MissingObjectError before the first of them."""
        return _chunks(await self._get(account_id, file_id, {"range": (begin, end)}))

    async def read_whole(self, account_id: UUID, file_id: UUID) -> bytes:
        """Give all bytes, for whoever must have them at once; MissingObjectError as in `read`."""
        got = await self._get(account_id, file_id, {})
        try:
            return bytes(await got.bytes_async())
        except _FAILURES as error:
            raise StorageError(str(error)) from error

    async def _get(self, account_id: UUID, file_id: UUID, options: GetOptions) -> GetResult:
        path = _path(account_id, file_id)
        try:
            return await obstore.get_async(self._store, path, options=options)
        except FileNotFoundError:
            raise MissingObjectError(str(file_id)) from None
        except _FAILURES as error:
            raise StorageError(str(error)) from error

    async def delete(self, objects: Iterable[tuple[UUID, UUID]]) -> None:
        """Delete objects, given by account and file; those that are gone are no error."""
        for account_id, file_id in objects:
            try:
                await obstore.delete_async(self._store, _path(account_id, file_id))
            except FileNotFoundError:
                continue
            except _FAILURES as error:
                raise StorageError(str(error)) from error

    async def walk(self) -> AsyncIterator[list[tuple[UUID, UUID, datetime]]]:
        """Give all objects, some hundreds at a time: account, file, when written."""
        async for listed in obstore.list(self._store, chunk_size=_LISTED_AT_ONCE):
            yield [(*ids, meta["last_modified"]) for meta in listed if (ids := _ids(meta["path"]))]


async def _up_to(size: int, chunks: AsyncIterator[bytes]) -> bytes:
    begin = bytearray()
    async for chunk in chunks:
        begin += chunk
        if len(begin) >= size:
            break
    return bytes(begin)


async def _all(begin: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begin
    async for chunk in chunks:
        yield chunk


async def _chunks(got: GetResult) -> AsyncIterator[bytes]:
    async for chunk in got.stream(min_chunk_size=CHUNK_BYTES):
        yield bytes(chunk)


def storage_of(settings: Settings) -> Storage:
    """Open the store that the settings name; the same for the same settings."""
    key = (settings.data, settings.files_url, settings.files_endpoint)
    if key not in _stores:
        _stores[key] = Storage(_open(settings))
    return _stores[key]


def _open(settings: Settings) -> LocalStore | S3Store:
    if settings.files_url is None:
        return LocalStore(settings.data / "files", mkdir=True)
    url = urlsplit(settings.files_url)
    config: S3Config = {"bucket": url.netloc, "region": settings.files_region}
    if settings.files_access_key is not None:
        config["access_key_id"] = settings.files_access_key.get_secret_value()
    if settings.files_secret_key is not None:
        config["secret_access_key"] = settings.files_secret_key.get_secret_value()
    if settings.files_endpoint is not None:
        config["endpoint"] = settings.files_endpoint
    return S3Store(
        prefix=url.path.strip("/") or None,
        config=config,
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)},
        client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "5s"},
    )


def _path(account_id: UUID, file_id: UUID) -> str:
    return f"{account_id}/{file_id}"


def _ids(path: str) -> tuple[UUID, UUID] | None:
    account_id, _, file_id = path.partition("/")
    try:
        return UUID(account_id), UUID(file_id)
    except ValueError:
        return None  # not ours
