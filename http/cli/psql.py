"""Opens psql on Callboard's database, without its password on a command line that `ps` shows."""

import os
import shutil
import signal
import subprocess

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from runtime import embedded_postgres
from runtime.database import DatabaseError
from runtime.postgres_cluster import wheel_binaries
from runtime.settings import Settings


def run(settings: Settings, arguments: list[str]) -> int:
    """Run psql with these further arguments; gives its exit code.

    DatabaseError if DATABASE_URL is one that psql cannot read.
    """
    environment = dict(os.environ)
    if settings.database_url is None:
        # A server that we start for this lives as long as psql, unless others use it.
        program, address = None, embedded_postgres.start(settings.data).dsn
    else:
        address, password = _apart(settings.database_url)
        if password is not None:
            environment["PGPASSWORD"] = password
        # The bundled one was built without TLS, which many servers insist on.
        program = shutil.which("psql")
    command = [program or str(wheel_binaries() / "psql"), address, *arguments]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql's own: it cancels the running query
    return subprocess.call(command, env=environment)


def _apart(url: str) -> tuple[str, str | None]:
    """Give the address without its password, and the password; read as libpq reads it."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # Not with the error's own words: they may quote the password.
        raise DatabaseError("DATABASE_URL: psql cannot read this address") from error
    password = parts.pop("password", None)
    return make_conninfo("", **parts), None if password is None else str(password)
