#!/usr/bin/env python3
"""Callboard's one command: demo, tests, servers, database, benchmarks. See `run.py --help`.

On a fresh machine it first makes .venv beside itself; see http/cli/environment.py.
"""

# This part must be readable for any Python 3: it looks for a newer one.
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))


def go_on_under_a_fitting_python() -> None:
    """Start over under Python 3.11 to 3.13 if the running one is another; exit 2 if there is none.

    Each candidate is tried out: the shims of pyenv exist for versions that they refuse to run.
    """
    if (3, 11) <= sys.version_info[:2] < (3, 14):
        return
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        path = shutil.which(name)
        check = "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))"
        if path and subprocess.call([path, "-c", check], stderr=subprocess.DEVNULL) == 0:
            os.execv(path, [path, *sys.argv])
    have = ".".join(map(str, sys.version_info[:3]))
    sys.exit("callboard: needs Python 3.11, 3.12 or 3.13 on PATH (this is %s)" % have)


if __name__ == "__main__":
    go_on_under_a_fitting_python()

sys.path[:0] = [ROOT, os.path.join(ROOT, "http")]

from cli.commands import main  # noqa: E402 (not before the Python fits)

if __name__ == "__main__":
    sys.exit(main())
