"""Scripts of users, run in processes of their own that may be killed at any time.

Whatever a script does, it ends within its time: a process that does not answer is killed, and the
next script gets a new one. What went wrong is a ScriptError, never an exception.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from runtime.javascript.modules import MODULES, source_of

FOLDER: Final = Path(__file__).parent
LONGEST_MS: Final = 5_000
MOST_MEMORY_MB: Final = 128
MOST_FETCHES: Final = 20
RUNS_PER_PROCESS: Final = 2_000

# Beyond a script's own time: the way to the process and back.
_GRACE_SECONDS: Final = 0.25
_START_SECONDS: Final = 20.0
_LONGEST_MESSAGE: Final = 4 << 20
# Resident memory at which the process is ended from outside, beyond the script's own limit.
_RESIDENT_MB: Final = 160
_LOOK_SECONDS: Final = 0.05
_LONGEST_COMPLAINT: Final = 2_000

Fetch = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Makes a request {url, method, headers, body}; gives {status, headers, body, url} or {error}."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is to be run: code, what it is given (JSON objects by name), and its limits."""

    code: str
    given: Mapping[str, Any] = field(default_factory=dict)
    modules: Sequence[str] = ()
    timeout_ms: int = LONGEST_MS
    memory_limit_mb: int = MOST_MEMORY_MB
    measures_memory: bool = False
    """A tenth of the time that a short script takes."""


@dataclass(frozen=True, slots=True)
class ScriptError:
    """Why a script gave nothing; line and column count from 1 in the user's own code.

    Codes: script_syntax, script_failed, script_timeout, script_memory, script_never_settles,
    script_output_too_large, script_output_unusable, script_crashed.
    """

    code: str
    message: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a script: `output` is what it returned, unless there is an `error`.

    `logs` are (level, text) of console calls, `logs_dropped` counts those beyond the limit.
    `memory_bytes` is V8's heap at the end, where it was to be measured.
    """

    output: Any = None
    error: ScriptError | None = None
    logs: Sequence[tuple[str, str]] = ()
    logs_dropped: int = 0
    duration_ms: int = 0
    memory_bytes: int = 0


async def no_network(_request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse every fetch."""
    return {"error": "fetch is not available here"}


class JavaScript:
    """Runs scripts, at most `size` at once; opened by `open_javascript`."""

    def __init__(self, size: int) -> None:
        self._places = asyncio.Semaphore(size)
        self._idle: list[_Process] = []

    async def run(self, script: Script, fetch: Fetch = no_network) -> Ran:
        """Run a script; its time begins when a process is free for it."""
        return await self._run(script, fetch, check_only=False)

    async def check(self, code: str) -> ScriptError | None:
        """Compile a script without running it; gives its syntax error."""
        ran = await self._run(Script(code), no_network, check_only=True)
        return ran.error

    async def _run(self, script: Script, fetch: Fetch, *, check_only: bool) -> Ran:
        async with self._places:
            if self._idle:
                ran = await self._run_in(self._idle.pop(), script, fetch, check_only=check_only)
                if ran is not None:
                    return ran
                # It had ended since its last script: no fault of this one's.
            ran = await self._run_in(await _Process.start(), script, fetch, check_only=check_only)
            return ran or Ran(error=ScriptError("script_crashed", "the sandbox does not begin"))

    async def _run_in(
        self, process: _Process, script: Script, fetch: Fetch, *, check_only: bool
    ) -> Ran | None:
        try:
            ran = await process.run(script, fetch, check_only=check_only)
        except BaseException:
            await process.kill()
            raise
        if process.is_fit:
            self._idle.append(process)
        else:
            await process.kill()
        return ran

    async def close(self) -> None:
        """End all processes."""
        while self._idle:
            await self._idle.pop().kill()


@asynccontextmanager
async def open_javascript(size: int) -> AsyncIterator[JavaScript]:
    """Open a pool of processes; they are started as they are needed."""
    pool = JavaScript(size)
    try:
        yield pool
    finally:
        await pool.close()


