"""The results of one pool's sends, kept in hand until they are recorded.

A result leaves the hand only once its recording is committed, or its row was found to have been
taken away: whatever is raised or cancelled in between, it is recorded another time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bell import Bell
from runtime.bells import Bells
from runtime.effect_recording import Ended, HandOver, record_apart
from runtime.failures import Failure
from runtime.measures import count_effects
from runtime.pace import Pace

log = structlog.get_logger(__name__)

RECORD_AT_ONCE: Final = 500
RECORD_PAUSE: Final = 0.02
# While results stream in: so many pauses at most, or until so many are in hand.
MOST_PAUSES: Final = 6
MANY: Final = 200
# Seconds between the tries of somebody who cannot leave before all is recorded.
DRAIN_PAUSES: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

InHand = tuple[UUID, int]
"""An effect and its attempt."""


class EffectRecorder:
    """Records what the sends of one family have given in this worker.

    `in_hand` holds what this worker has dispatched and not recorded yet. `hand_over` gives who in
    this worker settles the steps of recorded effects, if anybody does. `fill_up` has the freed
    slots filled without a ticket, and says whether it does.
    """

    def __init__(
        self,
        family: str,
        pool: asyncpg.Pool,
        bell: Bell,
        worker_id: UUID,
        *,
        hand_over: Callable[[], HandOver | None] = lambda: None,
        fill_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.in_hand: set[InHand] = set()
        self._family = family
        self._pool = pool
        self._bell = bell
        self._worker_id = worker_id
        self._hand_over = hand_over
        self._fill_up = fill_up
        self._ended: dict[InHand, Ended] = {}
        self._some = asyncio.Event()
        self._pace = Pace()
        self._recording = asyncio.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether every result that came is recorded."""
        return not self._ended

    def take(self, ended: Ended) -> None:
        """Take a result; it is recorded within moments, together with others."""
        self._ended[_key(ended)] = ended
        self._some.set()

    async def run(self) -> None:
        """Record results as they come, for ever; one transaction for all that came meanwhile."""
        while True:
            await self._some.wait()
            await self._gather()
            await self._pace.rest()
            began, many = time.monotonic(), len(self._ended) >= MANY // 2
            await self.record_all()
            self._pace.spend(began, is_small=not many)

    async def _gather(self) -> None:
        """Wait a little for others: a single result soon, a stream of them in larger parts."""
        for _ in range(MOST_PAUSES):
            before = len(self._ended)
            await asyncio.sleep(RECORD_PAUSE)
            if len(self._ended) < before + 5 or len(self._ended) >= MANY:
                return

    async def record_all(self) -> None:
        """Record until no result is in hand; raises when the database is away or kept busy."""
        async with self._recording:
            while self._ended:
                bells = await self._record_some()
                if self._fill_up():
                    bells.families.discard(self._family)
                await self._bell.ring(bells)
            self._some.clear()

    async def record_patiently(self) -> None:
        """Record until no result is in hand, again and again over some seconds if need be."""
        for pause in DRAIN_PAUSES:
            try:
                await self.record_all()
            except Exception as error:  # noqa: BLE001 - whatever it was, the results are still here
                log.warning("results.not_recorded_yet", error=repr(error)[:200])
                await asyncio.sleep(pause)
            else:
                return
        await self.record_all()

    async def _record_some(self) -> Bells:
        some = list(islice(self._ended.values(), RECORD_AT_ONCE))
        async with self._pool.acquire() as db:
            bells = await record_apart(db, some, self._worker_id, self._put_down, self._hand_over())
        for ended in some:
            # What could not be recorded at all stays with this worker, never to be sent again:
            # once the worker has left, its outcome is unknown.
            self._ended.pop(_key(ended), None)
        bells.families.add(self._family)  # slots are free again
        return bells

    def _put_down(self, recorded: Sequence[Ended]) -> None:
        count_effects(map(_measured, recorded))
        for ended in recorded:
            self._ended.pop(_key(ended), None)
            self.in_hand.discard(_key(ended))


def _measured(ended: Ended) -> tuple[str, str, float]:
    seconds = (ended.finished_at - ended.started_at).total_seconds()
    outcome = ended.result.kind.value if isinstance(ended.result, Failure) else "sent"
    return ended.effect.kind, outcome, seconds


def _key(ended: Ended) -> InHand:
    return ended.effect.id, ended.effect.attempt
