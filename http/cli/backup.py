"""Dumps of the database, and what it takes to go on from one without writing to anybody twice."""

from __future__ import annotations

import asyncio
import sys

import asyncpg

from cli.psql import run_program
from runtime.database import resolve_dsn
from runtime.settings import Settings
from sql import load
from sql.migrate import migrate

queries = load("activation")


def dump(settings: Settings, file: str) -> int:
    """Write everything but uploaded files into a file, as of one instant; gives the exit code."""
    return run_program(
        settings, "pg_dump", ["--format=custom", "--no-owner", "--no-privileges", f"--file={file}"]
    )


def restore(settings: Settings, file: str) -> int:
    """Fill an empty database from a dump, with all workflows paused; gives the exit code.

    What was sent after the dump was made is not in it, and would be sent again. All of a dump is
    restored, or nothing. 2: the database is not empty.
    """
    return asyncio.run(_restore(settings, file))


async def _restore(settings: Settings, file: str) -> int:
    dsn = await resolve_dsn(settings)
    if not await _is_empty(dsn):
        sys.stderr.write("callboard: the database is not empty; restore into a new one\n")
        return 2
    options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
    code = await asyncio.to_thread(run_program, settings, "pg_restore", [*options, file])
    if code:
        return code
    await migrate(dsn)
    workflows, effects = await _hold_everything(dsn)
    sys.stdout.write(_RESTORED.format(workflows=workflows, effects=effects))
    return 0


_RESTORED = """Restored. {workflows} workflows were active and are paused.
{effects} effects had not been sent when the dump was made. What was sent since would go out again:
look at them (psql: SELECT * FROM effects WHERE completed_at IS NULL), cancel the runs of what was
sent, then activate the workflows.
"""


async def _is_empty(dsn: str) -> bool:
    connection = await asyncpg.connect(dsn)
    try:
        return not await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
    finally:
        await connection.close()


async def _hold_everything(dsn: str) -> tuple[int, int]:
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow(queries.pause_everything)
    finally:
        await connection.close()
    assert row is not None
    return row["workflows"], row["effects"]
