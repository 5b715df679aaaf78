"""notification.in_app: the effect that shows a user of the account something in the app.

It may be repeated: a notification bears the id of its effect and is written once. Any action
makes one with `request`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import asyncpg

from runtime.effect import Effect, Result, Sent, Suppressed
from runtime.failures import Failure, Kind
from runtime.house import House
from runtime.outcomes import EffectRequest
from runtime.registry import EffectType
from sql import load

queries = load("notification_in_app")

# The server went away, or has no room: it will be back.
UNAVAILABLE: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)


def request(
    user_id: UUID,
    title: str,
    message: str,
    contact_id: UUID | None = None,
    *,
    gates_step: bool = False,
) -> EffectRequest:
    """Build the effect; by default a notice beside the step, which does not wait for it."""
    return EffectRequest(
        kind=EFFECT.kind,
        request={
            "user_id": str(user_id),
            "title": title,
            "message": message,
            "contact_id": str(contact_id) if contact_id else None,
        },
        gates_step=gates_step,
    )


@asynccontextmanager
async def tools(house: House) -> AsyncIterator[asyncpg.Pool]:
    """Share the process's connections: one is taken for each send, and no longer."""
    yield house.pool


async def send(effect: Effect, pool: asyncpg.Pool) -> Result:
    """Write the notification; none for a user who wants none, or is gone meanwhile (a refusal)."""
    contact_id = effect.request.get("contact_id")
    try:
        row = await pool.fetchrow(
            queries.deliver,
            effect.account_id,
            UUID(effect.request["user_id"]),
            effect.id,
            UUID(contact_id) if contact_id else None,
            effect.request["title"],
            effect.request["message"],
        )
    except UNAVAILABLE as error:
        code = "database_unavailable"
        return Failure(Kind.SERVICE_UNAVAILABLE, code, f"the database said {type(error).__name__}")
    if row is None:
        return Failure(Kind.REFUSED, "user_not_found", "the account has no such user any more")
    if row["id"] is None:
        return Suppressed("muted")
    return Sent({"notification_id": str(row["id"])})


EFFECT = EffectType(
    kind="notification.in_app",
    family="notification",
    send=send,
    on_unknown="repeat",
    open=tools,
    timeout_seconds=10.0,
)
