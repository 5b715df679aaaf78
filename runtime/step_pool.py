"""The actors of one family that perform steps: woken by tickets, a batch at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from itertools import islice
from uuid import UUID

from runtime.batch import Batches
from runtime.bell import Bell
from runtime.pace import Pace


class StepPool:
    """At most `actors` batches of one family at once in this worker.

    A ticket that finds all actors busy leaves a mark instead of waiting, so that a slow family
    never takes the places of another's tickets.
    """

    def __init__(self, family: str, batches: Batches, bell: Bell, actors: int) -> None:
        self.family = family
        self._batches = batches
        self._bell = bell
        self._free = actors
        self._rung_again = False
        self._is_stopping = False
        self._is_awake = False
        self._is_called = asyncio.Event()
        self._settled: dict[UUID, None] = {}
        self._pace = Pace()
        self._settling_pace = Pace()

    def stop(self) -> None:
        """Begin no further batch."""
        self._is_stopping = True

    @property
    def _many(self) -> int:
        return self._batches.settings.batch_size // 2

    @property
    def is_awake(self) -> bool:
        """Whether steps whose effects have ended may be handed over here."""
        return self._is_awake and not self._is_stopping

    def settle(self, step_ids: Iterable[UUID]) -> None:
        """Have `stay_awake` settle steps of which an effect has ended; it forgets none.

        What a death takes from its memory is found by a sweep.
        """
        self._settled.update(dict.fromkeys(step_ids))
        self._is_called.set()

    async def stay_awake(self) -> None:
        """Settle what is handed over, for ever: a ticket and a claim are slower and cost more."""
        self._is_awake = True
        try:
            while True:
                self._is_called.clear()
                while self._settled:
                    await self._settling_pace.rest()
                    await self._settle_some()
                await self._is_called.wait()
        finally:
            self._is_awake = False

    async def _settle_some(self) -> None:
        some = list(islice(self._settled, self._batches.settings.batch_size))
        for step_id in some:  # at once: another effect of the same step may end meanwhile
            del self._settled[step_id]
        began = time.monotonic()
        try:
            done = await self._batches.run_settled(self.family, some)
        except BaseException:
            self.settle(some)
            raise
        self._settling_pace.spend(began, is_small=len(some) < self._many)
        await self._bell.ring(done.bells)

    async def answer(self) -> int:
        """Answer a ticket: perform batches until nothing is ready; gives the number of steps."""
        if self._is_stopping:
            return 0
        if self._free == 0:
            self._rung_again = True
            return 0
        self._free -= 1
        try:
            return await self._perform_until_dry()
        finally:
            self._free += 1

    async def _perform_until_dry(self) -> int:
        steps = 0
        while True:
            await self._pace.rest()
            self._rung_again = False
            began = time.monotonic()
            done = await self._batches.run(self.family)
            self._pace.spend(began, is_small=done.steps < self._many)
            steps += done.steps
            if self._is_stopping or done.steps >= self._many:
                # There may be more: let other actors and workers join.
                done.bells.families.add(self.family)
            elif done.steps:
                done.bells.families.discard(self.family)
            await self._bell.ring(done.bells)
            if self._is_stopping or (done.steps == 0 and not self._rung_again):
                return steps
