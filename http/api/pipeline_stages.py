"""The stages of a pipeline: made, renamed, put in order, deleted; each answers with the pipeline.

All of it happens under the pipeline's lock, so that positions stay whole whoever does what.
"""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.bodies import Body
from api.calls import Call, Handler, Route
from api.fields import Name, Position
from api.opportunities import told_of_move
from api.parameters import Parameters
from api.pipelines import MOST_STAGES, PIPELINES, ShownPipeline, new_stage, queries
from api.problems import conflict, invalid, not_found
from api.resources import emit
from api.uses import Force, find_uses, in_use
from runtime import clock
from runtime.bells import Bells
from runtime.configuration import Fault
from runtime.database import Connection

MOST_MOVED: Final = 10_000

Pipeline = dict[str, Any]
Stage = dict[str, Any]


class NewStage(Body):
    """A stage to be; without a position it comes last."""

    name: Name
    position: Position | None = None


class StageChange(Body):
    """What is to be different about a stage."""

    name: Name


class StageOrder(Body):
    """All stages of the pipeline, in their new order."""

    stage_ids: Annotated[list[UUID], Field(max_length=MOST_STAGES)]


class StageDeletion(Force):
    """Where opportunities go that stand in the stage: to another stage of the pipeline.

    `force` deletes a stage that actions refer to; they fail from then on.
    """

    move_to: UUID | None = None


async def create(call: Call) -> web.Response:
    """Make a stage."""
    new = await call.body(NewStage)

    async def edit(_db: Connection, pipeline: Pipeline) -> Pipeline:
        stages = list(pipeline["stages"])
        if len(stages) >= MOST_STAGES:
            raise conflict("too_many_stages", f"A pipeline has {MOST_STAGES} stages at most.")
        if new.position is not None and new.position > len(stages):
            message = f"The pipeline has {len(stages)} stages."
            raise invalid(Fault("position", "position_out_of_range", message))
        stages.insert(len(stages) if new.position is None else new.position, new_stage(new.name))
        return {"stages": stages}

    return await PIPELINES.change(call, None, edit)


async def rename(call: Call) -> web.Response:
    """Rename a stage."""
    change = await call.body(StageChange)

    async def edit(_db: Connection, pipeline: Pipeline) -> Pipeline:
        wanted = _stage_of(call, pipeline)
        named = {**wanted, "name": change.name}
        return {"stages": [named if one == wanted else one for one in pipeline["stages"]]}

    return await PIPELINES.change(call, None, edit)


async def reorder(call: Call) -> web.Response:
    """Put the stages in order; a 422 Problem unless it names each of them once."""
    order = (await call.body(StageOrder)).stage_ids

    async def edit(_db: Connection, pipeline: Pipeline) -> Pipeline:
        stages = {UUID(stage["id"]): stage for stage in pipeline["stages"]}
        if sorted(order) != sorted(stages):
            message = "Name each stage of the pipeline once."
            raise invalid(Fault("stage_ids", "not_a_permutation", message))
        ordered = [stages[id_] for id_ in order]
        return {"stages": [{**one, "position": n} for n, one in enumerate(ordered)]}

    return await PIPELINES.change(call, None, edit)


async def delete(call: Call) -> web.Response:
    """Delete a stage; one that holds opportunities needs `move_to`, and each then is moved there.

    A 409 Problem otherwise, and for more than 10,000 of them.
    """
    parameters, bells = call.parameters(StageDeletion), Bells()
    move_to = parameters.move_to

    async def edit(db: Connection, pipeline: Pipeline) -> Pipeline:
        stage = _stage_of(call, pipeline)
        others = [one for one in pipeline["stages"] if one != stage]
        if move_to is not None and str(move_to) not in {one["id"] for one in others}:
            message = "There is no such other stage in this pipeline."
            raise invalid(Fault("move_to", "stage_unknown", message))
        uses = await find_uses(db, call.services.registry, call.account_id, "stage", stage["id"])
        if uses and not parameters.force:
            raise in_use("stage", uses)
        await _clear(call, db, UUID(stage["id"]), move_to, bells)
        return {"stages": others}

    response = await PIPELINES.change(call, None, edit)
    await call.ring(bells.families, events=bells.events)
    return response


async def find(call: Call) -> Stage:
    """Find the stage of the path, or raise a 404 Problem."""
    return _stage_of(call, await PIPELINES.find(call, call.pool))


def _stage_of(call: Call, pipeline: Pipeline) -> Stage:
    stage_id = str(call.id("stage_id"))
    for stage in pipeline["stages"]:
        if stage["id"] == stage_id:
            found: Stage = stage
            return found
    raise not_found("stage")


async def _clear(
    call: Call, db: Connection, stage_id: UUID, move_to: UUID | None, bells: Bells
) -> None:
    """Move what stands in a stage that goes; contacts are locked before, as batches do."""
    rows = await db.fetch(queries.opportunities_of_stage, call.account_id, stage_id, MOST_MOVED + 1)
    if not rows:
        return
    if move_to is None:
        message = "Opportunities stand in this stage; say with move_to where they go."
        raise conflict("stage_not_empty", message)
    if len(rows) > MOST_MOVED:
        raise conflict("too_many_opportunities", f"More than {MOST_MOVED:,} stand in this stage.")
    moved = await db.fetch(
        queries.move_opportunities,
        call.account_id,
        [row["id"] for row in rows],
        stage_id,
        move_to,
        call.caller.user_id,
        await clock.current_instant(db),
    )
    events = [
        (row["contact_id"], "stage_changed", told_of_move({**row, "stage_id": stage_id}, after))
        for row in moved
        for after in [{**row, "stage_id": move_to}]
    ]
    await emit(db, bells, call.account_id, events)


_ALL: Final = "/api/v1/pipelines/{pipeline_id}/stages"


def _route(
    method: str,
    path: str,
    handler: Handler,
    body: type[Body] | None,
    parameters: type[Parameters] | None = None,
) -> Route:
    answers, refused = {200: ShownPipeline}, frozenset({409, 422})
    edit = Permission.EDIT_SETTINGS
    return Route(method, f"{_ALL}{path}", handler, edit, body, parameters, answers, refused)


ROUTES: Final = (
    _route("POST", "", create, NewStage),
    _route("POST", "/reorder", reorder, StageOrder),
    _route("PATCH", "/{stage_id}", rename, StageChange),
    _route("DELETE", "/{stage_id}", delete, None, StageDeletion),
)
