"""Bare mini-racer, in a process of its own: a fresh isolate for each script, and nothing around it.

Told a number of scripts by each line of its input, it answers with the seconds they took.
"""

from __future__ import annotations

import json
import sys
import time

import py_mini_racer


def main(code: str, given: str) -> None:
    """Run the function `code` on the JSON `given`, as often as each line says."""
    call = f"JSON.stringify(({code})({given}))"
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            racer = py_mini_racer.MiniRacer()
            json.loads(str(racer.eval(call)))
            racer.close()
        sys.stdout.write(f"{time.perf_counter() - began}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
