"""Contacts in and out as files: the CSV import, the export, and its download."""

from __future__ import annotations

import asyncio
import codecs
import csv
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Annotated, Any, Final, Literal
from uuid import UUID

import asyncpg
import orjson
from aiohttp import http_exceptions, web
from pydantic import Field

from actors import export_contacts, import_contacts
from actors.contact_filters import ContactFilter
from actors.custom_fields import queries as custom_field_queries
from actors.import_contacts import CUSTOM
from api import operations
from api.access import Permission
from api.bodies import Body
from api.calls import Call, Route
from api.content_coding import chunks_of
from api.parameters import Parameters
from api.problems import Problem, conflict, invalid, not_found
from api.shown import Download
from runtime.configuration import Fault, did_you_mean
from runtime.database import Connection
from runtime.ids import new_id
from runtime.operations import queries

LARGEST_FILE: Final = 64 << 20
UPLOAD_SECONDS: Final = 300.0
PIECE: Final = 256 << 10
LONGEST_HEADER: Final = 64 << 10
MOST_COLUMNS: Final = 200
DELIMITERS: Final = ",;\t|"
MEDIA_TYPES: Final = {"csv": "text/csv", "jsonl": "application/jsonl"}

_KNOWN_BOMS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Import(Parameters):
    """How a file is read.

    `mapping` is a JSON object of columns and fields, such as {"E-mail": "email", "Firm":
    "custom_fields.company", "Notes": null}; null leaves a column out. Without it the header's
    names are the fields'. `duplicates`: what happens with a line whose e-mail address a contact
    has already. `tag_id` is given to every contact that a line makes or updates.
    """

    mapping: Annotated[str, Field(max_length=20_000)] | None = None
    duplicates: Literal["skip", "update"] = "skip"
    tag_id: UUID | None = None
    delimiter: Literal[",", ";", "\t", "|"] | None = None


class Export(Body):
    """Which contacts to export, and what of them: fields such as email, custom_fields.company."""

    filter: ContactFilter = ContactFilter()
    tag_id: UUID | None = None
    columns: Annotated[list[str], Field(min_length=1, max_length=MOST_COLUMNS)] | None = None
    format: Literal["csv", "jsonl"] = "csv"


async def begin_import(call: Call) -> web.Response:
    """Import contacts from a CSV file as an operation; 64 MB at most, in UTF-8.

    The file is the body, as it is. Its lines are checked one by one: see the operation's errors.
    """
    given = call.parameters(Import)
    mapping = _mapping(given.mapping)
    if call.request.content_type not in {"text/csv", "application/octet-stream"}:
        raise Problem(415, "unsupported_media_type", "The body must be text/csv.")
    with tempfile.TemporaryFile() as file:
        size = await _receive(call.request, file)
        parameters = await asyncio.to_thread(_look, file, size, given.delimiter)
        columns = await _columns(call, parameters["names"], mapping)
        parameters |= {"columns": columns, "duplicates": given.duplicates}
        parameters["tag_id"] = str(given.tag_id) if given.tag_id else None
        total = parameters.pop("lines")
        async with call.transaction() as db:
            await _check_tag(db, call.account_id, given.tag_id)
            operation_id = new_id()
            shown = await operations.begin(
                call, db, "import_contacts", parameters, total=total, operation_id=operation_id
            )
            file.seek(0)
            for starts_at in range(0, size, PIECE):
                piece = file.read(PIECE)
                await db.execute(
                    queries.add_file_piece,
                    call.account_id,
                    operation_id,
                    "upload",
                    starts_at,
                    piece,
                )
    return await operations.begun(call, shown)


def _mapping(text: str | None) -> dict[str, str | None] | None:
    if text is None:
        return None
    try:
        mapping = orjson.loads(text)
    except orjson.JSONDecodeError:
        mapping = None
    if not isinstance(mapping, dict) or not all(
        value is None or isinstance(value, str) for value in mapping.values()
    ):
        message = "The mapping is no JSON object of column names and fields."
        raise invalid(Fault("mapping", "mapping_unusable", message))
    return mapping


