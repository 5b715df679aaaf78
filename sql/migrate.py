"""Migrations: the files of `sql/migrations` in order, each once, each in its own transaction.

A runner of our own, because pogo-migrate writes its tables to the schema `public` by name (here
everything lives where `search_path` points), splits files into statements, takes no lock, and does
not notice a file that changed after it was applied.
"""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import asyncpg

from sql import MIGRATIONS

# Any number will do as long as nobody else on the database uses it: "callboard" in ASCII, folded.
_LOCK = 0x63616C6C626F6172
# Stands for Procrastinate's packaged schema, which cannot be applied twice and keeps no record.
_PROCRASTINATE = "0001_procrastinate"


class MigrationError(Exception):
    """The migrations of this code and of the database do not fit together."""


@dataclass(frozen=True)
class Migration:
    """One step: its name, under which it is recorded, and its SQL."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL; line endings do not count."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


def all_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Procrastinate's schema first, then the files in the order of their names."""
    schema = files("procrastinate").joinpath("sql", "schema.sql").read_text(encoding="utf-8")
    own = sorted(folder.glob("*.sql"))
    return [
        Migration(_PROCRASTINATE, schema),
        *(Migration(path.stem, path.read_text(encoding="utf-8")) for path in own),
    ]


async def migrate(dsn: str, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is missing; gives the names of what was applied.

    Several processes may call it at once: one works, the others wait and find nothing to do. A
    failing migration leaves nothing of itself behind. MigrationError if an applied file has
    changed, or is unknown to this code (the database is newer).
    """
    connection = await asyncpg.connect(
        dsn, server_settings={"application_name": "callboard migrate", "statement_timeout": "0"}
    )
    try:
        # A session's lock, not a transaction's: every migration commits by itself. It is per
        # database, and falls with the connection.
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        return await _apply(connection, all_migrations(folder))
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection, migrations: list[Migration]) -> list[str]:
    await connection.execute(
        """
        create table if not exists schema_migrations (
            name text constraint schema_migrations_name_is_unique primary key,
            checksum text not null,
            note text,
            applied_at timestamptz not null default now()
        )
        """
    )
    known = {
        row["name"]: row["checksum"]
        for row in await connection.fetch("select name, checksum from schema_migrations")
    }
    _refuse_strangers(known, migrations)
    applied = []
    for migration in migrations:
        if migration.name in known:
            continue
        async with connection.transaction():
            note = await _run(connection, migration)
            await connection.execute(
                "insert into schema_migrations (name, checksum, note) values ($1, $2, $3)",
                migration.name,
                migration.checksum,
                note,
            )
        applied.append(migration.name)
    return applied


def _refuse_strangers(known: dict[str, str], migrations: list[Migration]) -> None:
    ours = {migration.name: migration for migration in migrations}
    for name, checksum in known.items():
        if name not in ours:
            raise MigrationError(f"the database has the migration {name}, this code does not")
        # A newer Procrastinate brings its own migrations; our test of its version guards that.
        if name != _PROCRASTINATE and ours[name].checksum != checksum:
            raise MigrationError(
                f"sql/migrations/{name}.sql was changed after it was applied: put the change "
                "into a new migration"
            )


async def _run(connection: asyncpg.Connection, migration: Migration) -> str | None:
    if migration.name != _PROCRASTINATE:
        await connection.execute(migration.sql)
        return None
    if await connection.fetchval("select to_regclass('procrastinate_jobs')"):
        return "found, made by somebody else"
    await connection.execute(migration.sql)
    return f"procrastinate {version('procrastinate')}"
