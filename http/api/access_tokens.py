"""Tokens and the caller's own user: make, list, read and revoke tokens, nobody above themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import Field

from api.access import Caller, Permission, permissions_of
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Instant, Name
from api.lists import List, Page, page_of
from api.problems import Problem, invalid, not_found
from api.shown import Shown
from api.tokens import add, queries
from runtime import clock
from runtime.configuration import Fault, did_you_mean
from runtime.database import Connection


class NewToken(Body):
    """A token to be: by default of the caller, with all that the caller may do, for good.

    `scopes` are permissions; the token can do what is both among them and in the role of its user.
    """

    name: Name
    user_id: UUID | None = None
    scopes: Annotated[list[str], Field(min_length=1, max_length=20)] | None = None
    expires_at: Instant | None = None


class ShownToken(Shown):
    """A token. `scopes` null: all that the role has. `last_used_at` is to the minute."""

    id: UUID
    user_id: UUID
    name: str
    scopes: list[str] | None
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class ShownNewToken(ShownToken):
    """A new token, with what to send as bearer: it is shown this once."""

    token: str


class TokenPage(Page):
    """Which tokens to list."""

    user_id: UUID | None = None


class ShownOwnAccount(Shown):
    """The account."""

    id: UUID
    name: str
    time_zone: str
    currency: str
    country: str
    is_test: bool


class ShownOwnUser(Shown):
    """The caller's user."""

    id: UUID
    email: str
    name: str
    role: str
    is_service: bool


class ShownCredential(Shown):
    """What the caller identified by: a token by its id, or a JWT by its jti."""

    id: UUID | None
    jwt_id: str | None
    scopes: list[str] | None
    expires_at: datetime | None


class ShownMe(Shown):
    """Whom a call speaks for and what it may do."""

    user: ShownOwnUser
    account: ShownOwnAccount
    permissions: list[str]
    token: ShownCredential


_TOKENS: Final = List(queries.tokens, ShownToken, "-created_at")


async def create(call: Call) -> web.Response:
    """Make a token; it can never do more, or live longer, than what it was made with."""
    new = await call.body(NewToken)
    caller = call.caller
    user_id = new.user_id or caller.user_id
    _own_or_managing(caller, user_id, "user_id")
    scopes = _scopes(new.scopes)
    async with call.transaction() as db:
        user = await db.fetchrow(queries.user_of_account, call.account_id, user_id)
        if user is None:
            raise _no_such_user("user_id")
        scopes = _within(caller, user["role"], scopes)
        expires_at = await _end(db, caller, new.expires_at)
        token, row = await add(
            db,
            call.account_id,
            user_id,
            new.name,
            expires_at=expires_at,
            scopes=scopes,
            created_by=caller.user_id,
        )
        shown = dict(row)
        await call.record(db, "token.created", ("token", row["id"]), None, shown)
    location = {"Location": f"/api/v1/tokens/{row['id']}"}
    return answer({**shown, "token": token}, 201, location)


def _own_or_managing(caller: Caller, user_id: UUID, path: str) -> None:
    if user_id != caller.user_id and Permission.MANAGE_USERS not in caller.permissions:
        raise Problem(
            403,
            "permission_denied",
            f"Tokens of others need the permission {Permission.MANAGE_USERS} ({path}).",
        )


def _no_such_user(path: str) -> Problem:
    return invalid(Fault(path, "user_unknown", "There is no such user."))


def _scopes(given: list[str] | None) -> list[str] | None:
    known = sorted(Permission)
    faults = [
        Fault(f"scopes[{n}]", "scope_unknown", f"No such permission.{did_you_mean(s, known)}")
        for n, s in enumerate(given or ())
        if s not in known
    ]
    if faults:
        raise invalid(*faults)
    return None if given is None else sorted(set(given))


