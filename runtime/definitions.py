"""Compiled workflow versions: configs validated, templates compiled, lanes known.

A version is immutable, so that a worker keeps it compiled in a bounded cache and the hot path
reads no definition from the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel

from runtime.registry import ActionType
from runtime.stage import Account
from runtime.templates import Value


@dataclass(frozen=True, slots=True)
class CompiledAction:
    """One action of a version: its type, its config and where the execution goes from it."""

    id: UUID
    type: ActionType
    config: BaseModel
    values: Value
    key: str
    position: int
    branch_id: UUID | None
    next_id: UUID | None
    is_enabled: bool
    on_failure: str
    fallback_id: UUID | None
    lane_id: int


@dataclass(frozen=True, slots=True)
class CompiledVersion:
    """A version as the engine runs it; `heads` are the first actions of the trunk and branches."""

    id: UUID
    account: Account
    workflow_id: UUID
    workflow_name: str
    actions: Mapping[UUID, CompiledAction]
    heads: Mapping[UUID | None, UUID]
