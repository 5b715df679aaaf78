"""Running operations in a worker: claimed whole, worked on portion by portion, taking turns.

An operation in a worker's hand is leased through the worker's row, as everything else. A portion
is committed together with the progress that counts it, and only if the operation is still in this
worker's hand: what the dead have left is done by others from the last commit on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bell import Bell
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection, is_lost
from runtime.house import House
from runtime.operations import (
    ItemError,
    Operation,
    OperationError,
    OperationType,
    Portion,
    Work,
    queries,
)
from runtime.performing import failure_of, is_transient
from runtime.registry import Registry
from runtime.versions import Versions

log = structlog.get_logger(__name__)

AT_ONCE: Final = 2
"""How many operations one worker has in hand."""

TURN_SECONDS: Final = 5.0
TRANSIENT_TRIES: Final = 5
_LONGEST_MESSAGE: Final = 500
_ERROR = ("account_id", "operation_id", "line", "column_name", "item_id", "code", "message")


class _TakenAwayError(Exception):
    """The operation is no longer in this worker's hand: nothing of the portion is committed."""


@dataclass(slots=True)
class OperationRuns:
    """Runs operations for one worker, at most AT_ONCE at the same time."""

    registry: Registry
    house: House
    versions: Versions
    bell: Bell
    worker_id: UUID
    _hands: set[UUID] = field(default_factory=set)
    _running: int = 0
    _lost_track: bool = False
    _is_stopping: bool = False

    @property
    def _pool(self) -> asyncpg.Pool:
        return self.house.pool

    def stop(self) -> None:
        """Begin no further portion."""
        self._is_stopping = True

    async def answer(self) -> int:
        """Run operations until none waits; gives how many portions were done.

        Raises only when the database is lost; then nothing of the portion was committed.
        """
        if self._running >= AT_ONCE or self._is_stopping:
            return 0  # those who run them look again
        self._running += 1
        portions = 0
        try:
            while (operation := await self._claim()) is not None:
                portions += await self._take_turn(operation)
        finally:
            self._running -= 1
        if self._is_stopping:
            await self.bell.ring(Bells(operations=True))
        return portions

    async def drop_what_was_lost(self) -> None:
        """Leave what a lost connection took out of this worker's hands to whoever comes next."""
        if self._lost_track:
            self._lost_track = False
            try:
                hands = list(self._hands)
                await self._pool.execute(queries.drop_operations, self.worker_id, hands)
            except BaseException:
                self._lost_track = True
                raise

    async def _claim(self) -> Operation | None:
        if self._is_stopping:
            return None
        kinds = list(self.registry.operations)
        try:
            now = await current_instant(self._pool)
            row = await self._pool.fetchrow(queries.claim_operation, self.worker_id, now, kinds)
        except BaseException:
            self._lost_track = True  # it may be committed
            raise
        return Operation(**row) if row else None

    async def _take_turn(self, operation: Operation) -> int:
        """Work on an operation until it ends or others have waited for long enough."""
        self._hands.add(operation.id)
        began, portions = time.monotonic(), 0
        current: Operation | None = operation
        try:
            while current is not None:
                if self._is_stopping or time.monotonic() - began > TURN_SECONDS:
                    now = await current_instant(self._pool)
                    await self._pool.execute(queries.put_down, current.id, self.worker_id, now)
                    break
                current = await self._portion(current)
                portions += 1
        except BaseException:
            self._lost_track = True
            raise
        finally:
            self._hands.discard(operation.id)
        return portions

    async def _portion(self, operation: Operation) -> Operation | None:
        """Do the next portion; gives the operation behind it, None when it has ended here."""
        type_ = self.registry.operations[operation.kind]
        tries = 0
        while True:
            tries += 1
            async with self._pool.acquire() as db:
                try:
                    return await self._try_portion(db, type_, operation)
                except _TakenAwayError:
                    log.warning("operation.taken_away", operation_id=str(operation.id))
                    return None
                except Exception as error:
                    if is_lost(db, error):
                        raise
                    if not is_transient(error) or tries >= TRANSIENT_TRIES:
                        await self._fail(db, operation, error)
                        return None

    async def _try_portion(
        self, db: Connection, type_: OperationType, operation: Operation
    ) -> Operation | None:
        now = await current_instant(db)
        work = Work(operation, db, now, self.house, self.versions, dict(operation.result))
        portion = await type_.select(work)
        async with db.transaction():
            work.now = await current_instant(db)
            errors = await self._perform(type_, work, portion.items)
            status = await self._count(work, portion, errors)
        await self.bell.ring(work.bells)
        if status != "running":
            log.info("operation.ended", operation_id=str(operation.id), status=status)
            return None
        return replace(
            operation, state=portion.state, result=work.result, chunk=operation.chunk + 1
        )

    async def _perform(
        self, type_: OperationType, work: Work, items: Sequence[Any]
    ) -> list[Sequence[ItemError]]:
        """Perform items whole, or in halves when that fails: the culprit fails alone."""
        before = dict(work.result)
        try:
            async with work.db.transaction():
                errors = list(await type_.perform(work, items))
        except OperationError:
            raise
        except Exception as error:
            if not items or is_transient(error) or is_lost(work.db, error):
                raise
            work.result = before
            if len(items) == 1:
                failure = failure_of(error)
                log.exception("operation.item_failed", operation_id=str(work.operation.id))
                return [[type_.where(items[0], failure.code, failure.message)]]
            half = len(items) // 2
            return [
                *await self._perform(type_, work, items[:half]),
                *await self._perform(type_, work, items[half:]),
            ]
        assert len(errors) == len(items), f"{type_.kind} answers for every item"
        return errors

    async def _count(
        self, work: Work, portion: Portion, errors: Sequence[Sequence[ItemError]]
    ) -> str:
        operation = work.operation
        failed = sum(bool(of_item) for of_item in errors)
        status = await work.db.fetchval(
            queries.commit_chunk,
            operation.id,
            self.worker_id,
            operation.chunk,
            len(errors) - failed,
            failed,
            portion.total,
            dict(portion.state),
            work.result,
            portion.is_last,
            work.now,
        )
        if status is None:
            raise _TakenAwayError
        rows = [_row(operation, error) for of_item in errors for error in of_item]
        if rows:
            await work.db.copy_records_to_table("operation_errors", columns=_ERROR, records=rows)
        if status != "running":
            await work.db.execute(queries.delete_upload, operation.id)
        ended: str = status
        return ended

    async def _fail(self, db: Connection, operation: Operation, error: Exception) -> None:
        if isinstance(error, OperationError):
            code, message = error.code, error.message
        else:
            log.error(
                "operation.crashed",
                operation_id=str(operation.id),
                kind=operation.kind,
                exc_info=error,
            )
            failure = failure_of(error)
            code = "operation_crashed" if failure.code == "action_crashed" else failure.code
            message = "the operation met an error that it does not know"
        async with db.transaction():
            now = await current_instant(db)
            await db.execute(queries.fail, operation.id, self.worker_id, code, message, now)
            await db.execute(queries.delete_upload, operation.id)


def _row(operation: Operation, error: ItemError) -> tuple[Any, ...]:
    return (
        operation.account_id,
        operation.id,
        error.line,
        error.column,
        error.item_id,
        error.code,
        error.message[:_LONGEST_MESSAGE],
    )
