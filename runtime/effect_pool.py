"""The actors of one family that send effects: claim, dispatch, send, record.

Claims never exceed the free slots. Dispatch is committed for a small group just before the
wire. Results are recorded in batches by one recorder, so that a thousand answers in a second
cost a few transactions. No connection is held while something is on the wire. What a dead worker
had in hand is sent alone, while nothing else of the pool is in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from runtime import tracing
from runtime.bell import Bell
from runtime.clock import current_instant
from runtime.dispatching import dispatch
from runtime.effect import Effect, Result, Sent, Suppressed
from runtime.effect_claims import EffectClaims
from runtime.effect_recorder import EffectRecorder
from runtime.effect_recording import Ended, HandOver
from runtime.failures import Failure, Kind
from runtime.house import House
from runtime.log import log_context
from runtime.pace import Pace
from runtime.registry import EffectType
from runtime.step_pool import StepPool
from sql import load

queries = load("effects")
log = structlog.get_logger(__name__)

GROUP: Final = 200
REFILL_SECONDS: Final = 0.1


class EffectPool:
    """Sends effects of one family, at most `slots` at once in this worker.

    `steps` settles the steps whose effects have ended, where it is awake in this worker.
    """

    def __init__(
        self,
        family: str,
        types: Mapping[str, EffectType],
        house: House,
        bell: Bell,
        *,
        worker_id: UUID,
        slots: int,
        steps: StepPool | None = None,
    ) -> None:
        self.family = family
        self._types = {kind: t for kind, t in types.items() if t.family == family}
        self._house = house
        self._pool = house.pool
        self._bell = bell
        self._worker_id = worker_id
        self._claims = EffectClaims(house.pool, worker_id, list(self._types))
        self._steps = steps
        self._recorder = EffectRecorder(
            family,
            house.pool,
            bell,
            worker_id,
            hand_over=self._hand_over,
            fill_up=self._fill_up,
        )
        self._slots = slots
        self._in_flight: set[asyncio.Task[None]] = set()
        self._tools: dict[str, Any] = {}
        self._rung_again = False
        self._claiming = asyncio.Lock()
        self._pace = Pace()
        self._lost_track = False
        self._is_stopping = False
        self._leaves_more = False
        self._has_room = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open what the effect types share; on leaving, wait for what is in flight."""
        async with AsyncExitStack() as stack:
            for kind, type_ in self._types.items():
                if type_.open is not None:
                    self._tools[kind] = await stack.enter_async_context(type_.open(self._house))
            yield
            await self.drain()

    def stop(self) -> None:
        """Claim no further effects."""
        self._is_stopping = True

    async def answer(self) -> int:
        """Answer a ticket: claim, dispatch and send until nothing is ready or no slot is free.

        Gives the number of effects that were claimed; they go on in the background. Ready
        effects that found no slot are claimed as slots become free. Where an effect is to be sent
        alone, this waits for what is in flight and for that one: for the sends' time at most.
        """
        if self._claiming.locked():
            self._rung_again = True  # whoever is claiming looks once more
            return 0
        sent = 0
        while not self._is_stopping:
            async with self._claiming:
                await self._pace.rest()
                self._rung_again = False
                began, free = time.monotonic(), self._free()
                try:
                    claimed = await self._claim_and_send()
                except BaseException:
                    self._lost_track = True
                    raise
                self._pace.spend(began, is_small=2 * claimed < min(free, GROUP))
            sent += claimed
            if not claimed and not self._rung_again:
                break
        return sent

    async def refill(self) -> None:
        """Claim again, for ever, when half of the slots are free after a claim that filled them.

        A ticket would come some hundredths of a second later, and the wire be silent meanwhile.
        """
        while True:
            await self._has_room.wait()
            self._has_room.clear()
            await self.answer()

    def _hand_over(self) -> HandOver | None:
        return self._steps.settle if self._steps is not None and self._steps.is_awake else None

    def _fill_up(self) -> bool:
        if self._is_stopping or self._hand_over() is None:
            return False
        # A limit may let through another call now. Slots that are free again are filled by half of
        # them at once (see `_put_back`), but not later than after a moment.
        if self._leaves_more:
            asyncio.get_running_loop().call_later(REFILL_SECONDS, self._has_room.set)
        else:
            self._has_room.set()
        return True

    def _put_back(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if self._leaves_more and 2 * self._free() >= self._slots:
            self._has_room.set()

    async def _claim_and_send(self) -> int:
        free = self._free()
        if free < 1:
            return 0
        if await self._claims.is_turn_of_isolated(self.family) and await self._send_isolated():
            return 1
        claimed, bells = await self._claims.claim(self.family, free)
        self._leaves_more = len(claimed) == free
        await self._bell.ring(bells)
        for start in range(0, len(claimed), GROUP):
            await self._send_group(claimed[start : start + GROUP])
        if not claimed and await self._claims.has_isolated(self.family):
            return await self._send_isolated()
        return len(claimed)

    async def _send_isolated(self) -> int:
        """Send one effect while nothing else of this pool is in hand, and record it.

        Were it to take this process along, the answers of others would be lost with it.
        """
        await self.drain()
        if self._is_stopping:
            return 0
        claimed, bells = await self._claims.claim_isolated(self.family)
        await self._bell.ring(bells)
        if claimed:
            await self._send_group(claimed)
            await self.drain()
        return len(claimed)

    async def let_go_of_what_was_lost(self) -> None:
        """Make ready again what the database has in this worker's hand and the worker has not.

        A connection lost between claim and wire leaves such effects, a lease that ran out for a
        moment too; the worker lives on, so that its lease would cover them for ever.
        """
        if not self._lost_track:
            return
        async with self._claiming:
            in_hand = [effect_id for effect_id, _ in self._recorder.in_hand]
            arguments = self._worker_id, self.family, in_hand
            await self._pool.execute(queries.let_go_of_effects, *arguments)
            self._lost_track = False
        await self._bell.ring_families([self.family])

    def _free(self) -> int:
        return self._slots - len(self._in_flight)

    async def _send_group(self, group: Sequence[Effect]) -> None:
        async with self._pool.acquire() as db:
            going, bells = await dispatch(db, group, self._worker_id, self._types)
            now = await current_instant(db)
        for effect in going:
            self._recorder.in_hand.add((effect.id, effect.attempt))
            task = asyncio.create_task(self._send(effect, now), name=f"effect {effect.id}")
            self._in_flight.add(task)
            task.add_done_callback(self._put_back)
        self._lost_track = self._lost_track or len(going) < len(group)
        await self._bell.ring(bells)

    async def _send(self, effect: Effect, started_at: datetime) -> None:
        began = time.monotonic()
        result = await send_once(self._types[effect.kind], effect, self._tools.get(effect.kind))
        finished_at = started_at + timedelta(seconds=time.monotonic() - began)
        self._recorder.take(Ended(effect, started_at, finished_at, result))

    async def record_results(self) -> None:
        """Record results as they come, for ever."""
        await self._recorder.run()

    async def drain(self) -> None:
        """Wait for what is in flight, and record it; raises if that cannot be for some seconds."""
        while self._in_flight or not self._recorder.is_empty:
            await asyncio.gather(*self._in_flight, return_exceptions=True)
            await self._recorder.record_patiently()


async def send_once(type_: EffectType, effect: Effect, tools: Any) -> Result:
    """Send one effect within its time; whatever it raises is a failure, never an exception.

    Past its time, or given up from inside, the outcome is unknown, unless the type may be
    repeated under its key. Raises only when this process ends.
    """
    with log_context(
        effect_id=effect.id,
        step_id=effect.step_id,
        execution_id=effect.execution_id,
        kind=effect.kind,
    ):
        return await _send_once(type_, effect, tools)


async def _send_once(type_: EffectType, effect: Effect, tools: Any) -> Result:
    try:
        with tracing.span("callboard.effect", kind=effect.kind, effect_id=str(effect.id)):
            async with asyncio.timeout(type_.timeout_seconds):
                result = await type_.send(effect, tools)
    except TimeoutError:
        return _unknown(type_, effect, "timeout", f"no answer within {type_.timeout_seconds:g} s")
    except Exception as error:
        log.exception("effect.crashed")
        return _crashed(f"sending raised {type(error).__name__}")
    except BaseException as error:
        if _is_ending(error):
            raise
        log.exception("effect.given_up")
        return _unknown(type_, effect, "given_up", f"sending raised {type(error).__name__}")
    if not isinstance(result, Sent | Suppressed | Failure):
        log.error("effect.no_result")
        return _crashed(f"sending gave {type(result).__name__}, not a result")
    return result


def _is_ending(error: BaseException) -> bool:
    # A library's own cancellation or exit must not leave its effect without an end.
    task = asyncio.current_task()
    return isinstance(error, KeyboardInterrupt) or (task is not None and task.cancelling() > 0)


def _crashed(message: str) -> Failure:
    return Failure(Kind.INTERNAL, "effect_crashed", message)


def _unknown(type_: EffectType, effect: Effect, code: str, message: str) -> Failure:
    if (effect.on_unknown or type_.on_unknown) == "repeat":
        return Failure(Kind.NETWORK_TIMEOUT, code, message)
    return Failure(Kind.UNKNOWN_OUTCOME, "outcome_unknown", message)
