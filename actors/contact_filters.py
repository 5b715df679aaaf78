"""Filters of contacts, as parameters of operations: which of an account's contacts are meant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict


class ContactFilter(BaseModel):
    """Conditions that all hold of a contact; none: every contact."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    owner_id: UUID | None = None
    created_since: AwareDatetime | None = None
    created_before: AwareDatetime | None = None
    has_email: bool | None = None
    has_phone: bool | None = None

    def arguments(self) -> tuple[UUID | datetime | bool | None, ...]:
        """Give the filter as the queries take it."""
        return (
            self.owner_id,
            self.created_since,
            self.created_before,
            self.has_email,
            self.has_phone,
        )


def filter_of(parameters: Mapping[str, Any]) -> ContactFilter:
    """Read the filter out of an operation's parameters."""
    return ContactFilter.model_validate(parameters.get("filter") or {}, strict=False)
