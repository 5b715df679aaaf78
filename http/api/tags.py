"""Tags: what contacts are marked with."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from actors.tags import color_of, name_of
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call
from api.fields import checked, left_out
from api.lists import List, Page
from api.resources import Handlers, Resource, routes_of
from api.shown import Shown
from sql import load

queries = load("api_tags")

TagName = Annotated[str, checked(name_of)]
Color = Annotated[str, checked(color_of)]


class NewTag(Body):
    """A tag to be; its name is unique in any case, its colour one of CSS."""

    name: TagName
    color: Color | None = None


class TagChange(Body):
    """What is to be different about a tag; actions that name it go on naming it as they did."""

    name: TagName = left_out()
    color: Color | None = None


class TagPage(Page):
    """Which tags to list; `search` is the beginning of a name."""

    search: Annotated[str, Field(max_length=100)] | None = None


class ShownTag(Shown):
    """A tag."""

    id: UUID
    name: str
    color: str | None
    created_at: datetime
    updated_at: datetime


_ALL: Final = "/api/v1/tags"

TAGS: Final = Resource(
    "tag",
    _ALL,
    queries,
    ("name", "color"),
    taken={"tag_name_is_unique_in_account": "name"},
    referred_by="name",
)
LIST: Final = List(queries.tags, ShownTag, "name")


async def create(call: Call) -> web.Response:
    """Make a tag; a 409 Problem if the account has one of this name."""
    return await TAGS.create(call, await call.body(NewTag))


async def list_all(call: Call) -> web.Response:
    """List tags; sorts: name, created_at."""
    page = call.parameters(TagPage)
    beginning = page.search and beginning_of(page.search)
    return answer(await LIST.page(call.pool, page, call.account_id, search=beginning))


def beginning_of(text: str) -> str:
    """Write the pattern of LIKE for what begins with this text."""
    escaped = text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"{escaped}%"


async def read(call: Call) -> web.Response:
    """Read one tag."""
    return await TAGS.read(call)


async def change(call: Call) -> web.Response:
    """Rename or recolour a tag."""
    return await TAGS.change(call, await call.body(TagChange))


async def delete(call: Call) -> web.Response:
    """Delete a tag; it is taken off all contacts, without an event for each."""
    return await TAGS.delete(call)


ROUTES: Final = routes_of(
    TAGS,
    Permission.EDIT_SETTINGS,
    Handlers(create, list_all, read, change, delete, NewTag, TagPage, TagChange),
    ShownTag,
)
