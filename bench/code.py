"""Scripts per second in the sandbox, beside bare mini-racer with a fresh isolate for each too."""

from __future__ import annotations

import argparse
import asyncio
import json as jsons
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench._reporting import Report
from runtime.javascript import JavaScript, Script, open_javascript
from runtime.settings import Settings

SCRIPTS: Final = 400
SMALL_SCRIPTS: Final = 20
ROUNDS: Final = 5

_ROOT: Final = Path(__file__).resolve().parent.parent
_BODY: Final = """
    const paid = contact.orders.filter(order => order.paid).map(order => order.total);
    const total = paid.reduce((sum, one) => sum + one, 0);
    return {tier: total > 1000 ? "gold" : "silver", total, orders: paid.length};
"""
_CONTACT: Final = {
    "first_name": "Ada",
    "orders": [{"total": 12.5 * n, "paid": n % 3 > 0} for n in range(30)],
}
_PAID: Final = [12.5 * n for n in range(30) if n % 3 > 0]
_OUTPUT: Final = {"tier": "gold", "total": sum(_PAID), "orders": len(_PAID)}


def main(
    settings: Settings,  # noqa: ARG001 - every benchmark is called alike
    *,
    json: bool,
    small: bool,
    argv: list[str],
) -> int:
    """Measure and report; exit code 1 if any script gave something else than it should."""
    parser = argparse.ArgumentParser(prog="run.py bench code")
    number = SMALL_SCRIPTS if small else SCRIPTS
    parser.add_argument("--scripts", type=int, default=number, metavar="N", help="in each round")
    options = parser.parse_args(argv)
    rounds = 1 if small else ROUNDS
    return asyncio.run(_measure(Report("code", json=json), options.scripts, rounds))


async def _measure(report: Report, scripts: int, rounds: int) -> int:
    ours, bare = [], []
    async with open_javascript(1) as javascript, _bare_isolates() as run_barely:
        wrong = await _run(javascript, 1)  # starts the child
        for number in range(rounds):
            report.say(f"round {number + 1}: {scripts:,} scripts each")
            began = time.perf_counter()
            wrong += await _run(javascript, scripts)
            ours.append(scripts / (time.perf_counter() - began))
            bare.append(scripts / await run_barely(scripts))
    if wrong:
        return report.fail([f"{len(wrong):,} scripts gave something else, such as {wrong[0]}"])
    per_s, bare_per_s = statistics.median(ours), statistics.median(bare)
    figures: dict[str, Any] = {
        "per_s": round(per_s, 1),
        "bare_per_s": round(bare_per_s, 1),
        "of_bare_per_child": round(per_s / bare_per_s, 3),
    }
    report.table("scripts, a fresh isolate each", ["what", "figure"], list(figures.items()))
    conditions = {
        "scripts": scripts,
        "rounds": rounds,
        "python": platform.python_version(),
        "mini_racer": version("mini-racer"),
    }
    return report.finish(figures, conditions)


async def _run(javascript: JavaScript, scripts: int) -> list[Any]:
    """Run so many scripts; gives what was not as it should be."""
    script = Script(_BODY, {"contact": _CONTACT})
    ran = await asyncio.gather(*(javascript.run(script) for _ in range(scripts)))
    return [one for one in ran if one.output != _OUTPUT]


@asynccontextmanager
async def _bare_isolates() -> AsyncIterator[Callable[[int], Awaitable[float]]]:
    """Give a function that runs so many scripts barely, and tells in how many seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench._isolates",
        f"function (contact) {{{_BODY}}}",
        jsons.dumps(_CONTACT),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )

    async def run(scripts: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{scripts}\n".encode())
        return float(await process.stdout.readline())

    try:
        await run(1)
        yield run
    finally:
        process.kill()
        await process.wait()
