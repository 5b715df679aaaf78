"""Pipelines: what opportunities go through, stage by stage."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call
from api.fields import Name, left_out
from api.lists import List, Page
from api.problems import conflict
from api.resources import Handlers, Resource, Values, routes_of
from api.shown import Shown
from runtime.database import Connection
from runtime.ids import new_id
from sql import load

queries = load("api_pipelines")

MOST_STAGES: Final = 100


class NewPipeline(Body):
    """A pipeline to be, with the names of its stages in order."""

    name: Name
    stages: Annotated[list[Name], Field(max_length=MOST_STAGES)] = Field(default_factory=list)


class PipelineChange(Body):
    """What is to be different; stages have routes of their own."""

    name: Name = left_out()


class ShownStage(Shown):
    """A stage; positions count from 0."""

    id: UUID
    name: str
    position: int


class ShownPipeline(Shown):
    """A pipeline with its stages in order."""

    id: UUID
    name: str
    stages: list[ShownStage]
    created_at: datetime
    updated_at: datetime


async def _with_stages(
    _call: Call, _db: Connection, _before: Values | None, after: dict[str, Any]
) -> None:
    stages = [one if isinstance(one, dict) else new_stage(one) for one in after["stages"]]
    after["stage_ids"] = [UUID(stage["id"]) for stage in stages]
    after["stage_names"] = [stage["name"] for stage in stages]


def new_stage(name: str) -> dict[str, Any]:
    """Give a stage that a pipeline does not have yet."""
    return {"id": str(new_id()), "name": name}


async def _spare_what_holds(call: Call, db: Connection, before: dict[str, Any]) -> None:
    if await db.fetchval(queries.pipeline_holds_opportunities, call.account_id, before["id"]):
        message = "Opportunities stand in this pipeline; move or delete them first."
        raise conflict("pipeline_not_empty", message)


PIPELINES: Final = Resource(
    "pipeline",
    "/api/v1/pipelines",
    queries,
    ("name", "stage_ids", "stage_names"),
    check=_with_stages,
    spare=_spare_what_holds,
    referred_by="id",
)
LIST: Final = List(queries.pipelines, ShownPipeline, "name")


async def create(call: Call) -> web.Response:
    """Make a pipeline."""
    return await PIPELINES.create(call, await call.body(NewPipeline))


async def list_all(call: Call) -> web.Response:
    """List pipelines; sorts: name, created_at."""
    return answer(await LIST.page(call.pool, call.parameters(Page), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one pipeline with its stages."""
    return await PIPELINES.read(call)


async def change(call: Call) -> web.Response:
    """Rename a pipeline."""
    return await PIPELINES.change(call, await call.body(PipelineChange))


async def delete(call: Call) -> web.Response:
    """Delete a pipeline; a 409 Problem while opportunities, open or not, stand in it."""
    return await PIPELINES.delete(call)


ROUTES: Final = routes_of(
    PIPELINES,
    Permission.EDIT_SETTINGS,
    Handlers(create, list_all, read, change, delete, NewPipeline, Page, PipelineChange),
    ShownPipeline,
)
