"""Bearer tokens: 256 random bits behind the prefix cb_, of which only the hash is kept."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from runtime.database import Connection, resolve_dsn
from runtime.settings import Settings
from sql import load
from sql.migrate import migrate

queries = load("access")

PREFIX: Final = "cb_"
"""Lets scanners of repositories and logs recognise a leaked token."""

TOKEN_PATTERN: Final = PREFIX + "[A-Za-z0-9_-]{43}"


def new_token() -> str:
    """Make a token; it is shown once and never stored."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> bytes:
    """Hash a token for storing and looking up; so much randomness needs no slow hash."""
    return hashlib.sha256(token.encode()).digest()


async def create(
    db: Connection,
    account_id: UUID,
    user_id: UUID,
    name: str,
    expires_at: datetime | None = None,
) -> str:
    """Give a user a new token and return it."""
    token = new_token()
    await db.execute(queries.add_token, account_id, user_id, name, digest(token), expires_at)
    return token


async def create_for(db: Connection, account: str, role: str, name: str) -> str:
    """Make a token of the account of this name, with the account and its user if absent.

    There is one such user for each role, <role>@callboard.invalid: a service user, which is given
    no contacts.
    """
    async with db.transaction():
        await db.execute(queries.lock_account_name, account)
        account_id = await db.fetchval(queries.find_account, account)
        account_id = account_id or await db.fetchval(queries.add_account, account)
        email = f"{role}@callboard.invalid"
        user_id = await db.fetchval(
            queries.service_user, account_id, email, role.capitalize(), role
        )
        return await create(db, account_id, user_id, name)


def create_from_cli(settings: Settings, account: str | None, role: str, name: str) -> int:
    """Print a new token, alone, to stdout; what it is goes to stderr."""
    account = (account or "").strip() or "default"
    token = asyncio.run(_create_once(settings, account, role, name))
    sys.stderr.write(f"A token for the role {role} in the account '{account}', shown only now:\n")
    sys.stdout.write(f"{token}\n")
    return 0


async def _create_once(settings: Settings, account: str, role: str, name: str) -> str:
    dsn = await resolve_dsn(settings)
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        return await create_for(connection, account, role, name)
    finally:
        await connection.close()
