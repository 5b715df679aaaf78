"""remove_from_campaign: end the contact's enrolments in a campaign and cancel what is pending.

A step that runs in the campaign it removes its contact from ends its own execution instead of
cancelling it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final
from uuid import UUID

from actors.fields import Config, MergeText
from actors.literals import literal
from actors.rendered import each, text_of
from runtime import executions
from runtime.failures import Failure, Kind
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("campaigns")

LONGEST_REASON: Final = 500
REMOVED: Final = "removed_from_campaign"

CAMPAIGN_NOT_FOUND: Final = Failed(
    Failure(Kind.INVALID_CONFIG, "campaign_not_found", "the account has no campaign of this id")
)


def _reason_of(text: str) -> str | None:
    return text_of(text, "reason", LONGEST_REASON)


class RemoveFromCampaign(Config):
    """The campaign, and why the contact leaves it."""

    campaign_id: UUID
    reason: Annotated[MergeText, literal(_reason_of)] = ""


@dataclass(slots=True)
class _Leaving:
    item: Item
    reason: str | None
    execution_ids: list[UUID | None] = field(default_factory=list)
    """Of the enrolments that were ended; None: an old one whose execution is gone already."""


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Remove set-based; a contact that is not in the campaign goes on, without an event."""
    reasons = each(items, _reason)
    known = await _known(stage, items)
    able = {
        item.contact_id: _Leaving(item, reason)
        for item, reason in zip(items, reasons, strict=True)
        if not isinstance(reason, Failed) and _key(item) in known
    }
    if able:
        await _end_enrollments(stage, able)
        await _cancel(stage, able.values())
    return [
        reason
        if isinstance(reason, Failed)
        else _outcome(stage, able[item.contact_id])
        if item.contact_id in able
        else CAMPAIGN_NOT_FOUND
        for item, reason in zip(items, reasons, strict=True)
    ]


async def _known(stage: Stage, items: Sequence[Item]) -> set[tuple[UUID, UUID]]:
    wanted = {_key(item) for item in items}
    rows = await stage.db.fetch(queries.known_campaigns, *zip(*wanted, strict=True))
    return {(row["account_id"], row["id"]) for row in rows}


async def _end_enrollments(stage: Stage, able: Mapping[UUID, _Leaving]) -> None:
    """End the active enrolments and note, per contact, which executions they had."""
    found = await stage.db.fetch(
        queries.find_active_enrollments,
        *zip(*(_key(leaving.item) for leaving in able.values()), strict=True),
        list(able),
    )
    for row in found:
        able[row["contact_id"]].execution_ids.append(row["execution_id"])
    if found:
        ids = [row["id"] for row in found]
        reasons = [able[row["contact_id"]].reason for row in found]
        await stage.db.execute(queries.remove_enrollments, ids, reasons, stage.now)


async def _cancel(stage: Stage, all_leaving: Collection[_Leaving]) -> None:
    by_account: dict[UUID, list[UUID]] = defaultdict(list)
    for leaving in all_leaving:
        own = leaving.item.execution_id
        by_account[leaving.item.account_id] += [
            i for i in leaving.execution_ids if i is not None and i != own
        ]
    for account_id, execution_ids in sorted(by_account.items()):
        if execution_ids:
            # The contacts are locked by this batch already. The people's reason stands, step by
            # step, in the enrolments; here is one for all, so that this is one call per account.
            ended = await executions.cancel(stage.db, stage.now, account_id, execution_ids, REMOVED)
            stage.cancelled.update(ended)


def _outcome(stage: Stage, leaving: _Leaving) -> Done:
    item = leaving.item
    told = {"campaign_id": str(_key(item)[1]), "reason": leaving.reason}
    if not leaving.execution_ids:
        return Done({**told, "removed": False})
    stage.emit(item, "campaign_removed", told)
    is_own = item.execution_id in leaving.execution_ids
    return Done({**told, "removed": True}, ends=REMOVED if is_own else None)


def _reason(item: Item) -> str | None:
    return _reason_of(item.values["reason"])


def _key(item: Item) -> tuple[UUID, UUID]:
    assert isinstance(item.config, RemoveFromCampaign)
    return item.account_id, item.config.campaign_id


ACTION = ActionType(
    name="remove_from_campaign",
    family="crm",
    config=RemoveFromCampaign,
    perform=perform,
    gives={"campaign_id": "the campaign", "reason": "why", "removed": "false if it was not in it"},
    emits=frozenset({"campaign_removed"}),
    refers={"campaign_id": "campaign"},
)
