"""create_opportunity: open an opportunity for the contact in a pipeline."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import Field

from actors.fields import Config, RequiredMergeText
from runtime.registry import ActionType


class CreateOpportunity(Config):
    """Where it begins and what it is worth.

    Without a stage it begins in the pipeline's first, without a currency it is in the account's.
    """

    pipeline_id: UUID
    stage_id: UUID | None = None
    name: RequiredMergeText
    # The column is numeric(20, 4).
    value: Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=4)] | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None


ACTION = ActionType(name="create_opportunity", family="crm", config=CreateOpportunity)
