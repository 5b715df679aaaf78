"""One batch of steps, from the claim to the commit: all of it happens, or none of it.

A batch that fails is done again: at once after a deadlock, otherwise in halves, down to the one
step that is the culprit, which then fails alone. What is in hand is written down on another
connection first, so that after an unclean death the next claim takes each of those steps alone.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from runtime import measures, tracing
from runtime.bells import Bells
from runtime.claims import load_items
from runtime.claims import queries as claims
from runtime.clock import current_instant
from runtime.database import Connection, is_lost
from runtime.dispatching import settle
from runtime.failures import Failure
from runtime.lanes import MOST_LANES, Turns, get_or_create_lanes
from runtime.log import log_context, some_ids
from runtime.performing import Rounds, failure_of, is_transient
from runtime.recording import lanes_needed, record
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.stage import Stage
from runtime.versions import Versions
from sql import load

queries = load("batch")
log = structlog.get_logger(__name__)

TRANSIENT_TRIES: Final = 5
HELD_FOR: Final = timedelta(seconds=30)
# Steps that are claimed alone have their turn even where ready work never ends.
ISOLATED_TURN: Final = 8


@dataclass(slots=True)
class Done:
    """What a batch did: how many steps it had in hand, and what is to be rung for it."""

    steps: int = 0
    bells: Bells = field(default_factory=Bells)
    has_suspects: bool = False
    """Nothing was performed: some were in a dead worker's hands, which is now written down."""


