"""Resources: what is the same about making, reading, changing and deleting rows over the API.

A resource is a word and the named queries that go with it: `<word>` reads one, `add_<word>`,
`change_<word>` and `delete_<word>` write, all of them beginning with account and id. What is
particular to one, such as its body or a rule of its own, stands in its file.

A PATCH merges: what it leaves out stays, null clears. Rows are locked before they are looked at,
the contact before what belongs to it, as batches do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Handler, Route
from api.etags import check_match, tagged
from api.known import Kind, check_references
from api.lists import page_of
from api.parameters import Parameters
from api.problems import conflict, not_found
from api.shown import Shown
from api.uses import Force, ShownDeletion, find_uses, in_use
from runtime import clock
from runtime.bells import Bells
from runtime.database import Connection
from runtime.events import IncomingEvent, take_in
from runtime.ids import new_id
from sql import Queries, load

contact_queries = load("api_contacts")

Values = Mapping[str, Any]
Happened = Sequence[tuple[str, Mapping[str, Any]]]
"""Events of the row's contact: type and payload."""


def nothing_happened(_before: Values | None, _after: Values) -> Happened:
    """Say that a change is no event of a contact."""
    return ()


async def anything_goes(_call: Call, _db: Connection, _before: Values | None, _after: Any) -> None:
    """Refuse nothing."""


async def anything_may_go(_call: Call, _db: Connection, _before: dict[str, Any]) -> None:
    """Keep nothing from being deleted."""


Check = Callable[[Call, Connection, Values | None, dict[str, Any]], Awaitable[None]]
"""Refuses a change (before, after) by a Problem, or completes what is to be written."""

Spare = Callable[[Call, Connection, dict[str, Any]], Awaitable[None]]
"""Refuses a deletion by a Problem, or clears its way."""

Edit = Callable[[Connection, dict[str, Any]], Awaitable[Values]]
"""Gives what is to be different about a row that is locked."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What can be made, read, changed and deleted under one word.

    `columns` are what `add_` and `change_` take after account, id and instant; `references` the
    fields that lead to other rows; `taken` the unique constraints with the field that they are of.
    `is_recorded` ones write the audit log; those `of_contact` may emit events; one that `is_own`
    is the caller's account, which needs no id in its path. `lock_first` locks what a change looks
    at beyond the row. `referred_by` is the column by which actions name one, if they do: what is
    used is deleted by force only.
    """

    word: str
    path: str
    queries: Queries
    columns: tuple[str, ...]
    references: Mapping[str, Kind] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    is_recorded: bool = True
    of_contact: bool = False
    is_own: bool = False
    lock_first: str | None = None
    referred_by: str | None = None
    check: Check = anything_goes
    spare: Spare = anything_may_go
    happened: Callable[[Values | None, Values], Happened] = nothing_happened

    async def create(self, call: Call, body: Body, **more: Any) -> web.Response:
        """Make one from a body and answer with it: 201, with its address in Location."""
        after, row_id = {**body.model_dump(), **more}, new_id()
        async with writing(call, self.word, self.taken) as (db, bells):
            if self.of_contact:
                await check_references(db, call.account_id, after, {"contact_id": "contact"})
                await lock_contact(db, call.account_id, after["contact_id"])
            await self._write(call, db, row_id, None, after)
            shown = await self._read(call, db, row_id)
            await self._tell(call, db, bells, None, shown)
        return answer(shown, 201, {"Location": f"{self.path}/{row_id}", **tagged(shown)})

    async def read(self, call: Call) -> web.Response:
        """Answer with the one of the path."""
        row = await self.find(call, call.pool)
        return answer(row, headers=tagged(row))

    async def change(
        self, call: Call, body: Body | None, edit: Edit | None = None, **more: Any
    ) -> web.Response:
        """Write what a body gives into the one of the path, and answer with it."""
        given = {**(body.model_dump(exclude_unset=True) if body else {}), **more}
        async with writing(call, self.word, self.taken) as (db, bells):
            before = await self.lock(call, db)
            check_match(call.request, before)
            edited = await edit(db, before) if edit else {}
            after = {**before, **given, **edited}
            if after != before:
                await self._write(call, db, before["id"], before, after)
            shown = await self._read(call, db, before["id"])
            if after != before:
                await self._tell(call, db, bells, before, shown)
        return answer(shown, headers=tagged(shown))

    async def delete(self, call: Call) -> web.Response:
        """Delete the one of the path: 204, or 200 with the actions that refer to it."""
        # Read before anything is looked at: a wrong value is refused, used or not.
        is_forced = call.route.parameters is Force and call.parameters(Force).force
        async with writing(call, self.word, self.taken) as (db, _):
            before = await self.lock(call, db)
            check_match(call.request, before)
            uses = await self.uses(call, db, before)
            if uses and not is_forced:
                raise in_use(self.word.replace("_", " "), uses)
            await self.spare(call, db, before)
            await db.execute(self._query("delete"), call.account_id, before["id"])
            if self.is_recorded:
                await call.record(
                    db, f"{self.word}.deleted", (self.word, before["id"]), before, None
                )
        return answer({"references": uses}) if uses else web.Response(status=204)

    async def uses(
        self, call: Call, db: Connection | asyncpg.Pool, row: Values
    ) -> list[dict[str, Any]]:
        """Find the places in actions that refer to a row."""
        if self.referred_by is None:
            return []
        target = str(row[self.referred_by]).lower()
        return await find_uses(db, call.services.registry, call.account_id, self.word, target)

    async def find(self, call: Call, db: Connection | asyncpg.Pool) -> dict[str, Any]:
        """Read the one of the path; a 404 Problem if the account has none."""
        return await self._read(call, db, self._id(call))

    async def lock(self, call: Call, db: Connection) -> dict[str, Any]:
        """The same, locked until the commit, with its contact if it is of one.

        It is locked, then looked at: the statement that waits for a lock does not see what others
        have written meanwhile into the tables beside.
        """
        if self.lock_first:
            await db.execute(self.lock_first, call.account_id)
        if self.of_contact:
            row = await self.find(call, db)
            await lock_contact(db, call.account_id, row["contact_id"])
        row_id = self._id(call)
        await self._read(call, db, row_id, "\nFOR NO KEY UPDATE")
        return await self._read(call, db, row_id)

    def _id(self, call: Call) -> UUID:
        return call.account_id if self.is_own else call.id(f"{self.word}_id")

    async def _read(
        self, call: Call, db: Connection | asyncpg.Pool, row_id: UUID, lock: str = ""
    ) -> dict[str, Any]:
        row = await db.fetchrow(getattr(self.queries, self.word) + lock, call.account_id, row_id)
        if row is None:
            raise not_found(self.word)
        return dict(row)

    async def _shown(self, call: Call, db: Connection, row_id: UUID) -> dict[str, Any]:
        return await self._read(call, db, row_id)

    async def _write(
        self, call: Call, db: Connection, row_id: UUID, before: Any, after: dict[str, Any]
    ) -> None:
        fresh = {name: after[name] for name in self.references if _is_new(name, before, after)}
        await check_references(db, call.account_id, fresh, self.references)
        await self.check(call, db, before, after)
        now = await clock.current_instant(db)
        values = [after[name] for name in self.columns]
        query = self._query("add" if before is None else "change")
        await db.execute(query, call.account_id, row_id, now, *values)

    async def _tell(
        self, call: Call, db: Connection, bells: Bells, before: Values | None, shown: Values
    ) -> None:
        if self.is_recorded:
            change = f"{self.word}.{'created' if before is None else 'changed'}"
            await call.record(db, change, (self.word, shown["id"]), before, shown)
        events = self.happened(before, shown)
        if events:
            await emit(db, bells, call.account_id, [(shown["contact_id"], *one) for one in events])

    def _query(self, what: str) -> str:
        query: str = getattr(self.queries, f"{what}_{self.word}")
        return query


