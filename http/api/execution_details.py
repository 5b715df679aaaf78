"""One execution as it is shown: with its steps and effects, and every try of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from api.bounded import bounded
from api.fields import Object
from api.problems import not_found
from api.shown import Shown
from runtime import states
from runtime.database import Connection
from sql import load

queries = load("api_executions")

MOST_EFFECTS: Final = 1_000

Status = Literal["running", "paused", "completed", "failed", "cancelled"]


class ShownExecution(Shown):
    """One contact's run through one version of a workflow."""

    id: UUID
    workflow_id: UUID
    version_id: UUID
    contact_id: UUID
    status: Status
    entry_key: str
    priority: int
    end_reason: str | None
    started_at: datetime
    completed_at: datetime | None


class ShownAttempt(Shown):
    """One try of a step."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    error_kind: str | None
    error_code: str | None
    error_message: str | None
    duration_seconds: float | None


class ShownEffectAttempt(Shown):
    """One try of an effect; a late result came when the attempt was already given up."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    is_late: bool
    error_kind: str | None
    error_code: str | None
    error_message: str | None
    result: Any


class ShownEffect(Shown):
    """One thing that left the house, or was to. Secrets are hidden and long values cut.

    `delivery_status`: the furthest that it is known to have come since, such as delivered.
    """

    id: UUID
    kind: str
    status: str
    gates_step: bool
    integration_id: UUID | None
    channel: str | None
    address: str | None
    attempt: int
    request: Any
    decision: Any
    result: Any
    error_code: str | None
    error_message: str | None
    scheduled_at: datetime | None
    created_at: datetime
    dispatched_at: datetime | None
    completed_at: datetime | None
    delivery_status: str | None
    attempts: list[ShownEffectAttempt]


class ShownStep(Shown):
    """One action of the run. A retried step stands behind the failed one, with a row of its own."""

    id: UUID
    action_id: UUID
    action_type: str | None
    key: str | None
    status: states.Status
    phase: str
    hold: str | None
    sequence: int
    started_at: datetime | None
    completed_at: datetime | None
    scheduled_at: datetime | None
    waiting_for: str | None
    retry_count: int
    skip_reason: str | None
    error_code: str | None
    error_message: str | None
    result_data: Object
    attempts: list[ShownAttempt]
    effects: list[ShownEffect]


class WholeExecution(ShownExecution):
    """A run with its steps, their attempts and their effects.

    `has_more_effects`: only the first 1,000 effects are shown.
    """

    version: int
    context: Object
    steps: list[ShownStep]
    has_more_effects: bool


async def whole(
    db: Connection | asyncpg.Pool, account_id: UUID, execution_id: UUID
) -> dict[str, Any]:
    """Read an execution with all that belongs to it, in five queries; or a 404 Problem."""
    row = await db.fetchrow(queries.execution, account_id, execution_id)
    if row is None:
        raise not_found("execution")
    steps = await db.fetch(queries.steps, account_id, execution_id)
    tries = await db.fetch(queries.attempts, account_id, [step["id"] for step in steps])
    attempts = _by(tries, "step_id")
    effects = await db.fetch(queries.effects, account_id, execution_id, MOST_EFFECTS + 1)
    by_step = _by(await _with_attempts(db, account_id, effects[:MOST_EFFECTS]), "step_id")
    return {
        **row,
        "steps": [
            {**step, "attempts": attempts[step["id"]], "effects": by_step[step["id"]]}
            for step in steps
        ],
        "has_more_effects": len(effects) > MOST_EFFECTS,
    }


async def _with_attempts(
    db: Connection | asyncpg.Pool, account_id: UUID, effects: Sequence[asyncpg.Record]
) -> list[dict[str, Any]]:
    if not effects:
        return []
    tries = await db.fetch(queries.effect_attempts, account_id, [e["id"] for e in effects])
    attempts = _by([{**t, "result": bounded(t["result"])} for t in tries], "effect_id")
    shown = []
    for effect in effects:
        values = {name: bounded(effect[name]) for name in ("request", "decision", "result")}
        shown.append({**effect, **values, "attempts": attempts[effect["id"]]})
    return shown


def _by(rows: Sequence[Any], key: str) -> defaultdict[Any, list[dict[str, Any]]]:
    """Group rows by a field, which is left out of them."""
    groups: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        rest = dict(row)
        groups[rest.pop(key)].append(rest)
    return groups
