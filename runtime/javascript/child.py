"""One process that runs scripts in V8, a fresh isolate for each, and may be killed at any time.

Started as `python -I child.py` with an empty environment; speaks JSON lines over its standard input
and output (see pool.py). Before the first script it gives up what it does not need: privileges, the
network, files, core dumps, the right to gain anything. Whoever started it enforces the time: here
is no clock but for a script's own timers. Memory is limited by the kernel (RLIMIT_DATA), so that
array buffers and whatever else V8 does not count in its heap are limited too; a script that needs
more ends with an error of its own, or takes the process along.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import py_mini_racer

MEGABYTE = 1 << 20
# What V8 needs beside a script's own data: copies while it collects garbage, its own structures.
SLACK_MB = 32
# What making the next isolate may take.
BETWEEN_MB = 128
BETWEEN_MS = 5_000
LONGEST_WAIT_MS = 10_000
NOBODY = 65_534

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
# Frames of the script, whose first line is the wrapper's.
_FRAME = re.compile(r"script\.js:(\d+):(\d+)")
_PARSE_LINE = re.compile(r"^[^\n]*?:(\d+): (SyntaxError: [^\n]*)")
_CARET = re.compile(r"^( *)\^", re.MULTILINE)

WRAPPER = "(async function (contact, workflow, steps, trigger, account) {\n"
WRAPPER_END = "\n})"
SOURCE_URL = "\n//# sourceURL=script.js"


class Pipe:
    """The two ends to whoever started this process: lines of JSON."""

    def __init__(self) -> None:
        # Whatever a library prints must not get into the protocol.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._pending = b""

    def write(self, message: dict[str, Any]) -> None:
        """Send a message."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._out, data) :]

    def read(self, seconds: float | None = None) -> Any:
        """Give the next message; None when none has come in time. Ends the process at the end."""
        while b"\n" not in self._pending:
            if not select.select([0], [], [], seconds)[0]:
                return None
            data = os.read(0, 1 << 16)
            if not data:
                os._exit(0)
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return json.loads(line)


class Isolate:
    """A fresh isolate with the prelude in it: made while nobody waits, used by one script."""

    def __init__(self, prelude: str) -> None:
        self.racer: Any = py_mini_racer.MiniRacer()
        self.racer.eval(prelude)

    def step(self, op: str, *arguments: Any) -> Any:
        """Call the prelude's function with an operation and JSON values."""
        return self.racer.eval(f"__step({', '.join(map(json.dumps, (op, *arguments)))})")

    def close(self) -> None:
        """Give the isolate back; without this the process hangs at its end."""
        self.racer.close()


class Script:
    """One run of one script."""

    def __init__(
        self, job: dict[str, Any], pipe: Pipe, modules: dict[str, str], isolate: Isolate
    ) -> None:
        self._job = job
        self._pipe = pipe
        self._modules = modules
        self._began = time.monotonic()
        self._step = isolate.step
        self._racer = isolate.racer
        self._racer.set_hard_memory_limit(job["memory_limit_mb"] * MEGABYTE)

    def run(self) -> dict[str, Any]:
        """Give what became of it: `output` or `error`, with `logs`."""
        try:
            if self._job["check_only"]:
                if self._call("check", "") == "unbalanced":
                    return _error("script_syntax", "SyntaxError: unbalanced braces")
                return {"output": None}
            for name in self._job["modules"]:
                wrapped = f"(function (module, exports, require) {{{self._modules[name]}\n}})"
                self._racer.eval(f'__step("module", "{name}", {wrapped})')
            if self._call("begin", self._job["given"]) == "unbalanced":
                return _error("script_syntax", "SyntaxError: unbalanced braces")
            ended = self._look_after()
        except py_mini_racer.JSParseException as error:
            return {"error": _syntax_error(str(error), self._job["code"])}
        except (py_mini_racer.JSOOMException, py_mini_racer.JSEvalException):
            if self._racer.was_hard_memory_limit_reached():
                most = self._job["memory_limit_mb"]
                return _error("script_memory", f"the script needs more than {most} MB")
            ended = _error("script_failed", "the script broke what it runs in")
        if "logs" not in ended:
            ended["logs"] = self._logs()
        if self._job["measures_memory"]:
            ended["memory_bytes"] = self._memory()
        return ended

    def _call(self, op: str, given: str) -> Any:
        """Call the prelude's function with the code; it begins on the second line."""
        call = f"__step({json.dumps(op)}, {json.dumps(given)}, {WRAPPER}"
        return self._racer.eval(f"{call}{self._job['code']}{WRAPPER_END}){SOURCE_URL}")

    def _look_after(self) -> dict[str, Any]:
        """Answer fetches and fire timers until the script has settled."""
        outstanding = 0
        while not (told := self._step("ended")):
            for call in json.loads(self._step("calls")):
                self._pipe.write({"fetch": call})
                outstanding += 1
            wait = _milliseconds(self._step("next_timer", self._clock()))
            if outstanding == 0 and wait < 0:
                message = "its promise can never settle: nothing is left that could do it"
                return {"error": {"code": "script_never_settles", "message": message}}
            answer = self._pipe.read(None if wait < 0 else wait / 1000)
            if answer is None:
                self._step("fire", self._clock())
            elif answer["run"] == self._job["run"]:  # not to a script that did not wait for it
                outstanding -= 1
                self._step("answer", answer["id"], json.dumps(answer["answer"]))
        state, given, logs = told.split("\n", 2)
        return {**self._ended(state, given), "logs": _logs_of(logs)}

    def _ended(self, state: str, given: str) -> dict[str, Any]:
        match state:
            case "done":
                try:
                    return {"output": json.loads(given)}
                except RecursionError:
                    return _error("script_output_unusable", "the returned value is nested too deep")
            case "too_large":
                return _error("script_output_too_large", "the returned value is over 256 KB")
            case "not_json":
                return _error("script_output_unusable", "the returned value is no JSON")
        return {"error": _failure(json.loads(given))}

    def _clock(self) -> int:
        return int((time.monotonic() - self._began) * 1000)

    def _logs(self) -> list[Any]:
        with suppress(Exception):  # a script may have spoilt what it runs in
            return _logs_of(self._step("logs"))
        return [[], 0]

    def _memory(self) -> int:
        with suppress(Exception):
            return int(self._racer.heap_stats()["used_heap_size"])
        return 0


