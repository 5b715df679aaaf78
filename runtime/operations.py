"""Operations: bulk work in the background, such as an import, with a row that people can watch.

A kind of operation says what its items are and what is done with them (`OperationType`); workers
do the work portion by portion (`operation_runs`). A portion's work and the progress that counts it
are one commit: whatever dies when, every item is done once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.house import House
from runtime.ids import new_id
from runtime.versions import Versions
from sql import load

queries = load("operations")

MOST_OPEN: Final = 20
"""How many operations of one account may be queued or running."""


class TooManyOperationsError(Exception):
    """The account has MOST_OPEN operations that are not ended."""


class OperationError(Exception):
    """Raised by a kind: the operation as a whole cannot go on, and ends as failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation in a worker's hand. `state` is where the next portion begins; {} at first."""

    id: UUID
    account_id: UUID
    kind: str
    parameters: Mapping[str, Any]
    state: Mapping[str, Any]
    result: Mapping[str, Any]
    created_by: UUID | None
    created_at: datetime
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why an item could not be done, and where it stands: a line of a file, or an item's id."""

    code: str
    message: str
    line: int | None = None
    column: str | None = None
    item_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Portion:
    """The next items of an operation, and the state behind them; `total` once it is known."""

    items: Sequence[Any]
    state: Mapping[str, Any]
    is_last: bool
    total: int | None = None


@dataclass(slots=True)
class Work:
    """What a kind works with. `db` is in the portion's transaction while items are performed.

    `result` is what people will see; what is changed in it counts if the items are committed.
    `bells` are rung after the commit.
    """

    operation: Operation
    db: Connection
    now: datetime
    house: House
    versions: Versions
    result: dict[str, Any]
    bells: Bells = field(default_factory=Bells)

    @property
    def account_id(self) -> UUID:
        """The account that the operation works for, and whose rows alone it may see."""
        return self.operation.account_id


Select = Callable[[Work], Awaitable[Portion]]
Perform = Callable[[Work, Sequence[Any]], Awaitable[Sequence[Sequence[ItemError]]]]


@dataclass(frozen=True, slots=True)
class OperationType:
    """One kind of operation.

    `select` reads the next portion, outside a transaction, and changes nothing. `perform` does
    what is to be done with items, set-based, and gives for each its errors (none: it is done);
    when it raises, the items are performed in halves, down to the culprit, which fails alone:
    `where` says of an item where it stands. An OperationError of either ends the operation.
    """

    kind: str
    select: Select
    perform: Perform
    where: Callable[[Any, str, str], ItemError]


async def begin(
    db: Connection,
    account_id: UUID,
    kind: str,
    parameters: Mapping[str, Any],
    *,
    created_by: UUID | None = None,
    total: int | None = None,
    operation_id: UUID | None = None,
) -> UUID:
    """Queue an operation in the caller's transaction, who rings for it after the commit.

    TooManyOperationsError if the account has MOST_OPEN already.
    """
    await db.execute(queries.lock_account, account_id)
    if await db.fetchval(queries.open_operations, account_id) >= MOST_OPEN:
        raise TooManyOperationsError
    now = await current_instant(db)
    made = operation_id or new_id()
    await db.execute(
        queries.add_operation, made, account_id, kind, dict(parameters), total, created_by, now
    )
    return made


async def cancel(db: Connection, account_id: UUID, operation_id: UUID) -> str | None:
    """Ask for an operation's end; gives its status then, None if it has ended before.

    What is done stays done. A worker that has it in hand ends it behind its present chunk.
    """
    now = await current_instant(db)
    status: str | None = await db.fetchval(queries.ask_to_cancel, account_id, operation_id, now)
    if status == "cancelled":
        await db.execute(queries.delete_upload, operation_id)
    return status


async def read(
    db: Connection | asyncpg.Pool, account_id: UUID, operation_id: UUID
) -> asyncpg.Record | None:
    """Read an operation as people see it."""
    return await db.fetchrow(queries.operation, account_id, operation_id)
