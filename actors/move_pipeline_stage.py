"""move_pipeline_stage: move an opportunity of the contact to a stage of a pipeline.

Which one: `latest` (default) and `first` take the newest and the oldest open opportunity of the
contact, among those in the target pipeline if it has any there, else among all of them; won and
lost ones are history and stay. `specific` takes the given one, open or not.

A contact without such an opportunity is skipped with the reason `no_opportunity`: most contacts of
a workflow may well have none, and that must not end their runs. One that stands in the stage
already is completed with `moved` false, without event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import asyncpg
from pydantic import model_validator

from actors.fields import Config, incomplete
from actors.references import MergeId, id_of
from actors.rendered import UnusableError, each
from runtime.outcomes import Done, Failed, Outcome, Skipped
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("move_pipeline_stage")


class MovePipelineStage(Config):
    """The target stage and which opportunity to move; opportunity_id counts for `specific` only."""

    pipeline_id: UUID
    stage_id: UUID
    opportunity_selector: Literal["first", "latest", "specific"] = "latest"
    opportunity_id: MergeId | None = None

    @model_validator(mode="after")
    def _specific_says_which(self) -> MovePipelineStage:
        if self.opportunity_selector == "specific" and self.opportunity_id is None:
            raise incomplete("opportunity_id", "a specific opportunity is named by its id")
        return self


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Choose opportunities in one statement, move them and write the history in another."""
    chosen = await _choose(stage, each(items, _opportunity_id), items)
    movable = [
        (item.account_id, row["opportunity_id"], *_target(item), item.step_id)
        for item, row in zip(items, chosen, strict=True)
        if not isinstance(row, Failed | Skipped)
    ]
    moved = {}
    if movable:
        rows = await stage.db.fetch(queries.move, *zip(*movable, strict=True), stage.now)
        moved = {row["id"]: row for row in rows}
    return [
        row
        if isinstance(row, Failed | Skipped)
        else _finish(stage, item, row["opportunity_id"], moved)
        for item, row in zip(items, chosen, strict=True)
    ]


def _target(item: Item) -> tuple[UUID, UUID]:
    return item.values["pipeline_id"], item.values["stage_id"]


def _opportunity_id(item: Item) -> UUID | None:
    is_specific = item.values["opportunity_selector"] == "specific"
    return id_of(item.values["opportunity_id"], "opportunity_id") if is_specific else None


async def _choose(
    stage: Stage, wanted: Sequence[UUID | Failed | None], items: Sequence[Item]
) -> list[asyncpg.Record | Failed | Skipped]:
    rows = await stage.db.fetch(
        queries.choose_opportunities,
        [item.account_id for item in items],
        [item.contact_id for item in items],
        [item.values["pipeline_id"] for item in items],
        [item.values["stage_id"] for item in items],
        [item.values["opportunity_selector"] for item in items],
        [None if isinstance(one, Failed) else one for one in wanted],
    )
    return [
        one if isinstance(one, Failed) else _chosen(row, one)
        for row, one in zip(rows, wanted, strict=True)
    ]


def _chosen(row: asyncpg.Record, wanted: UUID | None) -> asyncpg.Record | Failed | Skipped:
    if not row["pipeline_exists"]:
        return UnusableError("pipeline_not_found", "there is no such pipeline").outcome
    if not row["stage_exists"]:
        return UnusableError("stage_not_found", "the pipeline has no such stage").outcome
    if row["opportunity_id"] is not None:
        return row
    if wanted is not None:
        message = "the contact has no opportunity of the given opportunity_id"
        return UnusableError("opportunity_not_found", message).outcome
    return Skipped("no_opportunity")


def _finish(
    stage: Stage, item: Item, opportunity_id: UUID, moved: Mapping[UUID, asyncpg.Record]
) -> Done:
    pipeline_id, stage_id = _target(item)
    move: dict[str, Any] = {"opportunity_id": str(opportunity_id)}
    row = moved.get(opportunity_id)
    if row is not None:
        move |= {name: str(row[name]) for name in ("from_pipeline_id", "from_stage_id")}
    move |= {"to_pipeline_id": str(pipeline_id), "to_stage_id": str(stage_id)}
    if row is not None:
        stage.emit(item, "stage_changed", move)
    return Done({**move, "moved": row is not None})


ACTION = ActionType(
    name="move_pipeline_stage",
    family="crm",
    config=MovePipelineStage,
    perform=perform,
    gives={
        "opportunity_id": "the opportunity",
        "from_pipeline_id": "whence",
        "from_stage_id": "whence",
        "to_pipeline_id": "whither",
        "to_stage_id": "whither",
        "moved": "false if it stood there",
    },
    emits=frozenset({"stage_changed"}),
    refers={"pipeline_id": "pipeline", "stage_id": "stage"},
)
