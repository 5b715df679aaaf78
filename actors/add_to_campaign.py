"""add_to_campaign: enrol the contact in a campaign, whose steps are a workflow of this engine.

A campaign that is not active, or whose workflow is not, skips the step (campaign_not_active,
campaign_workflow_not_active), and so do a contact that is in already (already_enrolled) and a
campaign without places (campaign_full). The limit counts who is in and who went through to the
end; who was removed has left a place free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from pydantic import model_validator

from actors.fields import Config, incomplete
from runtime import executions
from runtime.definitions import CompiledVersion
from runtime.executions import Enrolment, Entry
from runtime.failures import Failure, Kind
from runtime.ids import new_id
from runtime.outcomes import Done, Failed, Outcome, Skipped
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("campaigns")

CAMPAIGN_NOT_FOUND: Final = Failed(
    Failure(Kind.INVALID_CONFIG, "campaign_not_found", "the account has no campaign of this id")
)
STEP_NOT_FOUND: Final = Failed(
    Failure(
        Kind.INVALID_CONFIG,
        "step_not_in_campaign",
        "the campaign's workflow, as it is active now, has no action of this step_id",
    )
)


class AddToCampaign(Config):
    """The campaign and where to begin in it.

    `step_id` is an action of the campaign's workflow. `skip_if_enrolled` False begins another
    run beside the one that the contact may have.
    """

    campaign_id: UUID
    start_position: Literal["beginning", "specific_step"] = "beginning"
    step_id: UUID | None = None
    skip_if_enrolled: bool = True

    @model_validator(mode="after")
    def _names_its_step(self) -> AddToCampaign:
        if self.start_position == "specific_step" and self.step_id is None:
            raise incomplete("step_id", "the step to begin at is needed")
        return self


@dataclass(frozen=True, slots=True)
class _Start:
    """What enrolments that can be made by one call have in common."""

    campaign_id: UUID
    step_id: UUID | None
    may_repeat: bool
    event_depth: int
    priority: int


@dataclass(slots=True)
class _Campaign:
    row: Mapping[str, Any]
    version: CompiledVersion | None
    places: int | None


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Enrol set-based: the number of statements grows with campaigns and starts, not with items."""
    wanted = sorted({_config(item).campaign_id for item in items})
    # In a statement of its own: the next one sees what the holders of the locks committed.
    await stage.db.execute(queries.lock_limited_campaigns, wanted)
    campaigns = {
        row["id"]: await _campaign(stage, row)
        for row in await stage.db.fetch(queries.find_campaigns, wanted)
    }
    enrolled = await _find_enrolled(stage, items)
    plans = [_plan(item, campaigns, enrolled) for item in items]
    begun = await _begin(stage, items, plans, campaigns)
    enrollments = await _write_down(stage, items, begun)
    return [
        _outcome(stage, item, begun[item.contact_id], enrollments)
        if isinstance(plan, _Start)
        else plan
        for item, plan in zip(items, plans, strict=True)
    ]


async def _campaign(stage: Stage, row: asyncpg.Record) -> _Campaign:
    version = await stage.active_version(row["account_id"], row["workflow_id"])
    return _Campaign(dict(row), version, row["places"])


async def _find_enrolled(stage: Stage, items: Sequence[Item]) -> set[tuple[UUID, UUID]]:
    rows = await stage.db.fetch(
        queries.find_active_enrollments,
        [_config(item).campaign_id for item in items],
        [item.contact_id for item in items],
    )
    return {(row["campaign_id"], row["contact_id"]) for row in rows}


