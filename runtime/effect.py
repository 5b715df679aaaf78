"""An effect in hand, and the results that its `send` can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from runtime.failures import Failure


@dataclass(frozen=True, slots=True)
class Effect:
    """A row of the ledger that was claimed: what is to be sent, under which key, which attempt."""

    id: UUID
    account_id: UUID
    kind: str
    attempt: int
    idempotency_key: str
    request: Mapping[str, Any]
    contact_id: UUID | None = None
    integration_id: UUID | None = None
    workflow_id: UUID | None = None
    channel: str | None = None
    address: str | None = None
    retries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """It went out; `result` (JSON) is what the other side said."""

    result: Mapping[str, Any] = field(default_factory=dict)


Result = Sent | Failure
