"""The outside parties of the demo and of `bench mixed`, as they are spoken to from here."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench._people import Person, to_json
from bench._scenes import Setting

_ROOT: Final = Path(__file__).resolve().parent.parent
_START_SECONDS: Final = 30
_PATIENCE: Final = aiohttp.ClientTimeout(total=300)


@dataclass(frozen=True, slots=True)
class Outsiders:
    """Where everybody is reached."""

    twilio: str
    graph: str
    smtp_port: int
    control: str
    pid: int
    _session: aiohttp.ClientSession = field(repr=False)

    @property
    def orders_url(self) -> str:
        """The customer's system that webhooks call."""
        return f"{self.control}/orders"

    async def know(
        self, people: Sequence[Person], setting: Setting, *, answers_at_once: bool = False
    ) -> None:
        """Tell them who the people are, where Callboard is, and whether each text is answered."""
        told = {
            "people": to_json(people),
            "setting": asdict(setting),
            "answers_at_once": answers_at_once,
        }
        await self._post("/people", told)

    async def play(self, scene: str) -> dict[str, int]:
        """Let people act (see bench._scenes); gives how often each thing was done."""
        done: dict[str, int] = await self._post(f"/scenes/{scene}")
        return done

    async def be_quiet(self) -> None:
        """Wait until every callback was sent and every call has ended."""
        await self._post("/quiet")

    async def counts(self) -> dict[str, Any]:
        """What came."""
        async with self._session.get("/counts") as got:
            counts: dict[str, Any] = await got.json()
            return counts

    async def _post(self, path: str, body: Any = None) -> Any:
        async with self._session.post(path, json=body) as got:
            if got.status >= 400:
                raise RuntimeError(f"the outside parties answered {got.status} to {path}")
            return await got.json() if got.status == 200 else None


@asynccontextmanager
async def outsiders() -> AsyncIterator[Outsiders]:
    """Start them in a process of their own; they end with it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench._outside",
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env=os.environ,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
        addresses: dict[str, Any] = json.loads(line)
        control = addresses["control"]
        async with aiohttp.ClientSession(control, timeout=_PATIENCE) as session:
            yield Outsiders(**addresses, pid=process.pid, _session=session)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