@dataclass(slots=True)
class Batches:
    """Claims and performs batches of steps for one worker; many actors may use it at once.

    `pool` gives each batch its connection; `side` (another pool, so that they cannot starve
    each other) is for what must be committed apart from the batch.
    """

    pool: asyncpg.Pool
    side: asyncpg.Pool
    versions: Versions
    registry: Registry
    settings: Settings
    worker_id: UUID
    _turns: Turns = field(default_factory=Turns)
    _runs: int = 0
    _hands: set[int] = field(default_factory=set)
    _alone: set[UUID] = field(default_factory=set)
    _lost_track: bool = False

    async def run(self, family: str) -> Done:
        """Claim and perform one batch of a family; 0 steps say that nothing is ready.

        Raises only when the database is lost; then nothing of the batch was committed.
        """
        self._runs += 1
        first, second = self._run_shared, self._run_isolated
        if self._runs % ISOLATED_TURN == 0:
            first, second = second, first
        try:
            done = await first(family)
            return done if done.steps else await second(family)
        except BaseException:
            self._lost_track = True
            raise

    async def drop_what_was_lost(self) -> None:
        """Leave what a lost connection took out of this worker's hands to the sweep.

        The worker lives on, so that its lease would cover its lost hands for ever.
        """
        if self._lost_track:
            self._lost_track = False
            try:
                await self.side.execute(claims.drop_hands, self.worker_id, list(self._hands))
                await self.side.execute(claims.drop_alone, self.worker_id, list(self._alone))
            except BaseException:
                self._lost_track = True
                raise

    async def _run_shared(self, family: str) -> Done:
        with tracing.span("callboard.batch", family=family):
            return await self._claim_and_work(family, lambda db: self._claim(db, family))

    async def run_settled(self, family: str, step_ids: Sequence[UUID]) -> Done:
        """Perform steps of a family whose effects have just ended, without a write in between.

        Those that cannot be had in this way (of a paused workflow, say) are made ready for the
        next claim. Raises only when the database is lost; then a sweep makes them ready.
        """
        try:
            with tracing.span("callboard.batch", family=family):
                done = await self._claim_and_work(
                    family, lambda db: db.fetch(claims.claim_settled_steps, family, step_ids)
                )
            if done.steps < len(step_ids) or done.has_suspects:
                done.bells.families |= await self._make_ready(step_ids)
        except BaseException:
            self._lost_track = True
            raise
        return done

    async def _make_ready(self, step_ids: Sequence[UUID]) -> set[str]:
        async with self.pool.acquire() as db, db.transaction():
            return await settle(db, step_ids, await current_instant(db))

    async def _claim_and_work(
        self, family: str, claim: Callable[[Connection], Awaitable[list[asyncpg.Record]]]
    ) -> Done:
        rows: list[asyncpg.Record] = []
        began = time.monotonic()
        async with self.pool.acquire() as db:
            try:
                async with db.transaction():
                    rows = await claim(db)
                    ids = [row["id"] for row in rows]
                    if rows and await db.fetch(claims.isolate_suspects, ids, list(self._hands)):
                        # The commit says so; the others are claimed again without them.
                        return Done(len(rows), has_suspects=True)
                    bells = await self._work(db, rows) if rows else Bells()
                if rows:
                    measures.count_batch(family, time.monotonic() - began)
            except Exception as error:
                if not rows or is_lost(db, error):
                    raise
                ids = [row["id"] for row in rows]
                async with db.transaction():  # those of run_settled are not ready yet
                    await settle(db, ids, await current_instant(db))
                bells = await self._do_again(db, ids, error)
        return Done(len(rows), bells)

    async def _claim(self, db: Connection, family: str) -> list[asyncpg.Record]:
        """Claim a fair share of each lane; the lanes take turns when there are very many."""
        size = self.settings.batch_size
        return await self._turns.claim(
            family,
            lambda behind: db.fetch(claims.claim_steps, family, size, behind, MOST_LANES),
            lambda behind: db.fetchrow(claims.lanes_seen, family, behind, MOST_LANES),
        )

    async def _work(
        self, db: Connection, rows: Sequence[asyncpg.Record], *, careful: bool = False
    ) -> Bells:
        """Perform and record claimed steps in the transaction that holds their locks."""
        hand = await self.side.fetchval(
            claims.take_in_hand, self.worker_id, [row["id"] for row in rows]
        )
        self._hands.add(hand)
        try:
            stage = await self._stage(db)
            items, records = await load_items(db, self.versions, rows)
            rounds = self._rounds(stage, careful=careful)
            rounds.records += records
            await rounds.run(items)
            bells = await self._record(stage, rounds)
            await db.execute(claims.put_down, hand)
        except Exception as error:
            # The transaction is lost and its deletion with it, but this process lives. Unless the
            # connection is lost too: somebody may have hung until it was ended.
            if not is_lost(db, error):
                await self.side.execute(claims.put_down, hand)
            raise
        finally:
            self._hands.discard(hand)
        return bells

    async def _stage(self, db: Connection) -> Stage:
        now = await current_instant(db)
        return Stage(
            db,
            now,
            self.side.fetch,
            self.versions.active,
            max_event_depth=self.settings.max_event_depth,
        )

    def _rounds(self, stage: Stage, *, careful: bool) -> Rounds:
        return Rounds(stage, max_steps=self.settings.max_steps_per_execution, careful=careful)

    async def _record(self, stage: Stage, rounds: Rounds) -> Bells:
        lanes = {}
        if rounds.effects:
            async with self.side.acquire() as side:
                lanes = await get_or_create_lanes(side, lanes_needed(rounds.effects, self.registry))
        measures.count_steps(
            (r.item.action.type.name, r.outcome) for r in rounds.records if r.outcome is not None
        )
        return await record(stage, rounds, self.registry, lanes, self.worker_id)

    async def _do_again(self, db: Connection, ids: Sequence[UUID], error: Exception) -> Bells:
        """Do a failed batch again: whole after a deadlock, else in halves, the culprit alone."""
        log.warning(
            "batch.failed", steps=len(ids), step_ids=some_ids(ids), error=type(error).__name__
        )
        bells = Bells()
        parts = _smaller(list(ids), error, tries=1)
        while parts:
            part, tries = parts.pop()
            try:
                async with db.transaction():
                    rows = await db.fetch(claims.claim_these_steps, part)
                    if rows:
                        bells |= await self._work(db, rows, careful=len(part) == 1)
            except Exception as again:
                if is_lost(db, again):
                    raise
                if len(part) > 1 or (is_transient(again) and tries < TRANSIENT_TRIES):
                    parts += _smaller(part, again, tries=tries + 1)
                elif not is_transient(again):
                    bells |= await self._fail_alone(db, part[0], failure_of(again))
                # What deadlocks time after time stays ready: the next claim tries it again.
        return bells

    async def _fail_alone(self, db: Connection, step_id: UUID, failure: Failure) -> Bells:
        """Fail the one step that could be neither performed nor recorded."""
        execution_id = await db.fetchval(queries.execution_of_step, step_id)
        with log_context(step_id=step_id, execution_id=execution_id):
            return await self._fail_step(db, step_id, failure)

    async def _fail_step(self, db: Connection, step_id: UUID, failure: Failure) -> Bells:
        log.error("step.failed_alone", code=failure.code)
        try:
            async with db.transaction():
                rows = await db.fetch(claims.claim_these_steps, [step_id])
                items, _ = await load_items(db, self.versions, rows)
                stage = await self._stage(db)
                rounds = self._rounds(stage, careful=True)
                rounds.fail(items, failure)
                return await self._record(stage, rounds)
        except Exception as error:
            if is_lost(db, error):
                raise
            if isinstance(error, asyncpg.QueryCanceledError):
                # Somebody holds its contact: no fault of the step's.
                until = await db.fetchval(queries.put_off, step_id, HELD_FOR)
                return Bells(wake_at={until} if until else set())
            if not is_transient(error):
                await self._fail_outright(db, step_id, failure, error)
            return Bells()

    async def _fail_outright(
        self, db: Connection, step_id: UUID, failure: Failure, error: Exception
    ) -> None:
        """End a step by SQL alone, since not even its definition can be read: it must not loop."""
        log.error("step.unreadable", exc_info=error)
        kind, code, message = failure.kind.value, failure.code, failure.message
        await db.execute(queries.fail_outright, step_id, kind, code, message, self.worker_id)

    async def _run_isolated(self, family: str) -> Done:
        """Perform one step that was in hand when a worker died; its attempt is committed first."""
        async with self.pool.acquire() as db:
            now = await current_instant(db)
            begun = await db.fetchrow(claims.claim_isolated_step, family, self.worker_id, now)
            if begun is None:
                return Done()
            step_id, attempt = begun["step_id"], begun["attempt"]
            self._alone.add(step_id)
            try:
                bells = await self._try_isolated(db, step_id, attempt)
            finally:
                self._alone.discard(step_id)
        return Done(1, bells)

    async def _try_isolated(self, db: Connection, step_id: UUID, attempt: int) -> Bells:
        """Perform a step that was claimed alone, or fail it; what deadlocks stays ready."""
        failure: Failure | None = None
        for _ in range(TRANSIENT_TRIES):
            try:
                return await self._perform_isolated(db, step_id, attempt, failure)
            except Exception as error:
                if is_lost(db, error):
                    raise
                if is_transient(error):
                    continue
                if isinstance(error, asyncpg.QueryCanceledError) and failure is not None:
                    break
                if failure is not None:
                    await self._fail_outright(db, step_id, failure, error)
                    return Bells()
                failure = failure_of(error)
        async with db.transaction():
            await db.execute(claims.forget_begun_attempt, step_id, attempt)
            await db.execute(queries.put_back, step_id, attempt, self.worker_id)
        return Bells()

    async def _perform_isolated(
        self, db: Connection, step_id: UUID, attempt: int, failure: Failure | None
    ) -> Bells:
        async with db.transaction():
            rows = await db.fetch(claims.take_isolated_step, step_id, attempt, self.worker_id)
            # If it was cancelled meanwhile, it was never performed.
            await db.execute(claims.forget_begun_attempt, step_id, attempt)
            if not rows:
                return Bells()
            items, records = await load_items(db, self.versions, rows)
            stage = await self._stage(db)
            rounds = self._rounds(stage, careful=True)
            rounds.records += records
            if failure is not None:
                rounds.fail(items, failure)
            else:
                await rounds.run(items)
            return await self._record(stage, rounds)


def _smaller(ids: list[UUID], error: Exception, *, tries: int) -> list[tuple[list[UUID], int]]:
    if is_transient(error) and tries < TRANSIENT_TRIES:
        return [(ids, tries)]
    if len(ids) == 1:
        return [(ids, tries)]
    middle = len(ids) // 2
    return [(ids[:middle], 1), (ids[middle:], 1)]