def _plan(
    item: Item, campaigns: Mapping[UUID, _Campaign], enrolled: set[tuple[UUID, UUID]]
) -> _Start | Skipped | Failed:
    """Say how the contact begins, or why not; takes one of the campaign's places."""
    config = _config(item)
    campaign = campaigns.get(config.campaign_id)
    if campaign is None or campaign.row["account_id"] != item.account_id:
        return CAMPAIGN_NOT_FOUND
    if campaign.row["status"] != "active":
        return Skipped("campaign_not_active")
    if campaign.version is None:
        return Skipped("campaign_workflow_not_active")
    step_id = config.step_id if config.start_position == "specific_step" else None
    if step_id is not None and step_id not in campaign.version.actions:
        return STEP_NOT_FOUND
    if config.skip_if_enrolled and (config.campaign_id, item.contact_id) in enrolled:
        return Skipped("already_enrolled")
    if campaign.places is not None:
        if campaign.places <= 0:
            return Skipped("campaign_full")
        campaign.places -= 1
    may_repeat = not config.skip_if_enrolled
    return _Start(config.campaign_id, step_id, may_repeat, item.event_depth + 1, item.priority)


async def _begin(
    stage: Stage,
    items: Sequence[Item],
    plans: Sequence[_Start | Skipped | Failed],
    campaigns: Mapping[UUID, _Campaign],
) -> dict[UUID, Enrolment]:
    """Begin the runs, one call for all that begin alike; gives what became of each contact."""
    groups: dict[_Start, list[Item]] = defaultdict(list)
    for item, plan in zip(items, plans, strict=True):
        if isinstance(plan, _Start):
            groups[plan].append(item)
    begun: dict[UUID, Enrolment] = {}
    for start, group in groups.items():
        for enrolment in await _enrol(stage, campaigns[start.campaign_id], start, group):
            begun[enrolment.contact_id] = enrolment
    return begun


async def _enrol(
    stage: Stage, campaign: _Campaign, start: _Start, items: Sequence[Item]
) -> list[Enrolment]:
    assert campaign.version is not None
    entry = Entry(
        # Of a key of this call's own no contact has a live run yet.
        entry_key=f"campaign:{new_id()}" if start.may_repeat else "",
        priority=start.priority,
        context={"campaign_id": str(start.campaign_id), "campaign_name": campaign.row["name"]},
        event_depth=start.event_depth,
        start_action_id=start.step_id,
    )
    if family := executions.first_family(campaign.version, entry):
        stage.ready.add(family)
    contact_ids = [item.contact_id for item in items]
    if start.event_depth > stage.max_event_depth:
        return [Enrolment(contact_id, None, "loop_guard") for contact_id in contact_ids]
    return await executions.enrol(stage.db, stage.now, campaign.version, contact_ids, entry)


async def _write_down(
    stage: Stage, items: Sequence[Item], begun: Mapping[UUID, Enrolment]
) -> dict[UUID, UUID]:
    """Write the enrolments of new runs; gives their ids by contact."""
    rows = [
        (
            new_id(),
            i.account_id,
            _config(i).campaign_id,
            i.contact_id,
            enrolment.execution_id,
            i.step_id,
        )
        for i in items
        if (enrolment := begun.get(i.contact_id)) and enrolment.execution_id
    ]
    if rows:
        await stage.db.execute(queries.add_enrollments, *zip(*rows, strict=True), stage.now)
    return {contact_id: id_ for id_, _, _, contact_id, _, _ in rows}


def _outcome(
    stage: Stage, item: Item, enrolment: Enrolment, enrollments: Mapping[UUID, UUID]
) -> Done | Skipped:
    if enrolment.execution_id is None:
        return Skipped(enrolment.reason or "not_enrolled")
    told = {
        "campaign_id": str(_config(item).campaign_id),
        "enrollment_id": str(enrollments[item.contact_id]),
        "execution_id": str(enrolment.execution_id),
    }
    stage.emit(item, "campaign_enrolled", told)
    return Done(told)


def _config(item: Item) -> AddToCampaign:
    assert isinstance(item.config, AddToCampaign)
    return item.config


ACTION = ActionType(
    name="add_to_campaign", family="crm", config=AddToCampaign, perform=perform, contended=True
)
