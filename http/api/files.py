"""Files: upload, list, read, delete, and links that need no token."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api import media_types
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import SERVICES, Call, PublicRoute, Route
from api.file_content import send
from api.lists import List, Page, page_of
from api.parameters import Parameters
from api.problems import Problem, invalid, not_found
from api.shown import Download, Shown
from api.uploads import FORM, open_upload
from api.uses import Force, ShownDeletion, find_uses, in_use
from runtime import clock, log
from runtime.configuration import Fault
from runtime.file_links import PATH, read_token, signed_url
from runtime.ids import new_id
from runtime.storage import MissingObjectError, StorageError, storage_of
from sql import load

logger = log.get(__name__)
queries = load("files")

LONGEST_NAME: Final = 200


class UploadName(Parameters):
    """How the file is to be called; a form may say it itself."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None


class FilePage(Page):
    """Which files to list."""

    media_type: Annotated[str, Field(max_length=100)] | None = None


class ShownFile(Shown):
    """A file; `missing_at` says when the store was found not to have its content."""

    id: UUID
    name: str
    media_type: str
    size: int
    sha256: str
    created_by: UUID | None
    created_at: datetime
    missing_at: datetime | None


class NewLink(Body):
    """How long the link is to be good."""

    seconds: Annotated[int, Field(ge=1, le=365 * 86_400)] = 3600


class ShownLink(Shown):
    """A link that anybody who has it can open, until it expires."""

    url: str
    expires_at: datetime


FILES: Final = List(queries.files, ShownFile, "-created_at")


async def create(call: Call) -> web.Response:
    """Upload a file: as the body, with its media type, or as the part `file` of a form.

    What it contains is compared with the media type that it says it has.
    """
    given = call.parameters(UploadName)
    largest = call.services.settings.largest_file_mb << 20
    upload = await open_upload(call.request, largest)
    name = _name(given.name or upload.name)
    file_id, storage = new_id(), storage_of(call.services.settings)
    try:
        await storage.write(call.account_id, file_id, upload.chunks())
    except StorageError as error:
        raise _unavailable(error) from None
    async with call.transaction() as db:
        row = await db.fetchrow(
            queries.add,
            file_id,
            call.account_id,
            name,
            upload.media_type,
            upload.size,
            upload.hash.digest(),
            call.caller.user_id,
        )
        assert row is not None
        await call.record(db, "file.created", ("file", file_id), None, dict(row))
    return answer(dict(row), 201, {"Location": f"/api/v1/files/{file_id}"})


def _name(given: str | None) -> str:
    name = (given or "").replace("\\", "/").rpartition("/")[2].strip()
    if not name:
        raise invalid(Fault("name", "name_missing", "Say how the file is called."))
    if len(name) > LONGEST_NAME or any(not character.isprintable() for character in name):
        message = f"A name has {LONGEST_NAME} printable characters at most."
        raise invalid(Fault("name", "name_unusable", message))
    return name


async def list_all(call: Call) -> web.Response:
    """List files, newest first."""
    return answer(await FILES.page(call.pool, call.parameters(FilePage), call.account_id))


async def read(call: Call) -> web.Response:
    """Read what is known of a file."""
    return answer(await find(call))


def _unavailable(error: StorageError) -> Problem:
    logger.warning("file.store_unavailable", exc_info=error)
    detail = "The store of files does not answer right now. Try again."
    return Problem(503, "storage_unavailable", detail, headers={"Retry-After": "5"})


async def find(call: Call) -> dict[str, Any]:
    """Find the file of the path, or raise its 404 Problem."""
    row = await call.pool.fetchrow(queries.file, call.account_id, call.id("file_id"))
    if row is None:
        raise not_found("file")
    return dict(row)


async def read_content(call: Call) -> web.StreamResponse:
    """Download a file, or a range of it."""
    return await _send(call.request, call.account_id, await find(call))


