"""Pools speak JSON, tell Procrastinate's types, and end what stands still."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from runtime import database
from runtime.database import DatabaseError, create_pool, is_lost, resolve_dsn
from runtime.settings import Settings

JSON: list[Any] = [None, True, 1, 1.5, "", "ä€😀", [], {}, {"a": [1, {"b": None}]}, "\\u0000"]


@pytest.mark.parametrize("value", JSON, ids=repr)
@pytest.mark.parametrize("kind", ["json", "jsonb"])
async def test_json_values_come_back_as_they_went(
    conn: asyncpg.Connection, kind: str, value: Any
) -> None:
    assert await conn.fetchval(f"select $1::{kind}", value) == value


async def test_jsonb_within_arrays_and_sql_agree(conn: asyncpg.Connection) -> None:
    assert await conn.fetchval("select $1::jsonb[]", [{"a": 1}, None]) == [{"a": 1}, None]
    assert await conn.fetchval("select $1::jsonb ->> 'a'", {"a": "b"}) == "b"


async def test_a_ticket_can_be_deferred_on_our_connections(pool: asyncpg.Pool) -> None:
    """Its argument is a composite type that holds jsonb, which a text codec would make fail."""
    ticket = ("crm", "drain", 0, None, "drain-crm", {"family": "crm"}, datetime.now(UTC))
    await pool.fetch(
        "select procrastinate_defer_jobs_v1($1::procrastinate_job_to_defer_v1[])", [ticket]
    )
    assert await pool.fetchval("select args from procrastinate_jobs") == {"family": "crm"}


async def test_connections_say_who_they_are_and_end_what_stands_still(pool: asyncpg.Pool) -> None:
    shown = {
        name: await pool.fetchval(f"show {name}")
        for name in (
            "application_name",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "timezone",
        )
    }
    assert shown == {
        "application_name": "callboard",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "15s",
        "timezone": "UTC",
    }


async def test_a_long_statement_is_ended(dsn: str, settings: Settings) -> None:
    hasty = settings.model_copy(update={"statement_timeout_ms": 100})
    async with await create_pool(dsn, hasty) as pool:
        with pytest.raises(asyncpg.QueryCanceledError):
            await pool.execute("select pg_sleep(60)")


async def test_database_url_is_used_when_it_is_set(settings: Settings) -> None:
    assert await resolve_dsn(settings) == settings.database_url


async def test_an_old_server_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLDEST_SERVER", 99)
    with pytest.raises(DatabaseError, match="DATABASE_URL: the server is PostgreSQL .* needs 99"):
        await resolve_dsn(settings)


async def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    settings = Settings(database_url=f"postgresql://me:secret@/x?host={tmp_path}", data=tmp_path)
    with pytest.raises(DatabaseError, match="DATABASE_URL: no connection") as caught:
        await resolve_dsn(settings)
    assert "secret" not in str(caught.value)


async def test_without_database_url_the_embedded_server_is_started(scratch: Path) -> None:
    dsn = await resolve_dsn(Settings(database_url=None, data=scratch / "data"))
    connection = await asyncpg.connect(dsn)
    await connection.close()


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (None, False),
        (TimeoutError("somebody else's"), False),
        (OSError("disk full"), False),
        (asyncpg.UniqueViolationError("taken"), False),
        (asyncpg.ConnectionDoesNotExistError("gone"), True),
        (asyncpg.AdminShutdownError("ended"), True),
    ],
)
async def test_only_errors_of_a_connection_say_that_it_is_lost(
    conn: asyncpg.Connection, error: Exception | None, lost: bool
) -> None:
    assert is_lost(conn, error) is lost
    conn.terminate()
    assert is_lost(conn, error)


async def test_a_pool_that_cannot_connect_raises_no_oserror(settings: Settings) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(asyncpg.ConnectionFailureError, match="no connection"):
        await (await create_pool(nowhere, settings)).close()


async def test_a_connection_comes_back_without_a_statement_and_without_a_transaction(
    dsn: str, settings: Settings
) -> None:
    pool = await create_pool(dsn, settings, size=1)
    async with pool.acquire() as lent:
        await lent.execute("CREATE TABLE left_behind (n integer)")
        await lent.execute("BEGIN")
        await lent.execute("INSERT INTO left_behind VALUES (1)")
    said: list[str] = []
    async with pool.acquire() as lent:
        assert not lent.is_in_transaction()
        with lent.query_logger(lambda record: said.append(record.query)):
            assert await lent.fetchval("SELECT count(*) FROM left_behind") == 0
        last = "SELECT query FROM pg_stat_activity WHERE pid = $1"
        pid = lent.get_server_pid()
    other = await asyncpg.connect(dsn)
    assert await other.fetchval(last, pid) == said[-1]
    await other.close()
    pool.terminate()
