"""A worker: the pools of its families, the tickets that wake them, and a heartbeat.

Nothing in its memory matters: whatever it had in hand when it dies is found by the sweep of
another. SIGTERM drains it: no new work, what is in hand is brought to its end.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog
import uvloop

from runtime import currency_rates, tracing, workers
from runtime.batch import Batches
from runtime.bell import OPERATIONS, Bell
from runtime.collector import spare_what_stays
from runtime.database import LOST_CONNECTION, create_pool, resolve_dsn
from runtime.effect_pool import EffectPool
from runtime.events import INSTALMENT as EVENTS_AT_ONCE
from runtime.events import hand_on
from runtime.file_upkeep import remove_stale
from runtime.house import House
from runtime.housekeeping import keep_house
from runtime.ids import new_id
from runtime.log import configure
from runtime.metrics_page import metrics_page
from runtime.operation_runs import AT_ONCE as OPERATIONS_AT_ONCE
from runtime.operation_runs import OperationRuns
from runtime.registry import Registry
from runtime.secrets import vault_of
from runtime.settings import Settings
from runtime.step_pool import StepPool
from runtime.storage import storage_of
from runtime.supervisor import Supervisor
from runtime.sweep import sweep
from runtime.tickets import WAKE_QUEUES, make_app
from runtime.timers import fire_due
from runtime.versions import Versions
from runtime.wakeups import plan, wake
from sql.migrate import migrate

log = structlog.get_logger(__name__)

SIDE_CONNECTIONS: Final = 2
TICKET_POLL_SECONDS: Final = 1.0
WAKE_POLL_SECONDS: Final = 0.25
DRAIN_SECONDS: Final = 20.0
RETURN_SECONDS: Final = 1.0


class Worker:
    """One incarnation of a worker process, under one identity; a fenced one begins a new."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        side: asyncpg.Pool,
        registry: Registry,
        settings: Settings,
        families: Sequence[str] | None = None,
    ) -> None:
        self.id: UUID = new_id()
        self.families = tuple(families or registry.families())
        self.versions = Versions(side, registry)
        self.bell = Bell(side, timedelta(milliseconds=settings.wake_bucket_ms))
        self.lease = timedelta(seconds=settings.lease_seconds)
        self._pool = pool
        self._side = side
        self._registry = registry
        self._settings = settings
        self._batches = Batches(pool, side, self.versions, registry, settings, self.id)
        self._steps = {
            family: StepPool(family, self._batches, self.bell, settings.actors_of(family))
            for family in self.families
        }
        house = House(pool, settings, vault_of(settings))
        sending = {effect.family for effect in registry.effects.values()}
        self._effects = {
            family: EffectPool(
                family,
                registry.effects,
                house,
                self.bell,
                worker_id=self.id,
                slots=settings.slots_of(family),
                steps=self._steps[family],
            )
            for family in self.families
            if family in sending
        }
        self._operations = OperationRuns(registry, house, self.versions, self.bell, self.id)
        self._waking = asyncio.Lock()
        self._wake_again = False
        self._sweeping = asyncio.Lock()
        self._swept_to: UUID | None = None

    async def answer_ticket(self, family: str) -> None:
        """Perform ready steps and send ready effects of a family."""
        effects = self._effects.get(family)
        if effects is None:
            await self._steps[family].answer()
        else:
            # At once: an effect that is sent alone may keep its pool busy for long.
            await asyncio.gather(self._steps[family].answer(), effects.answer())

    async def work_once(self) -> int:
        """Perform what is ready in every family and wait for its effects; gives how much it was."""
        count = 0
        for family in self.families:
            if (effects := self._effects.get(family)) is not None:
                count += await effects.answer()
                await effects.drain()
            count += await self._steps[family].answer()
        return count

    async def hand_on_events(self) -> None:
        """Start the workflows that listen for undispatched events, instalment by instalment."""
        count = EVENTS_AT_ONCE
        while count == EVENTS_AT_ONCE:
            bells, count = await hand_on(self._pool, self.versions, self._settings.max_event_depth)
            await self.bell.ring(bells)

    async def run_operations(self) -> int:
        """Run operations that wait for a worker; gives how many portions were done."""
        return await self._operations.answer()

    async def wake(self) -> None:
        """Make ready what has fallen due, and fire due timers."""
        self._wake_again = True  # whoever is at it looks once more
        if self._waking.locked():
            return
        async with self._waking:
            while self._wake_again:
                self._wake_again = False
                bells, more = await wake(self._pool)
                self._wake_again = self._wake_again or more
                await self.bell.ring(bells)
                bells = await fire_due(
                    self._pool, self._registry, self._side.fetch, self.versions.active
                )
                await self.bell.ring(bells)

    async def plan_wakeups(self) -> None:
        """Ring for the instants of the near future."""
        bucket = timedelta(milliseconds=self._settings.wake_bucket_ms)
        await self.bell.ring_wakeups(await plan(self._pool, bucket))

    async def sweep(self) -> None:
        """Find what lost tickets and dead workers left behind."""
        if self._sweeping.locked():
            return  # a slow sweep must not take the places of wake-ups
        async with self._sweeping:
            bells, self._swept_to = await sweep(self._pool, self._registry, self._swept_to)
            await self.bell.ring(bells)

    async def keep_house(self) -> None:
        """Delete what is past its retention, finish stalled tickets."""
        await keep_house(self._pool, self._settings)

    async def keep_files(self) -> None:
        """Remove content that no file stands for."""
        await remove_stale(self._pool, storage_of(self._settings))

    async def run(self, dsn: str, stop: asyncio.Event) -> None:
        """Work until `stop` is set (then drain) or until this identity is fenced off."""
        await workers.register(self._pool, self.id, self.families, self.lease)
        log.info("worker.started", worker_id=str(self.id), families=self.families)
        await currency_rates.seed(self._pool)
        fenced = asyncio.Event()
        supervisor = Supervisor()
        try:
            async with AsyncExitStack() as stack:
                for family, effects in self._effects.items():
                    await stack.enter_async_context(effects.open())
                    supervisor.start(f"{family} recorder", effects.record_results)
                    supervisor.start(f"{family} refill", effects.refill)
                    supervisor.start(f"{family} settling", self._steps[family].stay_awake)
                spare_what_stays()
                supervisor.start("heartbeat", lambda: self._heartbeat(fenced))
                supervisor.start("lost and found", self._look_for_what_was_lost)
                supervisor.start("tickets", lambda: self._answer_tickets(dsn))
                supervisor.start("wake-ups", lambda: self._answer_wakeups(dsn))
                await _first_of(stop, fenced)
                await self._begin_to_leave()
                await supervisor.stop("tickets", "wake-ups")
                # The exit stack drains the effects while the heartbeat keeps their lease.
        finally:
            await supervisor.stop()
        await workers.leave(self._pool, self.id)
        log.info("worker.stopped", worker_id=str(self.id), fenced=fenced.is_set())

    async def _begin_to_leave(self) -> None:
        for steps in self._steps.values():
            steps.stop()
        for effects in self._effects.values():
            effects.stop()
        self._operations.stop()
        with suppress(*LOST_CONNECTION, asyncpg.InterfaceError):
            await workers.begin_to_leave(self._side, self.id)

    async def _heartbeat(self, fenced: asyncio.Event) -> None:
        while not fenced.is_set():
            # On the side, where no statement waits for long.
            if not await workers.heartbeat(self._side, self.id, self.lease):
                log.warning("worker.fenced", worker_id=str(self.id))
                fenced.set()
            await asyncio.sleep(self._settings.heartbeat_seconds)
        await asyncio.Event().wait()  # until this identity is given up

    async def _look_for_what_was_lost(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_seconds)
            await self._batches.drop_what_was_lost()
            await self._operations.drop_what_was_lost()
            for effects in self._effects.values():
                await effects.let_go_of_what_was_lost()

    async def _answer_tickets(self, dsn: str) -> None:
        places = sum(self._settings.actors_of(family) + 1 for family in self.families) + 1
        places += OPERATIONS_AT_ONCE + 1
        app = make_app(dsn, sweep_seconds=self._settings.sweep_seconds)
        async with app.open_async():
            await app.run_worker_async(
                queues=[*self.families, "events", OPERATIONS],
                name=f"callboard-{self.id}",
                concurrency=places,
                fetch_job_polling_interval=TICKET_POLL_SECONDS,
                shutdown_graceful_timeout=DRAIN_SECONDS,
                install_signal_handlers=False,
                additional_context={"worker": self},
            )

    async def _answer_wakeups(self, dsn: str) -> None:
        app = make_app(dsn, sweep_seconds=self._settings.sweep_seconds)
        async with app.open_async():
            await app.run_worker_async(
                queues=list(WAKE_QUEUES),
                name=f"callboard-wake-{self.id}",
                concurrency=4,
                # A scheduled ticket rings nobody when its instant comes: it is polled for.
                fetch_job_polling_interval=WAKE_POLL_SECONDS,
                listen_notify=False,
                shutdown_graceful_timeout=DRAIN_SECONDS,
                install_signal_handlers=False,
                additional_context={"worker": self},
            )


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def work(
    settings: Settings,
    registry: Registry,
    families: Sequence[str] | None,
    dsn: str,
    stop: asyncio.Event,
) -> None:
    """Be a worker until `stop` is set: for `families`, or for all that can be performed."""
    async with (
        await create_pool(dsn, settings, application_name="callboard worker") as pool,
        await create_pool(
            dsn, settings, size=SIDE_CONNECTIONS, application_name="callboard worker side"
        ) as side,
    ):
        while not stop.is_set():
            try:
                await Worker(pool, side, registry, settings, families).run(dsn, stop)
            except (*LOST_CONNECTION, asyncpg.InterfaceError) as error:
                # What it had in hand is found by a sweep, as after any other death.
                log.warning("worker.lost_database", error=repr(error)[:200])
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), RETURN_SECONDS)


def run(settings: Settings, registry: Registry, families: Sequence[str] | None) -> int:
    """Run a worker in this process until SIGTERM or SIGINT; gives the exit code."""
    configure(settings)
    tracing.configure(settings, "callboard-worker")

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        dsn = await resolve_dsn(settings)
        await migrate(dsn)
        async with metrics_page(settings):
            await work(settings, registry, families, dsn, stop)

    uvloop.run(main())
    return 0