def _milliseconds(told: Any) -> float:
    """How long to wait for a timer, negative for none; a script may have it say anything."""
    if not isinstance(told, int | float) or told != told:  # noqa: PLR0124 (NaN)
        return 0
    return min(float(told), LONGEST_WAIT_MS)


def _logs_of(text: str) -> list[Any]:
    """Lines of (level, text) and how many were dropped; none where a script has spoilt them."""
    with suppress(ValueError, TypeError, RecursionError):
        lines, dropped = json.loads(text)
        return [[(str(level), str(line)) for level, line in lines], int(dropped)]
    return [[], 0]


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _failure(told: dict[str, str]) -> dict[str, Any]:
    message = f"{told['name']}: {told['message']}" if told["name"] else told["message"]
    error: dict[str, Any] = {"code": "script_failed", "message": message}
    if frame := _FRAME.search(told["stack"]):
        error |= {"line": int(frame[1]) - 1, "column": int(frame[2])}
    return error


def _syntax_error(text: str, code: str) -> dict[str, Any]:
    error: dict[str, Any] = {"code": "script_syntax", "message": "SyntaxError"}
    lines = code.split("\n")
    found = _PARSE_LINE.match(text)
    if found and int(found[1]) - 1 > len(lines):  # in what we put behind the code
        message = "SyntaxError: unexpected end of the script"
        return error | {"message": message, "line": len(lines), "column": len(lines[-1]) + 1}
    if found:
        error |= {"message": found[2][:500], "line": max(1, int(found[1]) - 1)}
    if caret := _CARET.search(text):
        error["column"] = len(caret[1]) + 1
    return error


def _jobs(pipe: Pipe) -> Iterator[Any]:
    while True:
        message = pipe.read()
        # Answers to fetches of a script that has ended may come yet.
        if "code" in message:
            pipe.write({"begun": message["run"]})
            yield message


def _data_bytes() -> int:
    """What RLIMIT_DATA counts (0 where the system does not tell)."""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        if found := re.search(r"^VmData:\s+(\d+) kB$", status, re.MULTILINE):
            return int(found[1]) * 1024
    return 0


def _leave_the_network(libc: Any) -> bool:
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    with suppress(AttributeError):  # not on this system
        return bool(libc.unshare(flags) == 0)
    return False


def _give_up_privileges(libc: Any) -> None:
    os.chdir("/")
    if os.geteuid() == 0:
        with suppress(OSError):
            os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    with suppress(AttributeError):
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        resource.setrlimit(limit, (most, most))


def _limit(base: int, memory_limit_mb: int, timeout_ms: int) -> None:
    """Limit memory and CPU for one script; what the process itself has taken comes on top."""
    if base:
        most = base + (memory_limit_mb + SLACK_MB) * MEGABYTE
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + timeout_ms / 1000) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


async def main() -> None:
    """Run scripts until the input ends.

    Nothing here is awaited: within a running event loop mini-racer works in this thread, where it
    would otherwise make a loop and a thread for each isolate, and go to and fro between them.
    """
    libc = ctypes.CDLL(None)
    off_network = _leave_the_network(libc)
    pipe = Pipe()
    around = pipe.read()
    # Without a just-in-time compiler V8 starts within a limit of memory, and offers less to attack.
    py_mini_racer.init_mini_racer(flags=("--single-threaded", "--jitless"))
    py_mini_racer.MiniRacer().close()  # reads its files now, while it may
    base = _data_bytes()
    _give_up_privileges(libc)
    pipe.write({"ready": True, "off_network": off_network})
    isolate = Isolate(around["prelude"])
    for job in _jobs(pipe):
        _limit(base, job["memory_limit_mb"], job["timeout_ms"])
        pipe.write({"ended": Script(job, pipe, around["modules"], isolate).run()})
        isolate.close()
        # The limits of the script that has ended are none of the next one's.
        _limit(base, BETWEEN_MB, BETWEEN_MS)
        isolate = Isolate(around["prelude"])


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
