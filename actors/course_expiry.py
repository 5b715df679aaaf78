"""course.expiry: the timer that ends an access whose time is over, or whose course is gone."""

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
        if row["status"] == "expired":
            told, more = "access_expired", {"expires_at": row["expires_at"].isoformat()}
        else:
            told, more = "access_revoked", {"reason": row["reason"], "lessons_forgotten": 0}
        emit(stage, told, row, {"grant_id": str(row["id"]), **more})


TIMER = TimerType("course.expiry", fire)
