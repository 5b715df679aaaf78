"""course.drip: the timer that opens the lessons of a grant one after another."""

from __future__ import annotations

from collections.abc import Sequence

from actors.course_grants import emit, hold, open_and_set
from runtime.registry import TimerType
from runtime.stage import Stage
from runtime.timers import Timer


async def fire(stage: Stage, timers: Sequence[Timer]) -> None:
    """Open all lessons that are due by now, and set the timers for the next ones."""
    for row in await open_and_set(stage, await hold(stage, timers)):
        emit(stage, "lesson_opened", row, {"lesson_id": str(row["lesson_id"])})


TIMER = TimerType("course.drip", fire)
