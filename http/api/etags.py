"""Entity tags: for those who want to be told when somebody else has changed what they change.

A tag is made of a row's id and the instant of its last change. `If-Match` is optional; where it is
given and does not fit, nothing is changed (RFC 9110, 13.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
from aiohttp import web

from api.problems import Problem

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
# A list may have empty elements (RFC 9110, 5.6.1.2), and a tag may hold a comma.
_LIST: Final = re.compile(rf"[\s,]*{_TAG.pattern}(?:\s*,[\s,]*{_TAG.pattern})*[\s,]*")


Row = Mapping[str, Any] | asyncpg.Record


def etag_of(row: Row) -> str:
    """Give the strong tag of a row that has `id` and `updated_at`."""
    micros = round(row["updated_at"].timestamp() * 1_000_000)
    return f'"{row["id"].hex[-12:]}-{micros:x}"'


def tagged(row: Row) -> dict[str, str]:
    """Give the header that tells the tag of a row; none for rows that keep no instant of change."""
    return {"ETag": etag_of(row)} if row.get("updated_at") else {}


def check_match(request: web.Request, row: Row) -> None:
    """Refuse by a 412 Problem what was meant for another state of a row than the locked one.

    Without If-Match everything may go on; a 400 Problem for one that cannot be read.
    """
    given = ", ".join(request.headers.getall("If-Match", [])).strip()
    if not given or given == "*":
        return
    if not _LIST.fullmatch(given):
        message = 'If-Match takes * or entity tags, such as "abc".'
        raise Problem(400, "if_match_malformed", message)
    # Weak tags never match: the comparison is a strong one.
    if etag_of(row) not in _TAG.findall(given):
        message = "It was changed meanwhile; read it again."
        raise Problem(412, "precondition_failed", message, headers=tagged(row))
