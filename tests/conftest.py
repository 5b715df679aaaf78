"""Fixtures: a real PostgreSQL for the session, a migrated database of its own for every test."""

import asyncio
import base64
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import structlog
from pydantic import SecretStr

import actors
from runtime import embedded_postgres
from runtime.database import create_pool, use_json
from runtime.house import House
from runtime.registry import Registry
from runtime.secrets import vault_of
from runtime.settings import Settings
from sql.migrate import migrate
from tests.backstage import Backstage
from tests.world import World

SECRET_KEYS = f"test:{base64.b64encode(bytes(range(32))).decode()}"


def pytest_configure() -> None:
    # By default SIGTERM would end us without taking down fixtures, and leave servers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, plain])


@pytest.fixture(scope="session")
def run_id() -> str:
    """The same in all workers of one pytest-xdist run, and in no other run."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid4().hex)[:12]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty folder for a server of the test's own, which root's server account can reach.

    pytest's own tmp_path is private to its user.
    """
    folder = Path(tempfile.mkdtemp(prefix="callboard-test-"))
    folder.chmod(0o755)
    yield folder
    embedded_postgres.stop(folder)
    shutil.rmtree(folder)


MEMORY_NEEDED = 4 << 30


@pytest.fixture(scope="session")
def server_dsn(run_id: str) -> Iterator[str]:
    """A server for the session: TEST_DATABASE_URL (its role makes databases), or an embedded one.

    The workers of pytest-xdist share it; the last to leave stops it and removes its files.
    """
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    _remove_what_killed_runs_left()
    folder = _fast_folder() / f"callboard-tests-{run_id}"
    server = embedded_postgres.start(folder, volatile=True)
    yield server.dsn
    if server.stop():
        # Another run that starts now may be removing it too.
        shutil.rmtree(folder, ignore_errors=True)


def _fast_folder() -> Path:
    """Where databases are made in 0.04 s instead of 0.4: in memory, if there is enough of it.

    Every test has a database of its own, which is a thousand small files.
    """
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= MEMORY_NEEDED:
        return memory
    return Path(tempfile.gettempdir())


def _remove_what_killed_runs_left() -> None:
    for folder in _fast_folder().glob("callboard-tests-*"):
        with suppress(OSError), (folder / "postgres.users").open("r+") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # a run that lives
            embedded_postgres.stop(folder)
            shutil.rmtree(folder)


def _with_database(dsn: str, database: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
def template(server_dsn: str, run_id: str) -> Iterator[str]:
    """The name of a database with all migrations, made once per process, for tests to copy."""
    name = f"callboard_template_{run_id}_{os.getpid()}"
    # Not an async fixture: every test has an event loop of its own.
    asyncio.run(_execute(server_dsn, f"create database {name}"))
    asyncio.run(migrate(_with_database(server_dsn, name)))
    yield name
    asyncio.run(_execute(server_dsn, f"drop database {name} with (force)"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """The address of a new database with nothing in it."""
    async with _database(server_dsn, "template0") as dsn:
        yield dsn


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """The address of this test's own, migrated database."""
    async with _database(server_dsn, template) as dsn:
        yield dsn


@asynccontextmanager
async def _database(server_dsn: str, template: str) -> AsyncIterator[str]:
    name = f"callboard_test_{uuid4().hex[:12]}"
    # A third of the time that `wal_log`, the default, takes for a schema of this size.
    await _execute(server_dsn, f"create database {name} template {template} strategy file_copy")
    yield _with_database(server_dsn, name)
    await _execute(server_dsn, f"drop database {name} with (force)")


@pytest.fixture
def settings(dsn: str, tmp_path: Path) -> Settings:
    """Settings for this test's database, whatever the environment says."""
    return Settings(database_url=dsn, data=tmp_path, secret_keys=SecretStr(SECRET_KEYS))


@pytest.fixture
async def pool(dsn: str, settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool on this test's database, as the engine makes it."""
    pool = await create_pool(dsn, settings)
    yield pool
    # Not `close`, which waits for connections that a failed test still holds.
    pool.terminate()


@pytest.fixture
def house(pool: asyncpg.Pool, settings: Settings) -> House:
    """What the parts of one process share, in this test's own database."""
    return House(pool, settings, vault_of(settings))


@pytest.fixture
async def conn(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """One connection to this test's database, with our codecs and no time limits."""
    connection = await asyncpg.connect(dsn)
    await use_json(connection)
    yield connection
    connection.terminate()


@pytest.fixture
def backstage(pool: asyncpg.Pool) -> Backstage:
    """A stage without the engine, in this test's own database."""
    return Backstage(pool)


@pytest.fixture
async def world_with(
    pool: asyncpg.Pool, dsn: str, settings: Settings
) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Makes a world with a registry of the test's own; keyword arguments are settings."""
    sides = []

    async def build(registry: Registry | None = None, **changed: Any) -> World:
        sides.append(await create_pool(dsn, settings, size=2))
        changes = settings.model_copy(update=changed)
        return await World(pool, sides[-1], changes, registry or actors.registry).begin()

    yield build
    for side in sides:
        side.terminate()


@pytest.fixture
async def world(world_with: Callable[..., Awaitable[World]]) -> World:
    """An account with a user and an engine, in this test's own database."""
    return await world_with()
