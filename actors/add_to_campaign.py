"""add_to_campaign: enrol the contact in a campaign, whose steps are a workflow of this engine.

A campaign that is not active, or whose workflow is not, skips the step (campaign_not_active,
campaign_workflow_not_active), and so do a contact that is in already (already_enrolled) and a
campaign without places (campaign_full). The limit counts who is in and who went through to the
end; who was removed has left a place free, and who is not let in takes none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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
    """What the enrolments in a campaign that one call can make have in common."""

    step_id: UUID | None
    may_repeat: bool
    event_depth: int
    priority: int


@dataclass(slots=True)
class _Campaign:
    row: Mapping[str, Any]
    version: CompiledVersion | None
    places: int | None

    def seat(self) -> bool:
        """Take one of the places, if there is any left."""
        if self.places is None:
            return True
        if self.places <= 0:
            return False
        self.places -= 1
        return True

    def give_back(self, places: int) -> None:
        """Let others have places that were taken and not used."""
        if self.places is not None:
            self.places += places


_Key = tuple[UUID, UUID]
"""An account and a campaign."""

_Waiting = tuple[Item, _Start]


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Enrol set-based: the number of statements grows with campaigns and starts, not with items."""
    wanted = list(zip(*{_key(item) for item in items}, strict=True))
    # In a statement of its own: the next one sees what the holders of the locks committed.
    await stage.db.execute(queries.lock_limited_campaigns, *wanted)
    campaigns = {
        (row["account_id"], row["id"]): await _campaign(stage, row)
        for row in await stage.db.fetch(queries.find_campaigns, *wanted)
    }
    enrolled = await _find_enrolled(stage, items)
    plans = [_plan(stage, item, campaigns.get(_key(item)), enrolled) for item in items]
    begun = await _begin(stage, items, plans, campaigns)
    enrollments = await _write_down(stage, items, begun)
    return [
        _outcome(stage, item, begun.get(item.contact_id), enrollments)
        if isinstance(plan, _Start)
        else plan
        for item, plan in zip(items, plans, strict=True)
    ]


async def _campaign(stage: Stage, row: asyncpg.Record) -> _Campaign:
    version = await stage.active_version(row["account_id"], row["workflow_id"])
    return _Campaign(dict(row), version, row["places"])


async def _find_enrolled(stage: Stage, items: Sequence[Item]) -> set[tuple[UUID, UUID]]:
    wanted = ((*_key(item), item.contact_id) for item in items)
    rows = await stage.db.fetch(queries.find_enrolled, *zip(*wanted, strict=True))
    return {(row["campaign_id"], row["contact_id"]) for row in rows}


def _plan(
    stage: Stage, item: Item, campaign: _Campaign | None, enrolled: set[tuple[UUID, UUID]]
) -> _Start | Skipped | Failed:
    """Say how the contact begins if there is a place, or why not."""
    config = _config(item)
    if campaign is None:
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
    if item.event_depth + 1 > stage.max_event_depth:
        return Skipped("loop_guard")
    may_repeat = not config.skip_if_enrolled
    return _Start(step_id, may_repeat, item.event_depth + 1, item.priority)


async def _begin(
    stage: Stage,
    items: Sequence[Item],
    plans: Sequence[_Start | Skipped | Failed],
    campaigns: Mapping[_Key, _Campaign],
) -> dict[UUID, Enrolment]:
    """Begin the runs as far as there are places; gives what became of each contact that had one.

    Once, as a rule: whoever is not let in is known before, except for runs that begin elsewhere
    at this very moment. Their places go to those who found none.
    """
    waiting = [
        (item, plan) for item, plan in zip(items, plans, strict=True) if isinstance(plan, _Start)
    ]
    begun: dict[UUID, Enrolment] = {}
    while waiting:
        seated = [one for one in waiting if campaigns[_key(one[0])].seat()]
        now = await _begin_all(stage, seated, campaigns)
        begun |= now
        refused = Counter(_key(item) for item, _ in seated if not now[item.contact_id].execution_id)
        waiting = [one for one in waiting if one[0].contact_id not in now and refused[_key(one[0])]]
        for key, places in refused.items():
            campaigns[key].give_back(places)
    return begun


async def _begin_all(
    stage: Stage, seated: Sequence[_Waiting], campaigns: Mapping[_Key, _Campaign]
) -> dict[UUID, Enrolment]:
    """Begin runs, one call for all that begin alike."""
    groups: dict[tuple[_Key, _Start], list[UUID]] = defaultdict(list)
    for item, start in seated:
        groups[_key(item), start].append(item.contact_id)
    return {
        enrolment.contact_id: enrolment
        for (key, start), contact_ids in groups.items()
        for enrolment in await _enrol(stage, campaigns[key], start, contact_ids)
    }


async def _enrol(
    stage: Stage, campaign: _Campaign, start: _Start, contact_ids: Sequence[UUID]
) -> list[Enrolment]:
    assert campaign.version is not None
    entry = Entry(
        # Of a key of this call's own no contact has a live run yet.
        entry_key=f"campaign:{new_id()}" if start.may_repeat else "",
        priority=start.priority,
        context={"campaign_id": str(campaign.row["id"]), "campaign_name": campaign.row["name"]},
        event_depth=start.event_depth,
        start_action_id=start.step_id,
    )
    if family := executions.first_family(campaign.version, entry):
        stage.ready.add(family)
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
    stage: Stage, item: Item, enrolment: Enrolment | None, enrollments: Mapping[UUID, UUID]
) -> Done | Skipped:
    if enrolment is None:
        return Skipped("campaign_full")
    if enrolment.execution_id is None:
        return Skipped(enrolment.reason or "not_enrolled")
    told = {
        "campaign_id": str(_config(item).campaign_id),
        "enrollment_id": str(enrollments[item.contact_id]),
        "execution_id": str(enrolment.execution_id),
    }
    stage.emit(item, "campaign_enrolled", told)
    return Done(told)


def _key(item: Item) -> _Key:
    return item.account_id, _config(item).campaign_id


def _config(item: Item) -> AddToCampaign:
    assert isinstance(item.config, AddToCampaign)
    return item.config


ACTION = ActionType(
    name="add_to_campaign",
    family="crm",
    config=AddToCampaign,
    perform=perform,
    contended=True,
    gives={
        "campaign_id": "the campaign",
        "enrollment_id": "the enrolment",
        "execution_id": "the run that it began",
    },
    emits=frozenset({"campaign_enrolled"}),
    refers={"campaign_id": "campaign"},
)
