"""What a batch has decided and has yet to write: step records, new steps, ended executions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from runtime.failures import Failure
from runtime.outcomes import EffectRequest
from runtime.stage import Item
from runtime.states import Status

AttemptOutcome = Literal[
    "completed", "failed", "retried", "skipped", "slept", "waited", "dispatched"
]


@dataclass(slots=True, eq=False)
class Record:
    """How one item leaves the batch. `outcome` None: it was not tried, so no attempt is logged."""

    item: Item
    status: Status
    outcome: AttemptOutcome | None
    phase: str = "perform"
    result: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    skip_reason: str | None = None
    scheduled_at: datetime | None = None
    waiting_for: str | None = None
    waiting_action_id: UUID | None = None
    hold: str | None = None
    retries: int = 0
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution that has come to its end."""

    execution_id: UUID
    status: Literal["completed", "failed", "cancelled"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NewEffect:
    """An effect that a step asks for, with the id that its row will have."""

    id: UUID
    item: Item
    request: EffectRequest
