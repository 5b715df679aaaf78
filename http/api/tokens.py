"""Bearer tokens: 256 random bits behind the prefix cb_, of which only the hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from runtime.database import Connection
from runtime.ids import new_id
from sql import load

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


async def add(
    db: Connection,
    account_id: UUID,
    user_id: UUID,
    name: str,
    *,
    expires_at: datetime | None = None,
    scopes: Sequence[str] | None = None,
    created_by: UUID | None = None,
) -> tuple[str, asyncpg.Record]:
    """Give a user a new token; gives it and its row. The caller sees to what may be given."""
    token = new_token()
    row = await db.fetchrow(
        queries.add_token,
        new_id(),
        account_id,
        user_id,
        name,
        digest(token),
        expires_at,
        scopes,
        created_by,
    )
    assert row is not None
    return token, row


async def create_for(
    db: Connection,
    account: str,
    role: str,
    name: str,
    *,
    expires_at: datetime | None = None,
    scopes: Sequence[str] | None = None,
) -> str:
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
        token, _ = await add(db, account_id, user_id, name, expires_at=expires_at, scopes=scopes)
        return token
