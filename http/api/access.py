"""Who may do what: roles, their permissions, and the caller that a bearer token speaks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

import asyncpg
from aiohttp import web

from api.problems import Problem
from api.tokens import TOKEN_PATTERN, digest
from sql import load

queries = load("access")


class Permission(StrEnum):
    """What a route asks for."""

    READ = "read"
    EDIT_WORKFLOWS = "edit_workflows"
    EDIT_CONTACTS = "edit_contacts"
    RUN = "run"
    EDIT_SETTINGS = "edit_settings"
    MANAGE_USERS = "manage_users"
    MANAGE_INTEGRATIONS = "manage_integrations"
    ERASE_CONTACTS = "erase_contacts"
    READ_AUDIT = "read_audit"


PERMITS: Final[dict[Permission, str]] = {
    Permission.READ: "read definitions, CRM data, executions and one's own user",
    Permission.EDIT_WORKFLOWS: "make, change, activate, pause and delete workflows, their actions "
    "and branches, message templates and files",
    Permission.EDIT_CONTACTS: "make, change and delete contacts, their tags, tasks, notes and "
    "opportunities; import and export them",
    Permission.RUN: "enrol contacts, steer executions, send events, test code",
    Permission.EDIT_SETTINGS: "change the account, tags, campaigns, pipelines, custom fields, "
    "courses and currency rates",
    Permission.MANAGE_USERS: "make and change users, teams and everybody's tokens",
    Permission.MANAGE_INTEGRATIONS: "make, test, disable and remove integrations",
    Permission.ERASE_CONTACTS: "export and erase all that is held on a contact",
    Permission.READ_AUDIT: "read the audit log",
}
"""What each permission is for; the README's table is held to it."""

ROLES: Final[dict[str, frozenset[Permission]]] = {
    "viewer": frozenset({Permission.READ}),
    "editor": frozenset(
        {
            Permission.READ,
            Permission.EDIT_WORKFLOWS,
            Permission.EDIT_CONTACTS,
            Permission.RUN,
            Permission.EDIT_SETTINGS,
        }
    ),
    "admin": frozenset(Permission),
}

_BEARER: Final = re.compile(rf"[Bb]earer +({TOKEN_PATTERN}) *")


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a request speaks for. Every query takes `account_id` from here."""

    account_id: UUID
    user_id: UUID
    role: str


async def identify(pool: asyncpg.Pool, request: web.Request) -> Caller:
    """Find the caller of a request; a 401 Problem without a token that is valid now."""
    headers = request.headers.getall("Authorization", [])
    if not headers:
        raise _unauthorized("token_missing", "This needs an access token.", "")
    match = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
    row = match and await pool.fetchrow(queries.caller_of_token, digest(match[1]))
    if not row:
        raise _unauthorized(
            "token_invalid",
            "The access token is unknown, expired or revoked.",
            ', error="invalid_token"',
        )
    return Caller(row["account_id"], row["user_id"], row["role"])


def require(caller: Caller, permission: Permission) -> None:
    """Refuse with a 403 Problem unless the caller's role has the permission."""
    if permission not in ROLES[caller.role]:
        detail = f"The role {caller.role} lacks the permission {permission}."
        raise Problem(403, "permission_denied", detail)


def _unauthorized(code: str, detail: str, challenge: str) -> Problem:
    headers = {"WWW-Authenticate": f'Bearer realm="callboard"{challenge}'}
    return Problem(401, code, detail, headers=headers)
