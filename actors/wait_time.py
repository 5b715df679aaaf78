"""wait_time: pause the execution for an exact elapsed time, whatever local clocks do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from actors.fields import Config
from actors.instants import LONGEST_WAIT, too_long
from runtime.outcomes import Done, Outcome, Sleep
from runtime.registry import ActionType
from runtime.stage import Item, Stage

LONGEST_MINUTES: Final = int(LONGEST_WAIT / timedelta(minutes=1))
MINUTES: Final = {"minutes": 1, "hours": 60, "days": 24 * 60, "weeks": 7 * 24 * 60}


class WaitTime(Config):
    """How long to wait; a day is 24 hours and a week seven of them, at most 3650 days in all."""

    duration: Annotated[int, Field(ge=1)]
    unit: Literal["minutes", "hours", "days", "weeks"]

    @model_validator(mode="after")
    def _is_not_too_long(self) -> WaitTime:
        if self.duration * MINUTES[self.unit] > LONGEST_MINUTES:
            raise too_long("duration")
        return self

    @property
    def elapsed(self) -> timedelta:
        """The wait as elapsed time."""
        return timedelta(minutes=self.duration * MINUTES[self.unit])


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Sleep from now on; the instant is kept on the step, so that the result can name it."""
    outcomes: list[Outcome] = []
    for item in items:
        assert isinstance(item.config, WaitTime)
        until = stage.now + item.config.elapsed
        outcomes.append(Sleep(until, {"until": until.isoformat()}))
    return outcomes


async def resume(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Go on."""
    return [Done({"waited_until": item.data["until"]}) for item in items]


ACTION = ActionType(
    name="wait_time",
    family="timing",
    config=WaitTime,
    perform=perform,
    resume=resume,
    gives={"waited_until": "the instant"},
)
