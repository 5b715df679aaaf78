"""wait_for_event: pause the execution until its contact does something, or until a time-out.

An event that came before the wait counts, back to the start of the related action; without a
related action, back to the end of the step before the wait (the first step: the start of the
execution), so that a busy worker between the two loses no event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field, model_validator

from actors.fields import Config, incomplete
from actors.instants import LONGEST_WAIT, too_long
from runtime.outcomes import Done, Outcome, Wait
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

queries = load("wait_for_event")

LONGEST_HOURS: Final = int(LONGEST_WAIT / timedelta(hours=1))
HOURS: Final = {"hours": 1, "days": 24}


class WaitForEvent(Config):
    """The event to wait for, and what follows when it has not come in time.

    Without `timeout_duration` the wait has no end of its own. `timeout_branch_id` is the branch
    that the time-out enters with timeout_action = branch.
    """

    event_type: Literal["email_open", "email_click", "sms_reply", "messenger_reply", "form_submit"]
    related_action_id: UUID | None = None
    timeout_duration: Annotated[int, Field(ge=1)] | None = None
    timeout_unit: Literal["hours", "days"] | None = None
    timeout_action: Literal["continue", "branch", "end"] = "continue"
    timeout_branch_id: UUID | None = None

    @model_validator(mode="after")
    def _timeout_is_whole(self) -> WaitForEvent:
        if self.timeout_action == "branch" and self.timeout_branch_id is None:
            raise incomplete("timeout_branch_id", "the branch that the time-out enters is needed")
        if self.timeout_action != "continue" and self.timeout_duration is None:
            raise incomplete(
                "timeout_duration", "a wait that never times out has no timeout_action"
            )
        if self.timeout_duration is not None and self.timeout_unit is None:
            raise incomplete("timeout_unit", "the time-out is given in hours or days")
        if self._timeout_hours > LONGEST_HOURS:
            raise too_long("timeout_duration")
        return self

    @property
    def timeout(self) -> timedelta | None:
        """The time-out as elapsed time; None: no time-out."""
        return timedelta(hours=self._timeout_hours) if self._timeout_hours else None

    @property
    def _timeout_hours(self) -> int:
        return (self.timeout_duration or 0) * HOURS.get(self.timeout_unit or "", 0)


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Wait from now on, with a look back; one statement for any number of items."""
    rows = await stage.db.fetch(
        queries.find_earlier_steps,
        [item.step_id for item in items],
        [item.execution_id for item in items],
        [_config(item).related_action_id for item in items],
    )
    earlier = {row["step_id"]: dict(row) for row in rows}
    return [_wait(item, stage.now, earlier.get(item.step_id, {})) for item in items]


def _wait(item: Item, now: datetime, earlier: Mapping[str, Any]) -> Wait:
    config = _config(item)
    return Wait(
        event_type=config.event_type,
        since=_since(item, now, earlier),
        until=now + config.timeout if config.timeout else None,
        action_id=config.related_action_id,
    )


def _since(item: Item, now: datetime, earlier: Mapping[str, Any]) -> datetime:
    related: datetime | None = earlier.get("related_started_at")
    if related is not None:
        return related
    if item.status is None:
        # Fused behind a step of this very batch, which ended now and has no row to be found.
        return now
    previous: datetime | None = earlier.get("previous_ended_at")
    return previous or item.execution_started_at or now


async def resume(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Go on with the event, or as the time-out says."""
    return [_resumed(item) for item in items]


def _resumed(item: Item) -> Done:
    config = _config(item)
    if item.event is not None:
        return Done({"timed_out": False, "event": _told(item.event)})
    result = {"timed_out": True, "event": None}
    match config.timeout_action:
        case "branch":
            return Done(result, branch_id=config.timeout_branch_id)
        case "end":
            return Done(result, ends="wait_timeout")
    return Done(result)


def _told(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": event["id"],
        "event_type": event["event_type"],
        "occurred_at": event["occurred_at"].isoformat(),
        "payload": event["payload"],
    }


def _config(item: Item) -> WaitForEvent:
    assert isinstance(item.config, WaitForEvent)
    return item.config


ACTION = ActionType(
    name="wait_for_event",
    family="timing",
    config=WaitForEvent,
    perform=perform,
    resume=resume,
    gives={
        "timed_out": "whether the time-out came first",
        "event": "what came: id, event_type, occurred_at, payload",
    },
)
