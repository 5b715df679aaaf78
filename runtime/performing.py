"""Performing a batch: rounds of performances, until nothing more can be done in one commit.

Each round groups the items in hand by action type and phase and performs every group set-based.
Items whose step is completed go on, in the same transaction, with the next action of their
workflow: consecutive inward steps are fused. Fusion ends at waits, effects and failures, behind
contended actions (they lock rows that others queue up at, so they come last), and after
MAX_ROUNDS, so that a long chain does not hold its contacts for too long.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, assert_never, cast
from uuid import UUID

import asyncpg
import structlog

from runtime import states
from runtime.database import is_lost
from runtime.failures import Failure, Kind, backoff
from runtime.ids import new_id
from runtime.outcomes import Dispatch, Done, EffectRequest, Failed, Outcome, Skipped, Sleep, Wait
from runtime.records import Ended, NewEffect, Record
from runtime.registry import Performance
from runtime.settling import settle_effects
from runtime.stage import Item, Stage
from runtime.templates import TemplateError
from sql import load

queries = load("performing")
log = structlog.get_logger(__name__)

MAX_ROUNDS: Final = 16
LONGEST_RENDERING: Final = 0.02  # seconds, before the loop goes on
# What the sweep writes on a step that it gives up.
WORKER_LOST: Final = "worker_lost"


class Rounds:
    """One batch being performed; afterwards `records`, `ended` and `effects` hold what to write.

    `careful`: the batch is one item, done again because it failed its batch: nothing is fused,
    and what its performance raises becomes its failure instead of the batch's.
    """

    def __init__(self, stage: Stage, *, max_steps: int, careful: bool = False) -> None:
        self.stage = stage
        self.records: list[Record] = []
        self.ended: list[Ended] = []
        self.effects: list[NewEffect] = []
        self._max_steps = max_steps
        self._careful = careful
        self._frontier: list[Item] = []
        self._may_fuse = not careful
        self._waits: list[tuple[Item, Wait]] = []

    async def run(self, items: Iterable[Item]) -> None:
        """Perform the items and all that can be fused behind them."""
        self._frontier = list(items)
        contended: list[Item] = []
        rounds = 0
        while self._frontier:
            rounds += 1
            self._may_fuse = not self._careful and rounds < MAX_ROUNDS
            batch, self._frontier = self._frontier, []
            contended += [item for item in batch if item.action.type.contended]
            await self._perform_groups([i for i in batch if not i.action.type.contended])
        self._may_fuse = False
        while contended:
            await self._perform_groups(contended)
            # Only a resumption or a settling can come back here: nothing new is fused.
            contended, self._frontier = self._frontier, []
        for item, request in self.stage.notices:
            self.effects.append(NewEffect(new_id(), item, replace(request, gates_step=False)))
        if self.stage.cancelled:
            self._drop_cancelled()

    def _drop_cancelled(self) -> None:
        """Skip what this batch has of executions that one of its own performances cancelled."""
        cancelled = self.stage.cancelled
        self.effects = [e for e in self.effects if e.item.execution_id not in cancelled]
        open_ones = [
            r
            for r in self.records
            if r.item.execution_id in cancelled and r.status not in states.FINAL
        ]
        kept = set(map(id, open_ones))
        self.records = [r for r in self.records if id(r) not in kept]
        self.records += [
            Record(r.item, "skipped", None, skip_reason="cancelled")
            for r in open_ones
            if r.item.status is not None
        ]

    def fail(self, items: Iterable[Item], failure: Failure) -> None:
        """Fail items without performing them; what may be retried is."""
        for item in items:
            item.begun_at = item.begun_at or self.stage.now
            self._take(item, Failed(failure))

    def _add(self, record: Record) -> None:
        record.finished_at = self.stage.at
        self.records.append(record)

    async def _perform_groups(self, items: Sequence[Item]) -> None:
        groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in items:
            groups[item.action.type.name, item.phase].append(item)
        # By name, so that two batches take the locks of their actions in one order.
        for name, phase in sorted(groups):
            for wave in _one_contact_each(groups[name, phase]):
                await self._perform(phase, wave)
        if self._waits:
            await self._look_for_events()

    async def _perform(self, phase: str, items: Sequence[Item]) -> None:
        self.stage.at = self.stage.instant()
        able = await self._prepare_all(items)
        if not able:
            return
        performance = _performance_of(able[0], phase)
        outcomes = (
            await self._guarded(performance, able)
            if self._careful
            else await performance(self.stage, able)
        )
        self.stage.at = self.stage.instant()
        for item, outcome in zip(able, outcomes, strict=True):
            self._take(item, outcome)

    async def _guarded(self, performance: Performance, items: Sequence[Item]) -> Sequence[Outcome]:
        try:
            with self.stage.dropping_what_failed():
                async with self.stage.db.transaction():
                    return await performance(self.stage, items)
        except Exception as error:
            if is_transient(error) or is_lost(self.stage.db, error):
                raise
            log.exception("step.crashed", step_id=str(items[0].step_id))
            return [Failed(failure_of(error))]

    async def _prepare_all(self, items: Sequence[Item]) -> list[Item]:
        """Prepare items and give those to perform; lets the loop go on now and then.

        One rendering is bounded, but a batch may hold 500 of a hostile workflow.
        """
        able = []
        began = time.monotonic()
        for item in items:
            item.begun_at = item.begun_at or self.stage.at
            if self._prepare(item):
                able.append(item)
            if time.monotonic() - began > LONGEST_RENDERING:
                await asyncio.sleep(0)
                began = time.monotonic()
        return able

    def _prepare(self, item: Item) -> bool:
        """Render the item's config; False when the item has ended without being performed."""
        if item.execution_id in self.stage.cancelled:
            self.records.append(Record(item, "pending", None))  # see _drop_cancelled
            return False
        # Any other code is that of an earlier try, which is being retried.
        if item.error_code == WORKER_LOST:
            message = "workers died with this step in hand, time after time"
            self._take(item, Failed(Failure(Kind.INTERNAL, WORKER_LOST, message), True))
            return False
        if not item.action.is_enabled:
            self._take(item, Skipped("disabled"))
            return False
        try:
            values = item.action.values
            item.values = cast("Mapping[str, Any]", values.render(template_context(item)))
        except TemplateError as error:
            self._take(item, Failed(Failure(Kind.INVALID_CONFIG, error.code, error.message)))
            return False
        return True

    def _take(self, item: Item, outcome: Outcome) -> None:
        match outcome:
            case Done():
                self._complete(item, outcome)
            case Skipped(reason, result):
                record = Record(item, "skipped", "skipped", skip_reason=reason, result=result)
                self._conclude(record, item.action.next_id)
            case Failed():
                self._fail(item, outcome)
            case Sleep(until, data):
                self._sleep(item, until, data)
            case Wait():
                self._waits.append((item, outcome))
            case Dispatch(effects, data):
                self._dispatch(item, effects, dict(data))
            case _:
                assert_never(outcome)

    def _complete(self, item: Item, done: Done) -> None:
        item.results[item.action.key] = done.result
        record = Record(item, "completed", "completed", result=done.result)
        if done.ends is not None:
            self._add(record)
            self.ended.append(Ended(item.execution_id, "completed", done.ends))
        elif done.branch_id is not None:
            self._conclude(record, item.version.heads.get(done.branch_id))
        else:
            self._conclude(record, item.action.next_id)

    def _sleep(self, item: Item, until: datetime, data: Any) -> None:
        if until <= self.stage.now:
            self._again(item, "resume", dict(data))
            return
        record = Record(item, "scheduled", "slept", phase="resume", scheduled_at=until, data=data)
        self._add(record)

    def _dispatch(self, item: Item, effects: Sequence[EffectRequest], data: dict[str, Any]) -> None:
        self.effects += [NewEffect(new_id(), item, effect) for effect in effects]
        if not any(effect.gates_step for effect in effects):
            item.effects = ()
            self._again(item, "settle", data)
            return
        self._add(Record(item, "running", "dispatched", phase="settle", data=data))

    def _again(self, item: Item, phase: str, data: dict[str, Any]) -> None:
        item.phase, item.data = phase, data
        self._frontier.append(item)

    def _fail(self, item: Item, failed: Failed) -> None:
        failure = failed.failure
        delay = None if failed.is_final else backoff(failure, item.retry_count)
        if delay is not None:
            self._add(
                Record(
                    item,
                    "scheduled",
                    "retried",
                    failure=failure,
                    phase=item.phase,
                    data=item.data,
                    scheduled_at=self.stage.now + delay,
                    retries=1,
                )
            )
            return
        record = Record(item, "failed", "failed", failure=failure)
        action = item.action
        if action.fallback_id is not None:
            self._conclude(record, action.fallback_id, came_back_to=self._after_fallback(item))
        elif action.on_failure == "continue":
            self._conclude(record, action.next_id)
        else:
            self._add(record)
            self.ended.append(Ended(item.execution_id, "failed", failure.code))

    def _after_fallback(self, item: Item) -> UUID | None:
        """Where to go on behind a fallback: a branch is a detour, the same chain a jump."""
        fallback = item.version.actions[item.action.fallback_id or item.action.id]
        if fallback.branch_id == item.action.branch_id:
            return item.return_action_id
        return item.action.next_id or item.return_action_id

    def _conclude(
        self, record: Record, next_id: UUID | None, *, came_back_to: UUID | None = None
    ) -> None:
        """Write the step's end and begin the next one, or end the execution."""
        self._add(record)
        item = record.item
        return_to = came_back_to or item.return_action_id
        if next_id is None and return_to is not None:
            next_id, return_to = return_to, None
        if next_id is None:
            self.ended.append(Ended(item.execution_id, "completed"))
        elif item.sequence + 1 >= self._max_steps:
            self.ended.append(Ended(item.execution_id, "failed", "loop_guard"))
        else:
            self._begin(_following(item, next_id, return_to))

    def _begin(self, item: Item) -> None:
        if self._may_fuse:
            self._frontier.append(item)
        else:
            self._add(Record(item, "pending", None))

    async def _look_for_events(self) -> None:
        """Second statement of the race between an event and its wait, under the contacts' locks."""
        waits, self._waits = self._waits, []
        rows = await self.stage.db.fetch(
            queries.events_for_waits,
            [i.contact_id for i, _ in waits],
            [w.event_type for _, w in waits],
            [w.since for _, w in waits],
            [w.action_id for _, w in waits],
            [i.execution_id for i, _ in waits],
        )
        found = {row["ordinality"]: row for row in rows}
        for number, (item, wait) in enumerate(waits, start=1):
            if (event := found.get(number)) is not None:
                item.event, item.event_id = dict(event), event["id"]
                self._again(item, "resume", dict(wait.data))
            elif wait.until is not None and wait.until <= self.stage.now:
                self._again(item, "resume", dict(wait.data))
            else:
                self._add(_waiting(item, wait))


