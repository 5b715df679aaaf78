"""Lists: one mechanism for pages, orders, filters and sparse fields of all list endpoints.

A list is one named query that can be read, and run, as it stands: it ends in its WHERE clause.
Below it, comment lines declare what callers may ask for:

    -- filter owner_id: c.owner_id = :value
    -- sort name: lower(c.name) text, c.id uuid

Only these words of a query file ever come into a statement; what callers say travels as arguments.
A statement holds the filters that were given and no others, so that each has the plan it deserves.

Pages follow each other by the sort key and the id of the last row (keyset), never by counting
rows: who walks all pages sees every row that was there from the beginning exactly once, whatever
is added meanwhile. A sort key must never be NULL; write coalesce(t.due_at, 'infinity').
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final

import asyncpg
import orjson
from pydantic import Field, create_model

from api.parameters import LARGEST_PAGE, Parameters
from api.problems import Problem, invalid
from api.shown import PageOf, Shown
from runtime.configuration import Fault, did_you_mean

LONGEST_CURSOR: Final = 4_000
_DECLARED: Final = re.compile(r"-- (filter|sort) ([a-z][a-z0-9_]*): (.+)")
_SORT: Final = re.compile(r"(.+) (\w+), (.+) (\w+)")
_MARK_LENGTH: Final = 8


class Page(Parameters):
    """One page of a list; its further fields are the list's filters.

    `sort` is a key of the list, descending with a minus before it; `fields` are the names that
    each item is to show, separated by commas; `cursor` is the `next_cursor` of the page before,
    to be given with the same sort and filters.
    """

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50
    cursor: Annotated[str, Field(max_length=LONGEST_CURSOR)] | None = None
    sort: Annotated[str, Field(max_length=64)] | None = None
    fields: Annotated[str, Field(max_length=1000)] | None = None


@dataclass(frozen=True, slots=True)
class _Sort:
    """An order: the key's expression and type, and the same of the id that breaks ties."""

    key: str
    key_type: str
    id: str
    id_type: str


Show = Callable[[asyncpg.Record], dict[str, Any]]
Cursor = tuple[str, str]
"""The sort key and the id of a page's last row, as PostgreSQL writes them."""


