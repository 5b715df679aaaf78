"""A Callboard worker in a process of its own, as an operator starts it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench._world import World

_RUN: Final = Path(__file__).resolve().parent.parent / "run.py"
_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 20
_LOOK_SECONDS: Final = 0.02


class WorkerDiedError(RuntimeError):
    """The worker's process ended while it was needed."""


class Worker:
    """The running process."""

    def __init__(self, process: asyncio.subprocess.Process, world: World) -> None:
        self._process = process
        self._world = world

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def check(self) -> None:
        """Raise WorkerDiedError unless the process lives."""
        if self._process.returncode is not None:
            raise WorkerDiedError(f"the worker ended with exit code {self._process.returncode}")

    async def is_up(self) -> bool:
        """Whether it has registered in the database, and hears tickets."""
        up: bool = await self._world.pool.fetchval(
            "SELECT EXISTS (SELECT FROM workers WHERE pid = $1)"
            " AND (SELECT count(*) FROM procrastinate_workers) >= (SELECT count(*) FROM workers)",
            self.pid,
        )
        return up

    def peak_mb(self) -> float:
        """The most memory that the process has held so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024

    async def stop(self) -> None:
        """Let it drain and wait for it; kill it if that takes too long."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running(
    world: World, families: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> AsyncIterator[Worker]:
    """Start a worker on the world's database, wait until it is up, and stop it at the end.

    `environment`: variables of its own.
    """
    arguments = [str(_RUN), "worker"] + (["--families", ",".join(families)] if families else [])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=sys.stderr,  # our own stdout may be for one JSON line only
        env={
            "CALLBOARD_LOG_LEVEL": "warning",
            **os.environ,
            **(environment or {}),
            "DATABASE_URL": world.dsn,
        },
    )
    worker = Worker(process, world)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await worker.is_up():
                worker.check()
                await asyncio.sleep(_LOOK_SECONDS)
        yield worker
    finally:
        await worker.stop()
