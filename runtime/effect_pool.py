"""The actors of one family that send effects: claim, dispatch, send, record.

Claims never exceed the free slots. Dispatch is committed for a small group just before the
wire. Results are recorded in batches by one recorder, so that a thousand answers in a second
cost a few transactions. No connection is held while something is on the wire.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from runtime.bell import Bell
from runtime.clock import current_instant
from runtime.dispatching import dispatch
from runtime.effect import Effect, Result
from runtime.effect_claims import EffectClaims
from runtime.effect_recording import Ended, record
from runtime.failures import Failure, Kind
from runtime.registry import EffectType

log = structlog.get_logger(__name__)

GROUP: Final = 50
RECORD_AT_ONCE: Final = 500
RECORD_PAUSE: Final = 0.02


class EffectPool:
    """Sends effects of one family, at most `slots` at once in this worker."""

    def __init__(
        self,
        family: str,
        types: Mapping[str, EffectType],
        pool: asyncpg.Pool,
        bell: Bell,
        *,
        worker_id: UUID,
        slots: int,
    ) -> None:
        self.family = family
        self._types = {kind: t for kind, t in types.items() if t.family == family}
        self._pool = pool
        self._bell = bell
        self._worker_id = worker_id
        self._claims = EffectClaims(pool, worker_id)
        self._slots = slots
        self._in_flight: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._tools: dict[str, Any] = {}
        self._rung = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._claiming = asyncio.Lock()

    @property
    def in_flight(self) -> int:
        """How many effects are on the wire or just before it."""
        return len(self._in_flight)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Open what the effect types share; on leaving, wait for what is in flight."""
        async with AsyncExitStack() as stack:
            for kind, type_ in self._types.items():
                if type_.open is not None:
                    self._tools[kind] = await stack.enter_async_context(type_.open(self._pool))
            yield
            await self.drain()

    async def answer(self) -> int:
        """Answer a ticket: claim, dispatch and send until nothing is ready or no slot is free.

        Gives the number of effects that were dispatched; they go on in the background. Ready
        effects that found no slot are claimed as slots become free.
        """
        sent = 0
        while not self._claiming.locked():
            async with self._claiming:
                claimed, bells = await self._claims.claim(self.family, self._free())
                sent += len(claimed)
                await self._bell.ring(bells)
                for start in range(0, len(claimed), GROUP):
                    await self._send_group(claimed[start : start + GROUP])
            if not claimed:
                break
        return sent

    def _free(self) -> int:
        return self._slots - len(self._in_flight)

    async def _send_group(self, group: Sequence[Effect]) -> None:
        async with self._pool.acquire() as db:
            going, bells = await dispatch(db, group, self._worker_id)
            now = await current_instant(db)
        await self._bell.ring(bells)
        for effect in going:
            task = asyncio.create_task(self._send(effect, now), name=f"effect {effect.id}")
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def _send(self, effect: Effect, started_at: datetime) -> None:
        began = time.monotonic()
        result = await send_once(self._types[effect.kind], effect, self._tools.get(effect.kind))
        finished_at = started_at + timedelta(seconds=time.monotonic() - began)
        await self._ended.put(Ended(effect, started_at, finished_at, result))

    async def record_results(self) -> None:
        """Record results as they come, for ever; one transaction for all that came meanwhile."""
        while True:
            ended = [await self._ended.get()]
            try:
                await asyncio.sleep(RECORD_PAUSE)
                while len(ended) < RECORD_AT_ONCE and not self._ended.empty():
                    ended.append(self._ended.get_nowait())
                await self._record(ended)
            except BaseException:
                # The database is away, or the worker stops: what was answered is not forgotten.
                for one in ended:
                    self._ended.put_nowait(one)
                raise

    async def _record(self, ended: Sequence[Ended]) -> None:
        async with self._pool.acquire() as db:
            bells = await record(db, ended, self._worker_id)
        bells.families.add(self.family)  # slots are free again
        await self._bell.ring(bells)

    async def drain(self) -> None:
        """Wait for what is in flight, and record it."""
        while self._in_flight:
            await asyncio.gather(*self._in_flight, return_exceptions=True)
        ended = [self._ended.get_nowait() for _ in range(self._ended.qsize())]
        if ended:
            await self._record(ended)


async def send_once(type_: EffectType, effect: Effect, tools: Any) -> Result:
    """Send one effect within its time; whatever it raises is a failure, never an exception.

    Past its time the outcome is unknown, unless the type may be repeated under its key.
    """
    try:
        async with asyncio.timeout(type_.timeout_seconds):
            return await type_.send(effect, tools)
    except TimeoutError:
        message = f"no answer within {type_.timeout_seconds:g} s"
        if type_.on_unknown == "repeat":
            return Failure(Kind.NETWORK_TIMEOUT, "timeout", message)
        return Failure(Kind.UNKNOWN_OUTCOME, "outcome_unknown", message)
    except Exception as error:
        log.exception("effect.crashed", effect_id=str(effect.id), kind=effect.kind)
        return Failure(Kind.INTERNAL, "effect_crashed", f"sending raised {type(error).__name__}")