class List:
    """A list endpoint: its query with the declared sorts and filters, and what an item shows."""

    def __init__(
        self, query: str, shown: type[Shown], sort: str, show: Show = dict[str, Any]
    ) -> None:
        """Read the declarations of `query`; `sort` is the order of those who ask for none."""
        declared = [
            match.groups() for match in map(_DECLARED.fullmatch, query.split("\n")) if match
        ]
        self._name = query.partition(" */")[0]
        self._query = "\n".join(li for li in query.split("\n") if not _DECLARED.fullmatch(li))
        self._filters = {name: text for kind, name, text in declared if kind == "filter"}
        self._sorts = {name: _sort(text) for kind, name, text in declared if kind == "sort"}
        self._fields = tuple(shown.model_fields)
        self._default = sort
        self._show = show
        assert sort.removeprefix("-") in self._sorts, f"{self._name} has no sort {sort}"

    async def page(
        self, db: asyncpg.Pool, page: Page, *arguments: Any, **filters: Any
    ) -> dict[str, Any]:
        """Read one page; `arguments` are the query's own.

        Filters are the page's further fields, unless `filters` gives the values to compare with.
        None is no filter; a list stands for several conditions that must all hold.
        """
        sort = self._sort_of(page)
        names = self._fields_of(page)
        given = {name: getattr(page, name, None) for name in self._filters} | filters
        conditions = [(name, value) for name in given for value in _each(given[name])]
        mark = _mark(self._name, sort, *arguments, *conditions)
        after = _read_cursor(page.cursor, mark)
        text = self.compose(
            sort, tuple(name for name, _ in conditions), len(arguments), bool(after)
        )
        values = [*arguments, *(value for _, value in conditions), *after, page.limit + 1]
        try:
            rows = await db.fetch(text, *values)
        except asyncpg.DataError:
            if after:  # forged: it has our mark and is no key of this sort
                raise _unusable_cursor() from None
            raise
        return self._shown(rows, page.limit, names, mark)

    def _shown(
        self, rows: Sequence[asyncpg.Record], limit: int, names: Sequence[str] | None, mark: bytes
    ) -> dict[str, Any]:
        items = [self._item(row, names) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        cursor = last and _write_cursor(mark, (last["list_key"], last["list_id"]))
        return {"items": items, "next_cursor": cursor}

    def _item(self, row: asyncpg.Record, names: Sequence[str] | None) -> dict[str, Any]:
        item = self._show(row)
        item.pop("list_key", None)
        item.pop("list_id", None)
        return item if names is None else {name: item[name] for name in names}

    def _sort_of(self, page: Page) -> str:
        sort = page.sort or self._default
        name = sort.removeprefix("-")
        if name not in self._sorts:
            message = f"The list cannot be sorted by that.{did_you_mean(name, self._sorts)}"
            raise invalid(Fault("sort", "sort_unknown", message))
        return sort

    def _fields_of(self, page: Page) -> list[str] | None:
        if page.fields is None:
            return None
        names = [name.strip() for name in page.fields.split(",")]
        for name in names:
            if name not in self._fields:
                message = f"There is no such field.{did_you_mean(name, self._fields)}"
                raise invalid(Fault("fields", "unknown_field", message))
        return list(dict.fromkeys(names))

    @cache  # noqa: B019 - lists live as long as the process, and their statements are few
    def compose(self, sort: str, filters: tuple[str, ...], arguments: int, is_later: bool) -> str:
        """Put the statement together: the query, the filters, the place in the order, the order."""
        order = self._sorts[sort.removeprefix("-")]
        beyond, way = ("<", "DESC") if sort.startswith("-") else (">", "ASC")
        keys = f"({order.key})::text AS list_key, ({order.id})::text AS list_id"
        lines = [re.sub(r"\bSELECT\b", f"SELECT {keys},", self._query, count=1)]
        for number, name in enumerate(filters, arguments + 1):
            lines.append(f"AND ({self._filters[name].replace(':value', f'${number}')})")
        number = arguments + len(filters) + 1
        if is_later:
            key, id_ = f"${number}::text::{order.key_type}", f"${number + 1}::text::{order.id_type}"
            lines.append(f"AND ({order.key}, {order.id}) {beyond} ({key}, {id_})")
            number += 2
        lines.append(f"ORDER BY {order.key} {way}, {order.id} {way} LIMIT ${number}")
        return "\n".join(lines)


def _sort(text: str) -> _Sort:
    match = _SORT.fullmatch(text)
    assert match, f"{text!r} does not read as «key type, id type»"
    return _Sort(*match.groups())


def _each(value: Any) -> Sequence[Any]:
    if isinstance(value, list):
        return value
    return () if value is None else (value,)


def _mark(*parts: Any) -> bytes:
    """Tell this list, in this order, with these filters, from all others."""
    return hashlib.sha256(repr(parts).encode()).digest()[:_MARK_LENGTH]


def _write_cursor(mark: bytes, last: Cursor) -> str:
    return base64.urlsafe_b64encode(mark + orjson.dumps(last)).decode()


def _read_cursor(cursor: str | None, mark: bytes) -> Cursor | tuple[()]:
    if cursor is None:
        return ()
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii"))
        key, row_id = orjson.loads(raw[_MARK_LENGTH:])
    except ValueError:  # no ASCII, no base64, no JSON, not two
        raise _unusable_cursor() from None
    if raw[:_MARK_LENGTH] != mark or not isinstance(key, str) or not isinstance(row_id, str):
        raise _unusable_cursor()
    return key, row_id


def _unusable_cursor() -> Problem:
    message = "The cursor is of another list, sort or filter, or none that we gave."
    return invalid(Fault("cursor", "cursor_unusable", message))


@cache
def page_of(shown: type[Shown]) -> Any:
    """Give the model of a page whose items may be sparse: any of their fields may be left out."""
    fields: dict[str, Any] = {
        name: (info.annotation, Field(default=None)) for name, info in shown.model_fields.items()
    }
    sparse = create_model(
        f"{shown.__name__}InList", __base__=Shown, __doc__=shown.__doc__, **fields
    )
    return PageOf[sparse]
