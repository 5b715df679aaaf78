"""Query strings: known parameters only, each once, validated by a model; cursors of lists."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar, get_args
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.problems import Problem, invalid
from runtime.configuration import Fault, faults_of

LARGEST_PAGE: Final = 200

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_KEY: Final = struct.Struct(">q16s")


class Parameters(BaseModel):
    """The base of all models of query strings: closed, and lenient, since all values are text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(Parameters):
    """One page of a list: how many, and after which row (the `next_cursor` of the page before)."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50
    cursor: Annotated[str, Field(max_length=64)] | None = None

    def after(self) -> tuple[datetime | None, UUID | None]:
        """Give the sort key of the row that the page begins after; (None, None) for the first."""
        if self.cursor is None:
            return None, None
        try:
            raw = base64.urlsafe_b64decode(self.cursor.encode("ascii"))
            micros, row_id = _KEY.unpack(raw)
            return _EPOCH + micros * _MICROSECOND, UUID(bytes=row_id)
        except (binascii.Error, ValueError, struct.error, OverflowError):
            fault = Fault("cursor", "cursor_unusable", "The cursor is none that we gave.")
            raise invalid(fault) from None


ParametersModel = TypeVar("ParametersModel", bound=Parameters)


def read_parameters(request: web.Request, model: type[ParametersModel]) -> ParametersModel:
    """Validate the query string; a 422 Problem names what is wrong."""
    query = request.query
    twice = sorted({name for name in query if len(query.getall(name)) > 1})
    if twice:
        raise invalid(*(Fault(n, "given_twice", f"Give {n} once.") for n in twice[:20]))
    if any("\x00" in text or not _is_unicode(text) for pair in query.items() for text in pair):
        raise Problem(422, "unusable_text", "The query string holds NUL or broken UTF-8.")
    try:
        return model.model_validate({**query, **_flags(query, model)})
    except ValidationError as error:
        raise invalid(*faults_of(error, model)) from None


def _flags(query: Mapping[str, str], model: type[Parameters]) -> dict[str, bool]:
    """Read booleans, which are written true and false: pydantic would take «yes», «1» and «off»."""
    names = [name for name in query if name in model.model_fields and _is_flag(model, name)]
    faults = [
        Fault(name, "bool_parsing", "Write true or false.")
        for name in names
        if query[name] not in _WRITTEN
    ]
    if faults:
        raise invalid(*faults)
    return {name: _WRITTEN[query[name]] for name in names}


def _is_flag(model: type[Parameters], name: str) -> bool:
    annotation = model.model_fields[name].annotation
    return annotation is bool or bool in get_args(annotation)


_WRITTEN: Final = {"true": True, "false": False}


def page_of(
    rows: Sequence[asyncpg.Record], limit: int, show: Callable[[asyncpg.Record], Any]
) -> dict[str, Any]:
    """Show one page of rows, of which one more than `limit` was asked for.

    The rows have their sort key in `created_at` (or `started_at`) and `id`.
    """
    shown = rows[:limit]
    more = len(rows) > limit
    return {
        "items": [show(row) for row in shown],
        "next_cursor": _cursor(shown[-1]) if more else None,
    }


def _cursor(row: asyncpg.Record) -> str:
    instant = row.get("created_at") or row["started_at"]
    key = _KEY.pack((instant - _EPOCH) // _MICROSECOND, row["id"].bytes)
    return base64.urlsafe_b64encode(key).decode()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
