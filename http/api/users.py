"""Users: the people of an account, and the service users that tokens of programs speak for."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from actors.contact_addresses import normalize_email
from actors.integration_kinds import normalize_address
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call
from api.fields import checked, left_out
from api.lists import List, Page
from api.problems import conflict
from api.resources import Handlers, Resource, Values, routes_of
from api.shown import Shown
from runtime.database import Connection
from sql import load

queries = load("api_users")

Role = Literal["viewer", "editor", "admin"]
Address = Annotated[str, Field(max_length=250), checked(normalize_email)]
PersonName = Annotated[str, Field(max_length=200)]
Phone = Annotated[str, Field(max_length=40), checked(partial(normalize_address, "twilio"))]


class NewUser(Body):
    """A user to be; the e-mail address is unique in the account.

    `phone`, in E.164 form, is where make_call reaches the user.
    """

    email: Address
    name: PersonName = ""
    role: Role = "editor"
    is_available: bool = True
    phone: Phone | None = None


class UserChange(Body):
    """What is to be different.

    Who is not available, or not active, is given no contacts in turn; who is not active may do
    nothing, whatever tokens they have, and what they own stays theirs.
    """

    email: Address = left_out()
    name: PersonName = left_out()
    role: Role = left_out()
    is_available: bool = left_out()
    is_active: bool = left_out()
    phone: Phone | None = left_out()


class UserPage(Page):
    """Which users to list."""

    email: Annotated[str, Field(max_length=250)] | None = None
    role: Role | None = None
    is_available: bool | None = None
    is_service: bool | None = None
    is_active: bool | None = None


class ShownUser(Shown):
    """A user; a service user is no person, and is given no contacts."""

    id: UUID
    email: str
    name: str
    phone: str | None
    role: Role
    is_available: bool
    is_service: bool
    is_active: bool
    created_at: datetime
    updated_at: datetime


async def _keep_an_admin(
    call: Call, db: Connection, before: Values | None, after: dict[str, Any]
) -> None:
    after["is_available"] = after["is_available"] and after["is_active"]
    if before and _is_admin(before) and not _is_admin(after):
        await _refuse_the_last(call, db)


async def _spare_an_admin(call: Call, db: Connection, before: dict[str, Any]) -> None:
    if _is_admin(before):
        await _refuse_the_last(call, db)


def _is_admin(user: Values) -> bool:
    return bool(user["role"] == "admin" and user["is_active"])


async def _refuse_the_last(call: Call, db: Connection) -> None:
    if len(await db.fetch(queries.lock_admins, call.account_id)) < 2:
        raise conflict("last_admin", "This is the account's last active admin.")


USERS: Final = Resource(
    "user",
    "/api/v1/users",
    queries,
    ("email", "name", "role", "is_available", "is_active", "phone"),
    taken={"user_email_is_unique_in_account": "email"},
    lock_first=queries.lock_admins,
    check=_keep_an_admin,
    spare=_spare_an_admin,
    referred_by="id",
)
LIST: Final = List(queries.users, ShownUser, "email")


async def create(call: Call) -> web.Response:
    """Make a user; a 409 Problem if the account has one of this e-mail address."""
    return await USERS.create(call, await call.body(NewUser), is_active=True)


async def list_all(call: Call) -> web.Response:
    """List users; sorts: email, name, created_at."""
    return answer(await LIST.page(call.pool, call.parameters(UserPage), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one user."""
    return await USERS.read(call)


async def change(call: Call) -> web.Response:
    """Change a user; the last active admin can be neither demoted nor deactivated."""
    return await USERS.change(call, await call.body(UserChange))


async def delete(call: Call) -> web.Response:
    """Delete a user who owns nothing; a 409 Problem for others, who can be deactivated."""
    return await USERS.delete(call)


ROUTES: Final = routes_of(
    USERS,
    Permission.MANAGE_USERS,
    Handlers(create, list_all, read, change, delete, NewUser, UserPage, UserChange),
    ShownUser,
)
