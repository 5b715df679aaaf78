"""The Procrastinate app: tickets, wake-ups and periodic work, handed to the worker at hand.

A ticket says «look here», nothing more: its arguments are names, never personal data. Tickets
are answered by the worker that the Procrastinate worker was started by (`Answers`).
"""

from __future__ import annotations

from typing import Final, Protocol

import procrastinate
from procrastinate import JobContext

WAKE_QUEUES: Final = ("wake", "maintenance")
PLAN_SECONDS: Final = 30


class Answers(Protocol):
    """What a worker does when a ticket rings."""

    async def answer_ticket(self, family: str) -> None:
        """Perform ready steps and send ready effects of a family."""

    async def hand_on_events(self) -> None:
        """Start the workflows that listen for undispatched events."""

    async def run_operations(self) -> int:
        """Run operations that wait for a worker."""

    async def wake(self) -> None:
        """Make ready what has fallen due."""

    async def plan_wakeups(self) -> None:
        """Ring for the instants of the near future."""

    async def sweep(self) -> None:
        """Find what lost tickets and dead workers left behind."""

    async def keep_house(self) -> None:
        """Delete what is past its retention, finish stalled tickets."""

    async def keep_files(self) -> None:
        """Remove content that no file stands for."""


def every(seconds: int) -> str:
    """A cron line for every so many seconds of a minute: croniter takes them last, not first."""
    return f"* * * * * */{seconds}"


def make_app(dsn: str, *, sweep_seconds: int) -> procrastinate.App:
    """Build the app with its tasks; `sweep_seconds` is the pause between safety sweeps."""
    connector = procrastinate.PsycopgConnector(
        conninfo=dsn,
        min_size=1,
        max_size=2,
        configure=_configure,
        kwargs={
            "application_name": "callboard tickets",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 4,
        },
    )
    app = procrastinate.App(connector=connector)

    @app.task(name="ticket", pass_context=True)
    async def ticket(context: JobContext, family: str) -> None:
        await _worker(context).answer_ticket(family)

    @app.task(name="hand_on_events", pass_context=True)
    async def hand_on_events(context: JobContext) -> None:
        await _worker(context).hand_on_events()

    @app.task(name="run_operations", pass_context=True)
    async def run_operations(context: JobContext) -> None:
        await _worker(context).run_operations()

    @app.task(name="wake", pass_context=True)
    async def wake(context: JobContext) -> None:
        await _worker(context).wake()

    @app.periodic(cron=every(sweep_seconds))
    @app.task(name="sweep", queue="maintenance", pass_context=True, queueing_lock="sweep")
    async def sweep(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - given
        await _worker(context).sweep()

    @app.periodic(cron=every(PLAN_SECONDS))
    @app.task(name="plan_wakeups", queue="maintenance", pass_context=True, queueing_lock="plan")
    async def plan_wakeups(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - given
        await _worker(context).plan_wakeups()

    @app.periodic(cron="*/5 * * * *")
    @app.task(name="keep_house", queue="maintenance", pass_context=True, queueing_lock="keep_house")
    async def keep_house(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - given
        await _worker(context).keep_house()

    @app.periodic(cron="17 3 * * *")
    @app.task(name="keep_files", queue="maintenance", pass_context=True, queueing_lock="keep_files")
    async def keep_files(context: JobContext, timestamp: int) -> None:  # noqa: ARG001 - given
        await _worker(context).keep_files()

    return app


async def _configure(connection: object) -> None:
    # `kwargs={"autocommit": True}` would kill the listener with a TypeError.
    await connection.set_autocommit(True)  # type: ignore[attr-defined]


def _worker(context: JobContext) -> Answers:
    worker: Answers = context.additional_context["worker"]
    return worker
