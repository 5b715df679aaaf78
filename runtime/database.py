"""Where PostgreSQL is, and connection pools that speak JSON and cannot be held up."""

import asyncio
from typing import Any

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from runtime import embedded_postgres
from runtime.settings import Settings

Connection = asyncpg.Connection | PoolConnectionProxy
"""A connection of its own, or one that a pool lent."""

_NO_CONNECTION = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)

LOST_CONNECTION = (*_NO_CONNECTION, OSError)
"""What asyncpg raises when the connection, not the statement, is to blame.

Only around work that meets nothing but the database: a performance's own OSError, such as a
TimeoutError, says nothing of the connection. There, and wherever a closed connection's
InterfaceError is to be told from wrong arguments, ask `is_lost`.
"""

OLDEST_SERVER = 16
_JSONB_VERSION = b"\x01"  # what PostgreSQL's binary format of jsonb begins with


def is_lost(connection: Connection, error: BaseException | None = None) -> bool:
    """Whether nothing can be said on this connection any more, or the error speaks of another.

    An OSError counts only through the connection itself: a pool that cannot connect raises
    ConnectionFailureError (see `create_pool`), so that an OSError is somebody else's.
    """
    if isinstance(error, _NO_CONNECTION):
        return True
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # its pool has taken it back, dead


class DatabaseError(Exception):
    """The configured server cannot be used; the text says why."""


async def resolve_dsn(settings: Settings) -> str:
    """The address of the database: DATABASE_URL if set, else the embedded server, started.

    An embedded server is stopped when the last process that called this exits. DatabaseError if
    DATABASE_URL does not answer or is older than PostgreSQL 16; EmbeddedPostgresError as
    `embedded_postgres.start` says.
    """
    if settings.database_url is None:
        server = await asyncio.to_thread(embedded_postgres.start, settings.data)
        return server.dsn
    await _check_version(settings.database_url)
    return settings.database_url


async def _check_version(dsn: str) -> None:
    try:
        connection = await asyncpg.connect(dsn, timeout=15)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseError(
            f"DATABASE_URL: no connection ({str(error) or type(error).__name__})"
        ) from error
    try:
        version = connection.get_server_version()
    finally:
        await connection.close()
    if version.major < OLDEST_SERVER:
        raise DatabaseError(
            f"DATABASE_URL: the server is PostgreSQL {version.major}; "
            f"Callboard needs {OLDEST_SERVER} or newer"
        )


async def create_pool(
    dsn: str,
    settings: Settings,
    *,
    size: int | None = None,
    min_size: int = 1,
    application_name: str = "callboard",
) -> asyncpg.Pool:
    """Open a pool of at most `size` connections (default: `database_pool_size`).

    Its connections end a statement or an idle transaction after the settings' time, and notice a
    dead network within half a minute. Python values go into and come out of json and jsonb.
    Where it cannot connect it raises a PostgresConnectionError, never an OSError.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=size or settings.database_pool_size,
        connect=_connect,
        init=use_json,
        reset=_leave_as_it_is,
        server_settings=server_settings(settings, application_name),
    )


async def _leave_as_it_is(_connection: Any) -> None:
    """Reset nothing: by default asyncpg runs four statements whenever a connection is given back.

    That is a round trip for every query outside of a transaction. Nothing of ours leaves anything
    behind in a session: locks are a transaction's, settings LOCAL, and nobody listens on a lent
    connection. An open transaction is rolled back all the same.
    """


async def _connect(*arguments: Any, **options: Any) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(*arguments, **options)
    except OSError as error:
        what = str(error) or type(error).__name__
        raise asyncpg.ConnectionFailureError(f"no connection ({what})") from error


def server_settings(settings: Settings, application_name: str) -> dict[str, str]:
    """Session settings under which nothing frozen holds people up; for every connection of ours."""
    return {
        "application_name": application_name,
        "statement_timeout": str(settings.statement_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.idle_in_transaction_timeout_ms),
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "4",
        "TimeZone": "UTC",
    }


async def use_json(connection: asyncpg.Connection) -> None:
    """Have this connection take and give Python values for json and jsonb.

    In the binary format: a text codec makes asyncpg refuse composite types that hold jsonb, as
    the argument of Procrastinate's defer function does.
    """
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_encode_jsonb,
        decoder=_decode_jsonb,
        format="binary",
    )
    await connection.set_type_codec(
        "json",
        schema="pg_catalog",
        encoder=_encode_json,
        decoder=orjson.loads,
        format="binary",
    )


def _encode_json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def _encode_jsonb(value: object) -> bytes:
    return _JSONB_VERSION + orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def _decode_jsonb(data: bytes) -> Any:
    return orjson.loads(memoryview(data)[len(_JSONB_VERSION) :])
