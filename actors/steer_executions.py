"""Cancelling, pausing, resuming and retrying many executions, chosen by a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from runtime import executions, retrying
from runtime.database import Connection
from runtime.operations import ItemError, OperationType, Portion, Work
from sql import load

queries = load("steering")

PORTION: Final = 500
_FIRST: Final = UUID(int=0)

Steer = Literal["cancel", "pause", "resume", "retry"]
Status = Literal["running", "paused", "completed", "failed", "cancelled"]

FITTING: Final[Mapping[str, tuple[str, ...]]] = {
    "cancel": ("running", "paused"),
    "pause": ("running",),
    "resume": ("paused",),
    "retry": ("failed",),
}
"""The statuses that an action is for; executions of others are not meant by any filter."""


class ExecutionFilter(BaseModel):
    """Conditions that all hold of an execution; none: every execution that the action is for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    workflow_id: UUID | None = None
    contact_id: UUID | None = None
    status: Status | None = None
    version_id: UUID | None = None
    started_from: AwareDatetime | None = None
    started_before: AwareDatetime | None = None
    current_action_id: UUID | None = None
    error_code: str | None = Field(None, max_length=60)

    def arguments(self) -> tuple[UUID | datetime | str | None, ...]:
        """Give the filter as the queries take it."""
        return (
            self.workflow_id,
            self.contact_id,
            self.status,
            self.version_id,
            self.started_from,
            self.started_before,
            self.current_action_id,
            self.error_code,
        )


async def count(
    db: Connection, account_id: UUID, action: str, chosen: ExecutionFilter, until: datetime | None
) -> int:
    """Count the executions that an action would be for."""
    statuses = list(FITTING[action])
    number: int = await db.fetchval(
        queries.count_executions, account_id, *chosen.arguments(), until, statuses
    )
    return number


async def select(work: Work) -> Portion:
    """Read the next executions in the order of their ids: those that were there at the start."""
    given, state = work.operation.parameters, work.operation.state
    chosen = ExecutionFilter.model_validate(given["filter"], strict=False)
    until = work.operation.created_at
    total = None
    if not state:
        total = await count(work.db, work.account_id, given["action"], chosen, until)
    behind = UUID(state["behind"]) if state else _FIRST
    rows = await work.db.fetch(
        queries.executions,
        work.account_id,
        *chosen.arguments(),
        until,
        list(FITTING[given["action"]]),
        behind,
        PORTION,
    )
    ids = [row["id"] for row in rows]
    return Portion(ids, {"behind": str(ids[-1] if ids else behind)}, len(ids) < PORTION, total)


async def perform(work: Work, items: Sequence[UUID]) -> list[list[ItemError]]:
    """Steer the executions; who was no longer as the action needs it is told so."""
    given = work.operation.parameters
    refused = await _steer(work, given, items)
    counts = Counter(work.result.get("refused", {})) + Counter(refused.values())
    work.result["refused"] = dict(counts)
    return [[where(i, refused[i], _sentence(refused[i]))] if i in refused else [] for i in items]


async def _steer(work: Work, given: Mapping[str, Any], items: Sequence[UUID]) -> Mapping[UUID, str]:
    db, account_id = work.db, work.account_id
    match given["action"]:
        case "cancel":
            done = await executions.cancel(db, work.now, account_id, items, given["reason"])
        case "pause":
            done = await executions.pause(db, account_id, items)
        case "resume":
            done, families = await executions.resume(db, work.now, account_id, items)
            work.bells.families |= families
        case _:
            accepted = given["accept_duplicates"]
            retried = await retrying.retry(
                db, work.now, account_id, items, accept_duplicates=accepted
            )
            work.bells.families |= retried.families
            return retried.refused
    return dict.fromkeys(set(items) - set(done), "execution_has_changed")


def _sentence(code: str) -> str:
    return retrying.SENTENCES.get(code, "The execution has gone on or ended meanwhile.")


def where(item: UUID, code: str, message: str) -> ItemError:
    """Say why an execution was not steered."""
    return ItemError(code, message, item_id=item)


OPERATION: Final = OperationType("steer_executions", select, perform, where)