def _waiting(item: Item, wait: Wait) -> Record:
    return Record(
        item,
        "waiting",
        "waited",
        phase="resume",
        data=wait.data,
        scheduled_at=wait.until,
        waiting_for=wait.event_type,
        waiting_action_id=wait.action_id,
    )


def _following(item: Item, action_id: UUID, return_to: UUID | None) -> Item:
    return Item(
        step_id=new_id(),
        execution_id=item.execution_id,
        version=item.version,
        action=item.version.actions[action_id],
        contact=item.contact,
        sequence=item.sequence + 1,
        phase="perform",
        context=item.context,
        results=item.results,
        priority=item.priority,
        event_depth=item.event_depth,
        return_action_id=return_to,
        execution_started_at=item.execution_started_at,
        status=None,
    )


def template_context(item: Item) -> dict[str, Any]:
    """What merge fields can name: contact, account, workflow, steps (by key) and trigger."""
    return {
        "contact": item.contact,
        "account": item.version.account_fields,
        "workflow": {
            "id": item.workflow_id,
            "name": item.version.workflow_name,
            "execution_id": item.execution_id,
            "execution_date": item.execution_started_at,
        },
        "steps": item.results,
        "trigger": item.context,
    }


def _one_contact_each(items: Sequence[Item]) -> Iterable[list[Item]]:
    """Split so that no two items of a part share a contact: set-based statements count on it."""
    waves: list[list[Item]] = []
    seen: dict[UUID, int] = defaultdict(int)
    for item in items:
        number = seen[item.contact_id]
        seen[item.contact_id] += 1
        if number == len(waves):
            waves.append([])
        waves[number].append(item)
    return waves


def _performance_of(item: Item, phase: str) -> Performance:
    type_ = item.action.type
    match phase:
        case "perform":
            found = type_.perform
        case "resume":
            found = type_.resume
        case _:
            found = type_.settle or settle_effects
    if found is None:
        raise LookupError(f"{type_.name} has nothing to do in the phase {phase}")
    return found


TRANSIENT: Final = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same batch, done again, may well succeed: a deadlock, a serialisation failure."""
    return isinstance(error, TRANSIENT)


def failure_of(error: Exception) -> Failure:
    """What an exception out of a performance says to people; its text may hold personal data."""
    if isinstance(error, asyncpg.QueryCanceledError):
        return Failure(Kind.SERVICE_UNAVAILABLE, "database_timeout", "a statement took too long")
    if isinstance(error, asyncpg.PostgresError):
        what = f"the database refused the action ({error.sqlstate} {type(error).__name__})"
        return Failure(Kind.REFUSED, "statement_refused", what)
    return Failure(Kind.INTERNAL, "action_crashed", f"the action raised {type(error).__name__}")
