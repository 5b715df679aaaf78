"""PostgreSQL's own programs on Callboard's database, without its password where `ps` shows it."""

import os
import re
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql's own: it cancels the running query
    return run_program(settings, "psql", arguments)


def run_program(settings: Settings, program: str, arguments: list[str]) -> int:
    """Run psql or pg_dump on the database; gives its exit code.

    Raises as `run`, and where the server does not answer.
    """
    environment = dict(os.environ)
    if settings.database_url is None:
        # A server that we start for this lives as long as the program, unless others use it.
        found, address = None, embedded_postgres.start(settings.data).dsn
    else:
        address, password = _apart(settings.database_url)
        if password is not None:
            environment["PGPASSWORD"] = password
        # The bundled ones were built without TLS, which many servers insist on.
        found = shutil.which(program)
        if found and program != "psql" and not _is_new_enough(found, settings.database_url):
            found = None
    command = [found or str(wheel_binaries() / program), address, *arguments]
    return subprocess.call(command, env=environment)


def _is_new_enough(program: str, url: str) -> bool:
    """Whether a program is of the server's version or newer: others refuse to dump it."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    major = re.search(r"\d+", version.stdout)
    try:
        with psycopg.connect(url, connect_timeout=15) as connection:
            return major is not None and int(major[0]) >= connection.info.server_version // 10_000
    except psycopg.Error as error:
        raise DatabaseError(f"DATABASE_URL: no connection ({type(error).__name__})") from error


def _apart(url: str) -> tuple[str, str | None]:
    """Give the address without its password, and the password; read as libpq reads it."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # Not with the error's own words: they may quote the password.
        raise DatabaseError("DATABASE_URL: psql cannot read this address") from error
    password = parts.pop("password", None)
    return make_conninfo("", **parts), None if password is None else str(password)
