"""An effect in hand, what its check can say before it goes out, and the results of its `send`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
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
    on_unknown: Literal["repeat", "fail"] | None = None
    execution_id: UUID | None = None
    step_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """It went out; `result` (JSON) is what the other side said."""

    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """It was not sent, and must not be: the other side knows of an opt-out that we did not."""

    code: str


Result = Sent | Suppressed | Failure


@dataclass(frozen=True, slots=True)
class Go:
    """It may go out now. `decision` (JSON) says what was looked at; None: nothing was."""

    decision: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PutOff:
    """It may not go out before `until`, where it is looked at again; no attempt is spent on it."""

    until: datetime
    reason: str
    decision: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Suppress:
    """It is never to go out; its step is skipped with `code` as its reason."""

    code: str
    decision: Mapping[str, Any] | None = None


Verdict = Go | PutOff | Suppress