@asynccontextmanager
async def writing(
    call: Call, word: str, taken: Mapping[str, str]
) -> AsyncIterator[tuple[Connection, Bells]]:
    """Lend a transaction; constraints that speak become 409 Problems, bells ring after it.

    `taken` gives the field that each unique constraint is of.
    """
    bells = Bells()
    try:
        async with call.transaction() as db:
            yield db, bells
    except asyncpg.UniqueViolationError as error:
        what = taken.get(error.constraint_name or "")
        if what is None:
            raise
        message = f"Another {word.replace('_', ' ')} has this {what}."
        raise conflict(f"{word}_{what}_taken", message) from None
    except asyncpg.ForeignKeyViolationError:
        message = "Other records refer to it, or what it refers to has just been deleted."
        raise conflict(f"{word}_in_use", message) from None
    await call.ring(bells.families, events=bells.events)


def _is_new(name: str, before: Values | None, after: Values) -> bool:
    return before is None or before[name] != after[name]


async def lock_contact(db: Connection, account_id: UUID, contact_id: UUID) -> dict[str, Any]:
    """Lock a contact as batches do and read it; a 404 Problem if the account has none."""
    row = await db.fetchrow(contact_queries.lock_contact, account_id, contact_id)
    if row is None:
        raise not_found("contact")
    return dict(row)


async def emit(
    db: Connection,
    bells: Bells,
    account_id: UUID,
    events: Sequence[tuple[UUID, str, Mapping[str, Any]]],
) -> None:
    """Take in events of contacts (id, type, payload) that the API itself has caused."""
    incoming = [
        IncomingEvent(account_id, what, contact, payload) for contact, what, payload in events
    ]
    _, rung = await take_in(db, incoming)
    bells.families |= rung.families
    bells.events = bells.events or rung.events


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who answers the five operations of a resource, and the models of what they are given."""

    create: Handler
    list_all: Handler
    read: Handler
    change: Handler
    delete: Handler
    new: type[Body]
    page: type[Parameters]
    changed: type[Body]


def _deletion(resource: Resource) -> tuple[type[Parameters] | None, Mapping[int, Any]]:
    if resource.referred_by is None:
        return None, {204: None}
    return Force, {204: None, 200: ShownDeletion}


def routes_of(
    resource: Resource,
    edit: Permission,
    h: Handlers,
    shown: type[Shown],
    listed: type[Shown] | None = None,
) -> tuple[Route, ...]:
    """Give the routes of a resource: all may be refused where something stands against them."""
    every, one = resource.path, f"{resource.path}/{{{resource.word}_id}}"
    refused, read = frozenset({409}), Permission.READ
    return (
        Route("POST", every, h.create, edit, h.new, answers={201: shown}, problems=refused),
        Route("GET", every, h.list_all, read, None, h.page, {200: page_of(listed or shown)}),
        Route("GET", one, h.read, read, answers={200: shown}),
        Route("PATCH", one, h.change, edit, h.changed, answers={200: shown}, problems=refused),
        Route("DELETE", one, h.delete, edit, None, *_deletion(resource), refused),
    )
