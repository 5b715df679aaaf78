"""Real worker processes on a test's database: started, waited for by condition, always ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil
from aiohttp import web

from runtime.database import LOST_CONNECTION

ROOT: Final = Path(__file__).parent.parent
DEADLINE: Final = 60.0
"""Seconds that a condition may take on a machine that is loaded; on an idle one it takes few."""
POLL: Final = 0.03

SETTINGS: Final[dict[str, Any]] = {"heartbeat_seconds": 0.5, "sweep_seconds": 1}
MORTAL: Final[dict[str, Any]] = {"lease_seconds": 3}
"""For workers that are to die or freeze, so that it is noticed soon; others keep the long lease."""


async def until(
    condition: Callable[[], Awaitable[Any]], what: str, deadline: float = DEADLINE
) -> Any:
    """Wait until a condition holds and give what it gave; fails after `deadline` seconds.

    A database that is away makes no condition hold.
    """
    ends_at = time.monotonic() + deadline
    seen: Any = None
    while time.monotonic() < ends_at:
        with suppress(*LOST_CONNECTION, asyncpg.InterfaceError):
            if seen := await condition():
                return seen
        await asyncio.sleep(POLL)
    raise AssertionError(f"not within {deadline:g} s: {what} (last: {seen!r})")


class WorkerProcess:
    """One worker process; what it logs stands in its file."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.worker_process"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it lives."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it uncleanly, at once, unless it has ended."""
        if self.exit_code is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def ended(self) -> int:
        """Wait for its end; gives the exit code."""

        async def has_ended() -> bool:
            return self.exit_code is not None

        await until(has_ended, f"worker {self.pid} ends")
        code = self.exit_code
        assert code is not None
        return code

    async def stopped(self) -> None:
        """Wait until SIGSTOP has stopped it."""

        async def is_stopped() -> bool:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

        await until(is_stopped, f"worker {self.pid} stands still")


@dataclass
class Crew:
    """The worker processes of one test."""

    dsn: str
    folder: Path
    counterpart: str = ""
    has_real_actors: bool = False
    """Whether its workers perform the actions of the house, not those of worker_process."""
    workers: list[WorkerProcess] = field(default_factory=list)
    _started: int = 0

    def start(self, *, inside_a_batch: str | None = None, **settings: Any) -> WorkerProcess:
        """Start a worker with these settings over SETTINGS.

        `inside_a_batch`: it says so on the channel INSIDE when it first counts, and then blocks
        ("block"), stops itself ("freeze") or waits for the lock GATE ("wait").
        """
        environment = {"DATABASE_URL": self.dsn, "TEST_COUNTERPART": self.counterpart}
        for name, value in {**SETTINGS, **settings}.items():
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            environment[f"CALLBOARD_{name.upper()}"] = text
        if self.has_real_actors:
            environment["TEST_REAL_ACTORS"] = "yes"
        if inside_a_batch is not None:
            environment["TEST_INSIDE_A_BATCH"] = inside_a_batch
        self._started += 1
        log = self.folder / f"worker-{self._started}.log"
        self.workers.append(WorkerProcess(environment, log))
        return self.workers[-1]

    async def registered(self, db: asyncpg.Pool, *workers: WorkerProcess) -> None:
        """Wait until these workers (default: all) are at work."""
        wanted = {worker.pid for worker in workers or self.workers}

        async def are_registered() -> bool:
            return wanted <= {row["pid"] for row in await db.fetch("SELECT pid FROM workers")}

        await until(are_registered, "the workers are registered")

    def replace_the_dead(self, **settings: Any) -> int:
        """Start a worker for each that died by SIGKILL and was not replaced; gives how many."""
        dead = [worker for worker in self.workers if worker.exit_code == -signal.SIGKILL]
        for worker in dead:
            self.workers.remove(worker)
            worker.kill()
        for _ in dead:
            self.start(**settings)
        return len(dead)

    def end(self) -> None:
        """Kill what still lives, stopped ones too; show the ends of the logs if the test failed."""
        for worker in self.workers:
            worker.kill()
        for log in sorted(self.folder.glob("worker-*.log")):
            sys.stdout.write(f"── {log.name}\n{log.read_text(errors='replace')[-8000:]}\n")


class Counterpart:
    """The other side of effects: counts calls by key, and answers when the test lets it."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.answering = asyncio.Event()
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Counterpart]:
        """Listen on a port of its own until the test ends."""
        app = web.Application()
        app.router.add_post("/", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/"
        try:
            yield self
        finally:
            self.answering.set()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls[await request.text()] += 1
        await self.answering.wait()
        return web.Response(text="done")

    async def called(self, times: int) -> None:
        """Wait until it was called so often in all."""

        async def was_called() -> bool:
            return self.calls.total() >= times

        await until(was_called, f"{times} calls")
