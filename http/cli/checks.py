"""What `run.py test` runs: lint, format, types, import contract, then the tests with coverage."""

import os
import subprocess
import sys
import time

from cli.environment import ROOT

_LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
_STAGES = {
    "lint": ["-m", "ruff", "check", "."],
    "format": ["-m", "ruff", "format", "--check", "."],
    "types": ["-m", "mypy"],
    "imports": ["-c", _LINT_IMPORTS],
    # Two at a time: most of a test is PostgreSQL making its database, on the other core.
    "tests": ["-m", "pytest", "-n", "2", "--cov", "--cov-report=term-missing:skip-covered"],
}
_GRACE_SECONDS = 30


def run_all(pytest_arguments: list[str]) -> int:
    """Run every stage, whatever the others say; exit code 1 if any failed.

    With arguments for pytest, only pytest runs, without coverage, and the exit code is its own.
    """
    if pytest_arguments:
        return _run(["-m", "pytest", *pytest_arguments])
    failed, summary = [], []
    for name, arguments in _STAGES.items():
        print(f"── {name}", flush=True)
        began = time.monotonic()
        if _run(arguments) != 0:
            failed.append(name)
        verdict = "FAILED" if name in failed else "ok"
        summary.append(f"{name:8} {verdict:6} {time.monotonic() - began:7.1f} s")
    print("\n".join(["──", *summary]))
    return 1 if failed else 0


def _run(arguments: list[str]) -> int:
    """Run Python with these arguments at our root; if we are ended, it is ended first."""
    path = [str(ROOT), str(ROOT / "http"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    try:
        return process.wait()
    except BaseException as end:
        # Ctrl-C in a terminal reached it too, and a second signal would cut its cleaning up short.
        # Otherwise SIGTERM, not SIGINT: what a shell starts in the background ignores that one.
        if not isinstance(end, KeyboardInterrupt) or not sys.stdin.isatty():
            process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
