"""`run.py token create | list | revoke`: tokens for whoever has the database anyway."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from api.access import Permission
from api.tokens import add, create_for, queries
from runtime import clock
from runtime.configuration import did_you_mean
from runtime.database import resolve_dsn
from runtime.settings import Settings
from sql.migrate import migrate

Given = TypeVar("Given")

USAGE_ERROR = 2


class TokenCommandError(Exception):
    """What was asked for cannot be done; the text says why."""


def create_from_cli(
    settings: Settings,
    account: str | None,
    role: str,
    name: str,
    *,
    email: str | None = None,
    days: int | None = None,
    scopes: Sequence[str] | None = None,
) -> int:
    """Print a new token, alone, to stdout; what it is goes to stderr.

    With `email` it is of that user and has the user's role; else of the role's service user.
    """
    account = (account or "").strip() or "default"

    async def create(db: asyncpg.Connection) -> tuple[str, str]:
        narrowed = _known(scopes)
        now = await clock.current_instant(db)
        end = None if days is None else now + timedelta(days=days)
        if email is None:
            token = await create_for(db, account, role, name, expires_at=end, scopes=narrowed)
            return token, f"the role {role}"
        account_id = await db.fetchval(queries.find_account, account)
        user = account_id and await db.fetchrow(queries.find_user, account_id, email)
        if not user:
            raise TokenCommandError("no user of that account has this e-mail address")
        token, _ = await add(db, account_id, user["id"], name, expires_at=end, scopes=narrowed)
        return token, f"{email} ({user['role']})"

    return _perform(
        settings,
        create,
        lambda made: _print(
            made[0], f"A token for {made[1]} in the account '{account}', shown only now:"
        ),
    )


def list_from_cli(settings: Settings, account: str) -> int:
    """Print the tokens of an account, newest first, without what is sent as bearer."""

    async def find(db: asyncpg.Connection) -> list[asyncpg.Record]:
        account_id = await db.fetchval(queries.find_account, account)
        if account_id is None:
            raise TokenCommandError(f"there is no account '{account}'")
        return await db.fetch(queries.tokens_of_account, account_id)

    return _perform(settings, find, lambda rows: _print("\n".join(map(_line, rows)) or "none"))


def revoke_from_cli(settings: Settings, token_id: UUID) -> int:
    """Revoke a token by its id."""

    async def revoke(db: asyncpg.Connection) -> bool:
        account_id = await db.fetchval(queries.account_of_token, token_id)
        if account_id is None:
            raise TokenCommandError("there is no such token; `run.py token list` shows them")
        return await db.fetchrow(queries.revoke_token, account_id, token_id) is not None

    return _perform(settings, revoke, lambda new: _print("revoked" if new else "had been revoked"))


def _known(scopes: Sequence[str] | None) -> list[str] | None:
    known = sorted(Permission)
    for scope in scopes or ():
        if scope not in known:
            hint = did_you_mean(scope, known) or f" There are: {', '.join(known)}"
            raise TokenCommandError(f"there is no permission '{scope}'.{hint}")
    return None if scopes is None else sorted(set(scopes))


def _line(row: asyncpg.Record) -> str:
    end = row["revoked_at"] or row["expires_at"]
    word = "revoked" if row["revoked_at"] else "ends"
    state = f"{word} {end:%Y-%m-%d %H:%M}" if end else "no end"
    used = f"used {row['last_used_at']:%Y-%m-%d %H:%M}" if row["last_used_at"] else "not used"
    scopes = ",".join(row["scopes"] or ["all of the role"])
    return (
        f"{row['id']}  {row['role']:6}  {row['email']}  {row['name']!r}  {state}  {used}  {scopes}"
    )


def _print(text: str, aside: str = "") -> None:
    if aside:
        sys.stderr.write(f"{aside}\n")
    sys.stdout.write(f"{text}\n")


def _perform(
    settings: Settings,
    perform: Callable[[asyncpg.Connection], Awaitable[Given]],
    show: Callable[[Given], None],
) -> int:
    try:
        show(asyncio.run(_connected(settings, perform)))
    except TokenCommandError as error:
        sys.stderr.write(f"callboard: {error}\n")
        return USAGE_ERROR
    return 0


async def _connected(
    settings: Settings, perform: Callable[[asyncpg.Connection], Awaitable[Given]]
) -> Given:
    dsn = await resolve_dsn(settings)
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        return await perform(connection)
    finally:
        await connection.close()