class _Process:
    """One process, and the run that it has in hand."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._runs = 0
        self._is_idle = True
        self._complaint = bytearray()
        self._listening = asyncio.create_task(self._listen())
        self.off_network = False

    @classmethod
    async def start(cls) -> _Process:
        """Start a process and wait until it can take a script."""
        made = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(FOLDER / "child.py"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
                limit=_LONGEST_MESSAGE,
            )
        )
        around = {
            "prelude": (FOLDER / "prelude.js").read_text(encoding="utf-8"),
            "modules": {name: source_of(name) for name in MODULES},
        }
        try:
            async with asyncio.timeout(_START_SECONDS):
                made._write(around)
                ready = await made._read()
        except BaseException:
            await made.kill()
            raise
        if ready is None:
            await made.kill()
            raise RuntimeError(f"the sandbox does not start: {made._complaint.decode()[-500:]}")
        made.off_network = ready["off_network"]
        return made

    @property
    def is_fit(self) -> bool:
        """Whether another script may be run in it."""
        return self._is_idle and self._runs < RUNS_PER_PROCESS

    async def run(self, script: Script, fetch: Fetch, *, check_only: bool) -> Ran | None:
        """Run a script; None if the process ended, or hung, before it began with it."""
        self._runs += 1
        self._is_idle = False
        self._write(
            {
                "code": script.code,
                "given": orjson.dumps(script.given).decode(),
                "modules": list(script.modules),
                "memory_limit_mb": script.memory_limit_mb,
                "timeout_ms": script.timeout_ms,
                "check_only": check_only,
                "measures_memory": script.measures_memory,
                "run": self._runs,
            }
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                begun = await self._read()
        except TimeoutError:
            begun = None
        if begun is None:
            return None
        began = time.monotonic()
        errands: set[asyncio.Task[None]] = set()
        watch = asyncio.create_task(self._watch(script.memory_limit_mb))
        try:
            async with asyncio.timeout(script.timeout_ms / 1000 + _GRACE_SECONDS):
                ended = await self._look_after(fetch, errands)
        except TimeoutError:
            message = f"the script did not end within {script.timeout_ms} ms"
            ended = {"error": {"code": "script_timeout", "message": message}}
        finally:
            watch.cancel()
            for errand in errands:
                errand.cancel()
        if ended is None:
            ended = {"error": await self._cause_of_death(script, is_large=watch.done())}
        return _ran(ended, int((time.monotonic() - began) * 1000))

    async def _look_after(
        self, fetch: Fetch, errands: set[asyncio.Task[None]]
    ) -> dict[str, Any] | None:
        """Run the script's errands until it has ended; None when its process died."""
        fetches = 0
        while (message := await self._read()) is not None:
            if "ended" in message:
                self._is_idle = True
                ended: dict[str, Any] = message["ended"]
                return ended
            fetches += 1
            errand = asyncio.create_task(
                self._fetch(message["fetch"], fetch if fetches <= MOST_FETCHES else _too_many)
            )
            errands.add(errand)
            errand.add_done_callback(errands.discard)
        return None

    async def _fetch(self, call: dict[str, Any], fetch: Fetch) -> None:
        run = self._runs
        answer = await fetch(call)
        self._write({"run": run, "id": call["id"], "answer": answer})

    async def _watch(self, memory_limit_mb: int) -> None:
        """End the process from outside when it takes more memory than it may."""
        most = (memory_limit_mb + _RESIDENT_MB) << 20
        with suppress(OSError):
            # Nobody tells when memory grows: it is looked at.
            while _resident_bytes(self._process.pid) < most:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_SECONDS)
            self._process.kill()
            return
        await asyncio.Event().wait()  # the system does not tell: the kernel's limit has to do

    async def _cause_of_death(self, script: Script, *, is_large: bool) -> dict[str, Any]:
        await self._process.wait()
        await self._listening
        if is_large or b"out of memory" in self._complaint or b"MemoryError" in self._complaint:
            message = f"the script needs more than {script.memory_limit_mb} MB"
            return {"code": "script_memory", "message": message}
        return {"code": "script_crashed", "message": "the script ended its process"}

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._listening.cancel()
        with suppress(asyncio.CancelledError):
            await self._listening
        # Without this its pipes are closed late, by the garbage collector.
        self._process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001

    def _write(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            message: dict[str, Any] | None = json.loads(line) if line else None
        except ValueError:  # longer than anything that it may say, or no JSON
            self._process.kill()
            return None
        return message

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(4096):
            room = _LONGEST_COMPLAINT - len(self._complaint)
            self._complaint += data[: max(0, room)]


async def _too_many(_request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"error": f"a script may fetch {MOST_FETCHES} times"}


def _ran(ended: dict[str, Any], duration_ms: int) -> Ran:
    lines, dropped = ended.get("logs", [[], 0])
    error = ScriptError(**ended["error"]) if "error" in ended else None
    return Ran(
        ended.get("output"),
        error,
        [(level, text) for level, text in lines],
        dropped,
        duration_ms,
        ended.get("memory_bytes", 0),
    )


def _resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096
