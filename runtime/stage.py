"""What a performance is given: the items of one batch and the stage they are performed on.

Everything that a performance does inside the house goes through the stage's transaction, so
that it is committed together with the record of the step, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from runtime.database import Connection
from runtime.outcomes import EffectRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from runtime.definitions import CompiledAction, CompiledVersion
    from runtime.states import Status

Contact = dict[str, Any]
"""A contact's columns by name (id, account_id, first_name, last_name, email, email_normalized,
phone, phone_normalized, time_zone, owner_id, custom_fields, created_at, updated_at), locked for
this batch. One dict per contact and batch: who changes the row changes the dict as well, so
that fused steps see it. It is also the `contact` of templates."""


@dataclass(frozen=True, slots=True)
class Account:
    """What actions need to know of an account."""

    id: UUID
    name: str
    time_zone: str
    currency: str
    country: str
    is_test: bool


@dataclass(slots=True, eq=False)
class Item:
    """One step in hand.

    `values` is the action's config with every merge field rendered (types other than text as
    the config model has them); `config` is the model itself. `data` is what an earlier Sleep,
    Wait or Dispatch kept. `event` is the domain event that ended a Wait (a row as dict).
    `effects` are the ledger's rows when settling. `results` are earlier steps' results by key.
    """

    step_id: UUID
    execution_id: UUID
    version: CompiledVersion
    action: CompiledAction
    contact: Contact
    sequence: int
    phase: str
    context: Mapping[str, Any]
    results: dict[str, Any]
    priority: int = 0
    event_depth: int = 0
    attempt: int = 0
    retry_count: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    event: Mapping[str, Any] | None = None
    effects: Sequence[Mapping[str, Any]] = ()
    event_id: int | None = None
    error_code: str | None = None
    return_action_id: UUID | None = None
    execution_started_at: datetime | None = None
    begun_at: datetime | None = None
    """When its performance began in this batch; None: not yet."""
    status: Status | None = "pending"
    """The status that its row stands in; None for a fused step, which has no row yet."""
    account_id: UUID = field(init=False)
    contact_id: UUID = field(init=False)

    def __post_init__(self) -> None:
        """Keep at hand what performances ask for again and again."""
        self.account_id = self.version.account.id
        self.contact_id = self.contact["id"]

    @property
    def account(self) -> Account:
        """The account that this step belongs to."""
        return self.version.account

    @property
    def workflow_id(self) -> UUID:
        """The workflow whose version this step runs."""
        return self.version.workflow_id

    @property
    def config(self) -> BaseModel:
        """The validated config; merge fields in it are not rendered (see `values`)."""
        return self.action.config


@dataclass(frozen=True, slots=True)
class Event:
    """A domain event that a performance emitted; written with the batch's commit."""

    account_id: UUID
    event_type: str
    contact_id: UUID | None
    payload: Mapping[str, Any]
    action_id: UUID | None
    execution_id: UUID | None
    event_depth: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One changed field of a contact, for the field-change log."""

    account_id: UUID
    contact_id: UUID
    field: str
    old: Any
    new: Any
    step_id: UUID | None


Outside = Callable[..., Awaitable[list[asyncpg.Record]]]
ActiveVersion = Callable[[UUID, UUID], Awaitable["CompiledVersion | None"]]


@dataclass(slots=True, eq=False)
class Stage:
    """The transaction of one batch and what is to be written with its commit.

    `db` is the connection inside the transaction; `now` is the clock's instant at the batch's
    begin. `outside(sql, *args)` runs one statement on another connection, committed at once:
    for get-or-create rows that many contacts share (tags), whose creation must not hold a lock
    until the batch ends; give it rows in a fixed order.
    """

    db: Connection
    now: datetime
    outside: Outside
    find_active_version: ActiveVersion
    events: list[Event] = field(default_factory=list)
    changes: list[FieldChange] = field(default_factory=list)
    notices: list[tuple[Item, EffectRequest]] = field(default_factory=list)
    max_event_depth: int = 8
    """Chains of events and campaigns deeper than this begin nothing more (the loop guard)."""
    cancelled: set[UUID] = field(default_factory=set)
    """Executions that this batch itself has cancelled: what it has of theirs is skipped."""
    ready: set[str] = field(default_factory=set)
    """Families that have new ready work beyond the batch's own steps; rung after the commit."""
    _began: float = field(default_factory=time.monotonic)

    at: datetime = field(init=False)
    """When what is being performed began; events are stamped with it."""

    def __post_init__(self) -> None:
        """Begin at `now`."""
        self.at = self.now

    def instant(self) -> datetime:
        """Give the clock's instant at this moment; `now` is the one at which the batch began."""
        return self.now + timedelta(seconds=time.monotonic() - self._began)

    async def active_version(self, account_id: UUID, workflow_id: UUID) -> CompiledVersion | None:
        """Give the version that new runs of a workflow take; None unless the workflow is active."""
        return await self.find_active_version(account_id, workflow_id)

    def emit(
        self,
        item: Item,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        contact_id: UUID | None = None,
    ) -> None:
        """Emit a domain event of the item's contact (or of another, such as one just created)."""
        self.events.append(
            Event(
                account_id=item.account_id,
                event_type=event_type,
                contact_id=contact_id or item.contact_id,
                payload=payload,
                action_id=item.action.id,
                execution_id=item.execution_id,
                event_depth=item.event_depth + 1,
                occurred_at=self.at,
            )
        )

    @contextmanager
    def dropping_what_failed(self) -> Iterator[None]:
        """Drop what the block gathered (events, changes, notices) if it raises."""
        events, changes, notices = len(self.events), len(self.changes), len(self.notices)
        cancelled, ready = set(self.cancelled), set(self.ready)
        try:
            yield
        except Exception:
            del self.events[events:], self.changes[changes:], self.notices[notices:]
            self.cancelled, self.ready = cancelled, ready
            raise

    def record_change(
        self, item: Item, name: str, old: Any, new: Any, *, contact_id: UUID | None = None
    ) -> None:
        """Log that a field of the contact (or of another) went from `old` to `new` (JSON)."""
        self.changes.append(
            FieldChange(
                item.account_id, contact_id or item.contact_id, name, old, new, item.step_id
            )
        )

    def notify(self, item: Item, effect: EffectRequest) -> None:
        """Write an effect that the step does not wait for, such as an assignment notice."""
        self.notices.append((item, effect))
