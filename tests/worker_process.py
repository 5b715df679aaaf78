"""A worker process whose actions and effects the process tests know, killable at known points.

Action types of the house under legal names, so that their workflows can be activated. How the
process behaves stands in its environment (see `tests/processes.py`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp
from pydantic import BaseModel

import actors
from runtime import worker
from runtime.effect import Effect, Result, Sent
from runtime.outcomes import Dispatch, Done, EffectRequest, Outcome, Sleep
from runtime.registry import ActionType, EffectType, Registry
from runtime.settings import load_settings
from runtime.stage import Item, Stage

COUNT: Final = "create_opportunity"
NAP: Final = "wait_time"
CALL: Final = "webhook_call"
TEXT: Final = "send_sms"

INSIDE: Final = "inside_a_batch"
"""The channel on which a process says that it stands in the middle of a batch."""


GATE: Final = 4711
"""The advisory lock that a process waits for inside a batch, if it is told to."""


class NoConfig(BaseModel):
    """No settings."""


class Nap(BaseModel):
    """How long to sleep."""

    seconds: float


async def count(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Count the contacts' visits; what an action did twice would be counted twice."""
    await _misbehave(stage, items)
    await stage.db.execute(
        "UPDATE contacts SET custom_fields = jsonb_set(custom_fields, '{visits}',"
        " to_jsonb(coalesce((custom_fields ->> 'visits')::int, 0) + 1)) WHERE id = ANY ($1)",
        [item.contact_id for item in items],
    )
    for item in items:
        stage.emit(item, "visited", {})
    return [Done() for _ in items]


async def _misbehave(stage: Stage, items: Sequence[Item]) -> None:
    if any(item.contact["first_name"] == "Poison" for item in items):
        os.kill(os.getpid(), signal.SIGKILL)
    script = os.environ.pop("TEST_INSIDE_A_BATCH", None)  # once
    if script is None:
        return
    await stage.outside(f"SELECT pg_notify('{INSIDE}', '{os.getpid()}')")
    if script == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif script == "wait":
        await stage.outside(f"SELECT pg_advisory_xact_lock_shared({GATE})")
    else:
        await asyncio.Event().wait()


async def nap(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Sleep for real seconds, through the wake queue."""
    outcomes = []
    for item in items:
        assert isinstance(item.config, Nap)
        until = stage.now + timedelta(seconds=item.config.seconds)
        outcomes.append(Sleep(until, {"until": until.isoformat()}))
    return outcomes


async def get_up(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Say how long after its instant the nap ended."""
    return [
        Done({"late": (stage.now - datetime.fromisoformat(item.data["until"])).total_seconds()})
        for item in items
    ]


def dispatching(kind: str) -> Callable[[Stage, Sequence[Item]], Awaitable[Sequence[Outcome]]]:
    """Give a performance whose step is one effect to the contact's e-mail address."""

    async def dispatch(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        return [
            Dispatch([EffectRequest(kind, {}, channel="email", address=item.contact["email"])])
            for item in items
        ]

    return dispatch


@asynccontextmanager
async def session(_pool: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for all calls of a pool."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as opened:
        yield opened


async def call(effect: Effect, opened: aiohttp.ClientSession) -> Result:
    """Call the counterpart under the effect's key; it answers when the test lets it."""
    async with opened.post(os.environ["TEST_COUNTERPART"], data=effect.idempotency_key) as response:
        response.raise_for_status()
        return Sent({"said": await response.text()})


registry = Registry(
    actions={
        COUNT: ActionType(COUNT, "crm", NoConfig, perform=count),
        NAP: ActionType(NAP, "timing", Nap, perform=nap, resume=get_up),
        CALL: ActionType(CALL, "webhook", NoConfig, perform=dispatching("call")),
        TEXT: ActionType(TEXT, "sms", NoConfig, perform=dispatching("text")),
    },
    effects={
        "call": EffectType("call", "webhook", call, "repeat", session, timeout_seconds=90),
        "text": EffectType("text", "sms", call, "fail", session, timeout_seconds=90),
    },
)


def end_with_the_test() -> None:
    """End this process when the one that started it is gone, however that ended."""

    def watch() -> None:
        sys.stdin.read()
        os._exit(70)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_the_test()
    at_work = actors.registry if "TEST_REAL_ACTORS" in os.environ else registry
    sys.exit(worker.run(load_settings(), at_work, None))
