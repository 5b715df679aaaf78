"""What clients say of actions and are shown of them, at the six endpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from api.bodies import Body
from api.fields import Key, Object, Position
from api.shown import Shown
from runtime.configuration import Fault


class CanvasPosition(Body):
    """Where a front end draws the action."""

    x: float
    y: float


class Settable(Body):
    """What can be said of an action when it is made and later; null says nothing.

    `position` counts from 0 within the chain and must agree with `previous_action_id`, if both
    are given. `key` is the name under which later steps read the action's result.
    """

    action_config: Object | None = None
    position: Position | None = None
    previous_action_id: UUID | None = None
    branch_id: UUID | None = None
    is_enabled: bool | None = None
    on_failure: Literal["fail", "continue"] | None = None
    fallback_action_id: UUID | None = None
    key: Key | None = None
    canvas_position: CanvasPosition | None = None


class NewAction(Settable):
    """An action to be; its type alone is enough."""

    action_type: str


class ChangedAction(Settable):
    """What is to change; what is left out stays.

    An explicit null takes away a fallback or a place on the canvas, and as `branch_id` means the
    trunk.
    """

    action_type: str | None = None

    @property
    def says(self) -> frozenset[str]:
        """The fields that the client named, null or not."""
        return frozenset(self.model_fields_set)


class NewOrder(Body):
    """All actions of one chain (without a branch: of the trunk) in their new order."""

    action_ids: Annotated[list[UUID], Field(max_length=1000)]
    branch_id: UUID | None = None


class ShownPosition(Shown):
    """Where a front end draws the action."""

    x: float
    y: float


class ConfigurationStatus(Shown):
    """Whether a config is complete; if not, the paths of what is missing."""

    complete: bool
    missing: list[str]
    invalid: list[Fault]


class ShownAction(Shown):
    """An action of a workflow, with its place, its neighbours and what its config still lacks."""

    id: UUID
    workflow_id: UUID
    action_type: str
    action_config: Object
    position: int
    previous_action_id: UUID | None
    next_action_id: UUID | None
    branch_id: UUID | None
    is_enabled: bool
    on_failure: Literal["fail", "continue"]
    fallback_action_id: UUID | None
    key: str
    canvas_position: ShownPosition | None
    created_at: datetime
    updated_at: datetime
    configuration_status: ConfigurationStatus
