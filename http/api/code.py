"""Trying scripts of custom_code out, and the sandbox that the API keeps for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import Field

from actors.code_run import Tools, open_tools, run, shown
from actors.custom_code import LARGEST_GIVEN, CustomCode, given
from api.access import Permission
from api.answers import answer, encode
from api.bodies import Body
from api.calls import SERVICES, Call, Route
from api.fields import Object
from api.problems import invalid
from api.shown import Shown
from runtime.configuration import Fault
from runtime.javascript import Script
from sql import load

queries = load("api_code")

SANDBOX: Final = web.AppKey("sandbox", Tools)

# Scripts that are tried out at once; further ones wait for their turn.
PLACES: Final = 1


class NewTrial(CustomCode, Body):
    """A script with its limits, the contact that it is given, and what earlier steps gave."""

    contact_id: UUID
    steps: Object = Field(default_factory=dict)
    trigger: Object = Field(default_factory=dict)


class ShownScriptError(Shown):
    """Why a script gave nothing; line and column count from 1 in the given code."""

    code: str
    message: str
    line: int | None
    column: int | None


class ShownLine(Shown):
    """One call of console."""

    level: Literal["debug", "info", "log", "warn", "error"]
    text: str


class ShownTrial(Shown):
    """What became of a script; `memory_bytes` is V8's heap at its end."""

    output: Any
    error: ShownScriptError | None
    logs: list[ShownLine]
    logs_dropped: int
    duration_ms: Annotated[int, Field(ge=0)]
    memory_bytes: Annotated[int, Field(ge=0)]


async def sandbox(app: web.Application) -> AsyncIterator[None]:
    """Keep a sandbox for the application's time; its process is started by the first script."""
    async with open_tools(app[SERVICES].house, PLACES) as app[SANDBOX]:
        yield


async def test(call: Call) -> web.Response:
    """Run a script against a contact and tell what it gave, logged, took and used.

    Nothing is stored, but what the script fetches is really fetched. An error of the script is
    part of the answer, not a refusal.
    """
    trial = await call.body(NewTrial)
    row = await call.pool.fetchrow(queries.contact_for_script, call.account_id, trial.contact_id)
    if row is None:
        raise invalid(Fault("contact_id", "contact_unknown", "There is no such contact."))
    account = {name: row[f"account_{name}"] for name in ("name", "time_zone", "currency")}
    context = {
        "contact": dict(row),
        "account": account,
        "workflow": {"id": None, "name": None, "execution_id": None, "execution_date": None},
        "steps": trial.steps,
        "trigger": trial.trigger,
    }
    # As the engine gives it: ids and instants are text.
    text = encode(given(context))
    if len(text) > LARGEST_GIVEN:
        message = f"Contact and earlier results are over {LARGEST_GIVEN} bytes."
        raise invalid(Fault("steps", "script_input_too_large", message))
    script = Script(
        trial.code,
        orjson.loads(text),
        trial.allowed_modules,
        trial.timeout_ms,
        trial.memory_limit_mb,
        measures_memory=True,
    )
    ran = await run(script, call.request.app[SANDBOX], is_test=row["account_is_test"])
    return answer({**shown(ran), "memory_bytes": ran.memory_bytes})


ROUTES: Final = (
    Route(
        "POST",
        "/api/v1/code/test",
        test,
        Permission.RUN,
        NewTrial,
        answers={200: ShownTrial},
    ),
)
