"""Exporting contacts as CSV or JSON lines, in pieces that are downloaded together.

A value that a spreadsheet would take for a formula (it begins with =, +, -, @, a tab or a carriage
return, and is no plain number) gets an apostrophe before it; an import takes that off again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import orjson

from actors.contact_filters import filter_of
from actors.import_contacts import CUSTOM, queries
from runtime.operations import ItemError, OperationType, Portion, Work
from runtime.operations import queries as files

PORTION: Final = 2_000
STANDARD: Final = (
    "id", "first_name", "last_name", "email", "phone", "time_zone", "owner_id", "created_at",
    "updated_at",
)  # fmt: skip

_FIRST: Final = UUID(int=0)
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")
_NUMBER: Final = re.compile(r"[+-]?[0-9][0-9 ().-]*")


async def select(work: Work) -> Portion:
    """Read the next contacts in the order of their ids."""
    given, state = work.operation.parameters, work.operation.state
    behind = UUID(state["behind"]) if state else _FIRST
    tag_id = given.get("tag_id")
    rows = await work.db.fetch(
        queries.contacts_to_export,
        work.account_id,
        *filter_of(given).arguments(),
        UUID(tag_id) if tag_id else None,
        behind,
        PORTION,
    )
    last = rows[-1]["id"] if rows else behind
    is_last = len(rows) < PORTION
    read = state.get("read", 0) + len(rows)
    state = {"behind": str(last), "read": read}
    return Portion(rows, state, is_last, read if is_last else None)


async def perform(work: Work, items: Sequence[Mapping[str, Any]]) -> list[list[ItemError]]:
    """Write the contacts as the next piece of the file; the first begins with the header."""
    given = work.operation.parameters
    columns, is_csv = given["columns"], given["format"] == "csv"
    size = work.result.get("bytes", 0)
    write = _csv if is_csv else _json_lines
    raw = write(columns, [_values(columns, item) for item in items], is_first=not size)
    if raw:
        await work.db.execute(
            files.add_file_piece, work.account_id, work.operation.id, "download", size, raw
        )
    work.result |= {"bytes": size + len(raw), "format": given["format"]}
    return [[] for _ in items]


def _values(columns: Sequence[str], contact: Mapping[str, Any]) -> list[Any]:
    custom = contact["custom_fields"]
    return [
        custom.get(name.removeprefix(CUSTOM)) if name.startswith(CUSTOM) else contact[name]
        for name in columns
    ]


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, is_first: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    if is_first:
        writer.writerow(columns)
    writer.writerows([neutralised(_text(value)) for value in row] for row in rows)
    return text.getvalue().encode()


def _json_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, is_first: bool) -> bytes:  # noqa: ARG001 - has no header
    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
    lines = (
        orjson.dumps(dict(zip(columns, row, strict=True)), default=str, option=option)
        for row in rows
    )
    return b"".join(lines)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(map(str, value))
        case _ if hasattr(value, "isoformat"):
            text: str = value.isoformat()
            return text
    return str(value)


def neutralised(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula; numbers and phone numbers stay."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def where(item: Mapping[str, Any], code: str, message: str) -> ItemError:
    """Say why a contact could not be exported."""
    return ItemError(code, message, item_id=item["id"])


OPERATION: Final = OperationType("export_contacts", select, perform, where)
