"""Compiled workflow versions: configs validated, templates compiled, lanes known.

A version is immutable, so that a worker keeps it compiled in a bounded cache and the hot path
reads no definition from the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
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

    field_paths: frozenset[str] = field(init=False)

    @property
    def account_fields(self) -> Mapping[str, Any]:
        """What merge fields can name of the account."""
        return {"name": self.account.name, "currency": self.account.currency}

    def __post_init__(self) -> None:
        """Gather the merge fields of all actions, with every prefix of their paths."""
        paths = {
            ".".join(parts[: n + 1])
            for action in self.actions.values()
            for parts in (name.split(".") for name in action.values.fields)
            for n in range(len(parts))
        }
        object.__setattr__(self, "field_paths", frozenset(paths))

    def uses(self, path: str) -> bool:
        """Whether any merge field of any action names this path or something below it."""
        return path in self.field_paths