def _within(caller: Caller, role: str, scopes: list[str] | None) -> list[str] | None:
    """Hold a new token to what its maker may do; without scopes it is given the maker's own."""
    if scopes is None and caller.scopes is not None:
        scopes = sorted(permissions_of(role, caller.permissions))
        if not scopes:
            raise Problem(403, "scopes_exceed_yours", "Nothing that you may do is left for it.")
    # Scopes of a narrowed caller bind for good: a role that grows later must not widen them.
    allowed = caller.permissions if caller.scopes is None else caller.scopes
    wanted = permissions_of(role, None) if scopes is None else frozenset(scopes)
    if beyond := sorted(set(wanted) - set(allowed)):
        detail = f"You may not give what you have not: {', '.join(beyond)}."
        raise Problem(403, "scopes_exceed_yours", detail)
    return scopes


async def _end(db: Connection, caller: Caller, wanted: datetime | None) -> datetime | None:
    if wanted is not None and wanted <= await clock.current_instant(db):
        raise invalid(Fault("expires_at", "instant_has_passed", "A token must end in the future."))
    if caller.expires_at is None:
        return wanted
    if wanted is not None and wanted > caller.expires_at:
        end = caller.expires_at.astimezone(UTC).isoformat()
        detail = f"What you call with ends {end}; a token made with it cannot outlive it."
        raise Problem(403, "token_outlives_yours", detail)
    return wanted or caller.expires_at


async def list_all(call: Call) -> web.Response:
    """List one's own tokens; those of all users with the permission to manage users."""
    page = call.parameters(TokenPage)
    user_id = page.user_id
    if Permission.MANAGE_USERS not in call.caller.permissions:
        user_id = user_id or call.caller.user_id
        _own_or_managing(call.caller, user_id, "user_id")
    return answer(await _TOKENS.page(call.pool, page, call.account_id, user_id=user_id))


async def read(call: Call) -> web.Response:
    """Read a token, without what is sent as bearer."""
    return answer(dict(await _find(call, call.pool)))


async def revoke(call: Call) -> web.Response:
    """Revoke a token, from its next request on; its row stays, for the audit log."""
    async with call.transaction() as db:
        before = dict(await _find(call, db))
        row = await db.fetchrow(queries.revoke_token, call.account_id, before["id"])
        if row is not None:
            await call.record(db, "token.revoked", ("token", row["id"]), before, dict(row))
    return web.Response(status=204)


async def _find(call: Call, db: Connection | asyncpg.Pool) -> asyncpg.Record:
    manages = Permission.MANAGE_USERS in call.caller.permissions
    owner = None if manages else call.caller.user_id
    row = await db.fetchrow(queries.token, call.account_id, call.id("token_id"), owner)
    if row is None:
        raise not_found("token")
    return row


async def me(call: Call) -> web.Response:
    """Say whom the call speaks for, and what it may do."""
    row = await call.pool.fetchrow(queries.me, call.account_id, call.caller.user_id)
    assert row is not None
    caller = call.caller
    scopes = None if caller.scopes is None else sorted(caller.scopes)
    shown: dict[str, Any] = {
        "user": {name: row[name] for name in ShownOwnUser.model_fields},
        "account": {
            name: row[{"id": "account_id", "name": "account_name"}.get(name, name)]
            for name in ShownOwnAccount.model_fields
        },
        "permissions": sorted(caller.permissions),
        "token": {
            "id": caller.token_id,
            "jwt_id": caller.jwt_id,
            "scopes": scopes,
            "expires_at": caller.expires_at,
        },
    }
    return answer(shown)


_ALL: Final = "/api/v1/tokens"
_ONE: Final = f"{_ALL}/{{token_id}}"

ROUTES: Final = (
    Route(
        "POST",
        _ALL,
        create,
        Permission.READ,
        NewToken,
        answers={201: ShownNewToken},
        keeps_answer=False,
    ),
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.READ,
        parameters=TokenPage,
        answers={200: page_of(ShownToken)},
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: ShownToken}),
    Route("DELETE", _ONE, revoke, Permission.READ, answers={204: None}),
    Route("GET", "/api/v1/me", me, Permission.READ, answers={200: ShownMe}),
)
