"""Teams: users who are given contacts in turn."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call
from api.fields import Name, left_out
from api.lists import List, Page
from api.resources import Handlers, Resource, routes_of
from api.shown import Shown
from sql import load

queries = load("api_teams")

Members = Annotated[list[UUID], Field(max_length=1000)]


class NewTeam(Body):
    """A team to be; its name is unique in any case."""

    name: Name
    member_ids: Members = Field(default_factory=list)


class TeamChange(Body):
    """What is to be different; `member_ids` are all members, in the place of those before."""

    name: Name = left_out()
    member_ids: Members = left_out()


class TeamPage(Page):
    """Which teams to list; `user_id`: those that have this member."""

    user_id: UUID | None = None


class ShownTeam(Shown):
    """A team with its members."""

    id: UUID
    name: str
    member_ids: list[UUID]
    created_at: datetime
    updated_at: datetime


TEAMS: Final = Resource(
    "team",
    "/api/v1/teams",
    queries,
    ("name", "member_ids"),
    references={"member_ids": "user"},
    taken={"team_name_is_unique_in_account": "name"},
    referred_by="id",
)
LIST: Final = List(queries.teams, ShownTeam, "name")


async def create(call: Call) -> web.Response:
    """Make a team; a 409 Problem if the account has one of this name."""
    return await TEAMS.create(call, await call.body(NewTeam))


async def list_all(call: Call) -> web.Response:
    """List teams; sorts: name, created_at."""
    return answer(await LIST.page(call.pool, call.parameters(TeamPage), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one team."""
    return await TEAMS.read(call)


async def change(call: Call) -> web.Response:
    """Rename a team or say anew who its members are."""
    return await TEAMS.change(call, await call.body(TeamChange))


async def delete(call: Call) -> web.Response:
    """Delete a team; its members stay users."""
    return await TEAMS.delete(call)


ROUTES: Final = routes_of(
    TEAMS,
    Permission.MANAGE_USERS,
    Handlers(create, list_all, read, change, delete, NewTeam, TeamPage, TeamChange),
    ShownTeam,
)
