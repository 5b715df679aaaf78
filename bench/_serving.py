"""Callboard's API in a process of its own, alone or with a worker."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from bench._outsiders import Outsiders
from bench._texting import keys_of
from runtime.settings import Settings

RUN: Final = Path(__file__).resolve().parent.parent / "run.py"
_START_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Server:
    """The server process and where it listens."""

    address: str
    pid: int


def environment_of(settings: Settings, outside: Outsiders) -> dict[str, str]:
    """Give what all processes need: the keys, and leave to call the customer's system."""
    return {
        "CALLBOARD_INSIDE_HOSTS": urlsplit(outside.control).netloc,
        "CALLBOARD_LOG_LEVEL": "warning",
        "CALLBOARD_SECRET_KEYS": keys_of(settings),
    }


@asynccontextmanager
async def serving(
    command: Literal["serve", "api"], dsn: str, settings: Settings, outside: Outsiders
) -> AsyncIterator[Server]:
    """Run it on this database; it is stopped at the end, as by Ctrl-C."""
    environment = {
        **os.environ,
        **environment_of(settings, outside),
        "DATABASE_URL": dsn,
        "CALLBOARD_API_PORT": "0",
        "CALLBOARD_API_RATE_PER_SECOND": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(RUN), command, stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)).decode()
        if "http://" not in line:
            raise RuntimeError(f"the server did not start: {line.strip() or 'it ended'}")
        yield Server(line.split()[-1], process.pid)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
