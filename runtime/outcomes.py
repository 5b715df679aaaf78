"""What the performance of a step can end in: one word each, values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from runtime.failures import Failure

JSON = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """The step is completed; the execution goes on with the next action.

    `branch_id` enters that branch instead; `ends` ends the execution here, with the reason.
    `result` must be JSON; later steps read it as {{steps.<key>.…}}.
    """

    result: JSON = field(default_factory=dict)
    branch_id: UUID | None = None
    ends: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing was to be done, for a reason that has a stable name; the execution goes on."""

    reason: str
    result: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The step did not succeed; the engine decides on retry, fallback, going on or failing.

    `is_final`: not tried again, whatever the kind; its effects have used up their tries.
    """

    failure: Failure
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """The step waits until an instant, then its performance's `resume` is called.

    `data` is kept on the step (execution_data) and given to `resume` as `item.data`.
    """

    until: datetime
    data: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """The step waits for a domain event of its contact, at most until `until` (None: for ever).

    Events since `since` count as well: the engine looks for them under the contact's lock.
    `action_id` narrows to events of that action in this execution. `resume` is called with
    `item.event` set, or None when the time-out came first; exactly one of the two wins.
    """

    event_type: str
    since: datetime
    until: datetime | None = None
    action_id: UUID | None = None
    data: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EffectRequest:
    """One thing that is to leave the house; becomes a row of the ledger in the step's commit.

    `request` is JSON and holds all that the effect's `send` needs. `channel` and `address`
    (normalised) name who is addressed, for opt-outs. `idempotency_key` defaults to the
    effect's id. `gates_step` False: the step does not wait for it. `on_unknown`: what follows an
    unknown outcome where the action says otherwise than its kind.
    """

    kind: str
    request: JSON
    integration_id: UUID | None = None
    channel: str | None = None
    address: str | None = None
    decision: JSON | None = None
    idempotency_key: str | None = None
    gates_step: bool = True
    on_unknown: Literal["repeat", "fail"] | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The step's effects are to be dispatched; it ends when those that gate it have ended."""

    effects: Sequence[EffectRequest]
    data: JSON = field(default_factory=dict)


Outcome = Done | Skipped | Failed | Sleep | Wait | Dispatch
