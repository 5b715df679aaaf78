"""Dumps of the database, and what it takes to go on from one without writing to anybody twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from cli.psql import run_program
from runtime.database import resolve_dsn
from runtime.postgres_cluster import wheel_binaries
from runtime.settings import Settings
from sql import load
from sql.migrate import migrate

queries = load("activation")

# Newer programs set it, and a server of version 16 does not know it.
_UNKNOWN_TO_OLD_SERVERS = b"SET transaction_timeout ="


def dump(settings: Settings, file: str) -> int:
    """Write everything but uploaded files into a file, as of one instant; gives the exit code.

    Only its owner may read it. An earlier dump of this name is replaced once this one is whole.
    """
    part = f"{file}.part"
    with suppress(OSError):  # which pg_dump tells in its own words
        Path(part).unlink(missing_ok=True)
        Path(part).touch(mode=0o600)
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={part}"]
    code = run_program(settings, "pg_dump", options)
    if code:
        Path(part).unlink(missing_ok=True)
    else:
        Path(part).replace(file)
    return code


def restore(settings: Settings, file: str) -> int:
    """Fill an empty database from a dump, with all workflows paused; gives the exit code.

    What was sent after the dump was made is not in it, and would be sent again. All of a dump is
    restored and everything held, in one transaction, or nothing. 2: the database is not empty.
    """
    dsn = asyncio.run(resolve_dsn(settings))
    if asyncio.run(_ask(dsn, "SELECT to_regclass('schema_migrations') IS NOT NULL")):
        sys.stderr.write("callboard: the database is not empty; restore into a new one\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "dump.sql"
        code = _write_script(file, script)
        if code == 0:
            code = _run_script(settings, script)
    if code:
        return code
    asyncio.run(migrate(dsn))
    sys.stdout.write(_RESTORED.format(effects=asyncio.run(_ask(dsn, queries.count_open_effects))))
    return 0


def hold(settings: Settings) -> None:
    """Pause all workflows and hold all lanes of a database, however it was restored."""
    dsn = asyncio.run(resolve_dsn(settings))
    asyncio.run(migrate(dsn))
    asyncio.run(_ask(dsn, queries.pause_everything))
    sys.stdout.write(_HELD.format(effects=asyncio.run(_ask(dsn, queries.count_open_effects))))


_HELD = """\
Every workflow is paused. {effects} effects have no end: those of them that were sent, which is not
known here, would go out again. Look at them (psql: SELECT * FROM effects WHERE completed_at IS
NULL), cancel the runs of what was sent, then activate the workflows.
"""
_RESTORED = f"""\
Restored. {_HELD}What people have said since the dump (STOP, unsubscribe, erase me) is not in it
either: see runtime/README.md before you activate anything.
"""


def _write_script(file: str, script: Path) -> int:
    """Write a dump as SQL, by the newest program at hand: older ones cannot read newer dumps."""
    program = str(wheel_binaries() / "pg_restore")
    options = ["--no-owner", "--no-privileges", "--file=-", file]
    with script.open("wb") as written:
        told = subprocess.Popen([program, *options], stdout=subprocess.PIPE)
        assert told.stdout is not None
        written.writelines(
            line for line in told.stdout if not line.startswith(_UNKNOWN_TO_OLD_SERVERS)
        )
        return told.wait()


def _run_script(settings: Settings, script: Path) -> int:
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    then = f"SET LOCAL search_path = public; {queries.pause_everything}"
    output = ["--output=/dev/null", f"--file={script}", f"--command={then}"]
    return run_program(settings, "psql", [*options, *output])


async def _ask(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