async def _receive(request: web.Request, file: IO[bytes]) -> int:
    """Take the upload in, at most LARGEST_FILE bytes, and check that it is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    size = 0
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in chunks_of(request):
                if not size and chunk.startswith(_KNOWN_BOMS):
                    raise _not_utf8()
                size += len(chunk)
                if size > LARGEST_FILE:
                    detail = f"The file is larger than {LARGEST_FILE} bytes."
                    raise Problem(413, "body_too_large", detail)
                decoder.decode(chunk)
                file.write(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise _not_utf8() from None
    except TimeoutError:
        detail = f"The file did not arrive within {UPLOAD_SECONDS:.0f} s."
        raise Problem(408, "body_too_slow", detail, headers={"Connection": "close"}) from None
    except (web.RequestPayloadError, http_exceptions.HttpProcessingError):
        raise Problem(400, "malformed_body", "The body cannot be decoded.") from None
    return size


def _not_utf8() -> Problem:
    message = "The file is not UTF-8; save it as «CSV UTF-8» and send it again."
    return Problem(422, "encoding_unsupported", message)


def _look(file: IO[bytes], size: int, delimiter: str | None) -> dict[str, Any]:
    """Read the header: names, delimiter and line end; and count the lines behind it."""
    file.seek(0)
    head = file.read(LONGEST_HEADER)
    begins = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    line_end = b"\n" if b"\n" in head or b"\r" not in head else b"\r"
    line, found, _ = head[begins:].partition(line_end)
    if not found and size > LONGEST_HEADER:
        raise invalid(Fault("", "header_too_long", "The first line is too long for a header."))
    text = line.decode(errors="replace").rstrip("\r")
    chosen = delimiter or max(DELIMITERS, key=text.count)
    try:
        names = next(csv.reader([text], delimiter=chosen, strict=True), [])
    except csv.Error:
        raise invalid(Fault("", "header_malformed", "The header's quotes do not fit.")) from None
    names = [name.strip() for name in names]
    _check_names(names)
    starts_at = begins + len(line) + len(found)
    file.seek(starts_at)
    lines = 0
    last = b""
    while chunk := file.read(1 << 20):
        lines += chunk.count(line_end)
        last = chunk
    lines += bool(last) and not last.endswith(line_end)
    return {
        "names": names,
        "delimiter": chosen,
        "line_end": line_end.decode(),
        "starts_at": starts_at,
        "first_line": 2,
        "size": size,
        "lines": lines,
    }


def _check_names(names: Sequence[str]) -> None:
    if not any(names):
        raise invalid(Fault("", "header_missing", "The file has no header."))
    if len(names) > MOST_COLUMNS:
        raise invalid(Fault("", "too_many_columns", f"At most {MOST_COLUMNS} columns."))
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        faults = [Fault(name, "column_twice", "Two columns have this name.") for name in twice]
        raise invalid(*faults[:20])
    if any("\x00" in name for name in names):
        raise invalid(Fault("", "nul_character", "The header must not contain NUL."))


async def _columns(
    call: Call, names: Sequence[str], mapping: Mapping[str, str | None] | None
) -> list[str | None]:
    """Say which column is which field; a 422 Problem names those that are none."""
    known = await _fields(call, import_contacts.STANDARD)
    faults = []
    if mapping is not None:
        faults += [
            Fault(
                name, "column_unknown", f"The file has no such column.{did_you_mean(name, names)}"
            )
            for name in mapping
            if name not in names
        ]
    columns = [name or None if mapping is None else mapping.get(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column is not None and column not in known:
            message = f"There is no such field.{did_you_mean(column, known)}"
            faults.append(Fault(name, "field_unknown", message))
        elif column is not None and columns.count(column) > 1:
            faults.append(Fault(name, "field_twice", "Two columns are this field."))
    if not faults and not any(columns):
        faults.append(Fault("mapping", "nothing_mapped", "No column is a field."))
    if faults:
        raise invalid(*faults[:20])
    return columns


async def _fields(call: Call, standard: Sequence[str]) -> list[str]:
    rows = await call.pool.fetch(
        custom_field_queries.custom_fields_of_accounts, [call.account_id]
    )  # fmt: skip
    return [*standard, *(CUSTOM + row["key"] for row in rows)]


async def _check_tag(db: Connection | asyncpg.Pool, account_id: UUID, tag_id: UUID | None) -> None:
    known = tag_id is None or await db.fetchrow(import_contacts.queries.tag, account_id, tag_id)
    if not known:
        raise invalid(Fault("tag_id", "tag_unknown", "There is no such tag."))


async def begin_export(call: Call) -> web.Response:
    """Export contacts to a file as an operation; see its download.

    In CSV, a value that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    given = await call.body(Export)
    known = await _fields(call, export_contacts.STANDARD)
    wrong = [
        Fault(f"columns[{n}]", "field_unknown", f"There is no such field.{did_you_mean(c, known)}")
        for n, c in enumerate(given.columns or ())
        if c not in known
    ]
    if wrong:
        raise invalid(*wrong[:20])
    await _check_tag(call.pool, call.account_id, given.tag_id)
    parameters = {**given.model_dump(mode="json"), "columns": given.columns or known}
    async with call.transaction() as db:
        shown = await operations.begin(call, db, "export_contacts", parameters)
    return await operations.begun(call, shown)


async def download(call: Call) -> web.StreamResponse:
    """Download what a finished export has written; it is kept for some days."""
    operation = await operations.find(call)
    if operation["status"] != "completed":
        message = f"The operation is {operation['status']}."
        raise conflict("operation_not_completed", message)
    key = (call.account_id, operation["id"], "download")
    size = await call.pool.fetchval(queries.file_size, *key)
    if size is None:
        raise not_found("download")
    extension = operation["result"]["format"]
    response = web.StreamResponse(
        headers={
            "Content-Type": MEDIA_TYPES[extension],
            "Content-Disposition": f'attachment; filename="contacts.{extension}"',
            "Content-Length": str(size),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
    )
    await response.prepare(call.request)
    sent = 0
    while sent < size and (pieces := await call.pool.fetch(queries.file_pieces, *key, sent, 1)):
        await response.write(pieces[0]["content"])
        sent += len(pieces[0]["content"])
    await response.write_eof()
    return response


ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/contacts/import",
        begin_import,
        Permission.EDIT_CONTACTS,
        parameters=Import,
        answers={202: operations.ShownOperation},
        problems=frozenset({400, 408, 409, 413, 415, 422}),
        upload=("text/csv",),
    ),
    Route(
        "POST",
        "/api/v1/contacts/export",
        begin_export,
        Permission.EDIT_CONTACTS,
        Export,
        answers={202: operations.ShownOperation},
        problems=frozenset({409}),
    ),
    Route(
        "GET",
        "/api/v1/operations/{operation_id}/download",
        download,
        Permission.EDIT_CONTACTS,
        answers={200: Download(tuple(MEDIA_TYPES.values()))},
        problems=frozenset({409}),
    ),
)