async def _send(
    request: web.Request, account_id: UUID, row: Mapping[str, Any]
) -> web.StreamResponse:
    services = request.app[SERVICES]
    try:
        return await send(request, storage_of(services.settings), account_id, row)
    except MissingObjectError:
        logger.error("file.missing", file_id=str(row["id"]))  # noqa: TRY400 (the id says it all)
        await services.pool.execute(queries.miss, account_id, row["id"])
        raise Problem(410, "file_missing", "The content of this file is lost.") from None
    except StorageError as error:
        raise _unavailable(error) from None


async def link(call: Call) -> web.Response:
    """Make a link to a file that needs no token, good for so many seconds."""
    given = await call.body(NewLink) if call.request.can_read_body else NewLink()
    row = await find(call)
    now = await clock.current_instant(call.pool)
    until = datetime.fromtimestamp(int(now.timestamp()) + given.seconds, now.tzinfo)
    url = signed_url(call.services.house, call.account_id, row["id"], until)
    return answer({"url": url, "expires_at": until})


async def delete(call: Call) -> web.Response:
    """Delete a file and its content; links to it lead nowhere from then on."""
    file_id, force = call.id("file_id"), call.parameters(Force).force
    async with call.transaction() as db:
        row = await db.fetchrow(queries.lock, call.account_id, file_id)
        if row is None:
            raise not_found("file")
        registry = call.services.registry
        uses = await find_uses(db, registry, call.account_id, "file", str(file_id))
        if uses and not force:
            raise in_use("file", uses)
        await db.execute(queries.delete, call.account_id, file_id)
        await call.record(db, "file.deleted", ("file", file_id), dict(row), None)
    try:
        await storage_of(call.services.settings).delete([(call.account_id, file_id)])
    except StorageError:  # the row is gone, and housekeeping takes the object
        logger.warning("file.object_left", file_id=str(file_id), exc_info=True)
    return answer({"references": uses}) if uses else web.Response(status=204)


async def open_link(request: web.Request) -> web.StreamResponse:
    """Open a link to a file; no token is needed, the link itself is the permission."""
    services = request.app[SERVICES]
    found = read_token(services.house, request.match_info["token"])
    row = found and await services.pool.fetchrow(queries.file, found.account_id, found.file_id)
    if not found or not row:
        raise not_found("file")
    if await clock.current_instant(services.pool) > found.until:
        raise Problem(410, "link_expired", "This link has expired.")
    return await _send(request, found.account_id, dict(row))


_ALL: Final = "/api/v1/files"
_ONE: Final = f"{_ALL}/{{file_id}}"
_CONTENT: Final = Download(media_types.ALLOWED)

ROUTES: Final = (
    Route(
        "POST",
        _ALL,
        create,
        Permission.EDIT_WORKFLOWS,
        parameters=UploadName,
        answers={201: ShownFile},
        upload=(*media_types.ALLOWED, media_types.UNSAID, FORM),
    ),
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.READ,
        parameters=FilePage,
        answers={200: page_of(ShownFile)},
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: ShownFile}),
    Route(
        "GET",
        f"{_ONE}/content",
        read_content,
        Permission.READ,
        answers={200: _CONTENT, 206: _CONTENT, 304: None},
        problems=frozenset({410, 416}),
    ),
    Route(
        "POST",
        f"{_ONE}/links",
        link,
        Permission.EDIT_WORKFLOWS,
        NewLink,
        answers={200: ShownLink},
        body_is_optional=True,
        keeps_answer=False,
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        Permission.EDIT_WORKFLOWS,
        parameters=Force,
        answers={204: None, 200: ShownDeletion},
        problems=frozenset({409}),
    ),
)

PUBLIC_ROUTES: Final = (
    PublicRoute(
        "GET",
        f"{PATH}/{{token}}",
        open_link,
        answers={200: _CONTENT, 206: _CONTENT, 304: None},
        problems=frozenset({404, 410, 416, 503}),
    ),
)
