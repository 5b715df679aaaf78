"""Who may do what: roles, their permissions, and what scopes leave of them to a caller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from api.problems import Problem


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


@dataclass(frozen=True, slots=True)
class Caller:
    """The user that a request speaks for. Every query takes `account_id` from here."""

    account_id: UUID
    user_id: UUID
    role: str
    permissions: frozenset[Permission]
    """What the role has and the scopes of the token or JWT leave of it."""
    scopes: frozenset[Permission] | None = None
    token_id: UUID | None = None
    jwt_id: str | None = None
    expires_at: datetime | None = None
    """When the token or JWT ends; None: never."""

    @property
    def credential(self) -> str:
        """Names what the caller identified by: a token, or for a JWT the user."""
        return f"token {self.token_id}" if self.token_id else f"user {self.user_id}"


def permissions_of(role: str, scopes: Iterable[str] | None) -> frozenset[Permission]:
    """What a role has and scopes leave of it (None: all); unknown scopes give nothing."""
    has = ROLES[role]
    if scopes is None:
        return has
    given = set(scopes)
    return frozenset(permission for permission in has if permission in given)


def require(caller: Caller, permission: Permission) -> None:
    """Refuse with a 403 Problem unless the caller has the permission."""
    if permission in caller.permissions:
        return
    if permission in ROLES[caller.role]:
        detail = f"The token's scopes leave out the permission {permission}."
        challenge = f'Bearer realm="callboard", error="insufficient_scope", scope="{permission}"'
        raise Problem(403, "scope_missing", detail, headers={"WWW-Authenticate": challenge})
    detail = f"The role {caller.role} lacks the permission {permission}."
    raise Problem(403, "permission_denied", detail)
