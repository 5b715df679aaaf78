"""course.expiry: the timer that ends an access whose time is over."""

from __future__ import annotations

from collections.abc import Sequence

from actors.course_grants import emit, hold, queries
from runtime.registry import TimerType
from runtime.stage import Stage
from runtime.timers import Timer


async def fire(stage: Stage, timers: Sequence[Timer]) -> None:
    """End what has come to its end; progress stays."""
    rows = await stage.db.fetch(queries.expire, await hold(stage, timers), stage.now)
    for row in rows:
        payload = {"grant_id": str(row["id"]), "expires_at": row["expires_at"].isoformat()}
        emit(stage, "access_expired", row, payload)


TIMER = TimerType("course.expiry", fire)
