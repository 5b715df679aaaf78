"""custom_code: run the user's JavaScript in a sandbox with the contact and the workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from actors.code_run import EFFECT
from actors.fields import Config, storable
from runtime.configuration import did_you_mean
from runtime.failures import Failure, Kind
from runtime.javascript import LONGEST_MS, MODULES, MOST_MEMORY_MB
from runtime.outcomes import Dispatch, Done, EffectRequest, Failed, Outcome
from runtime.performing import template_context
from runtime.registry import ActionType
from runtime.settling import settle_one
from runtime.stage import Item, Stage

LONGEST_CODE: Final = 100_000
# Contact and results of earlier steps, as JSON.
LARGEST_GIVEN: Final = 1 << 20

_CONTACT: Final = (
    "id", "first_name", "last_name", "email", "phone", "time_zone", "owner_id", "owner", "tags",
    "custom_fields", "created_at",
)  # fmt: skip


def _module(name: str) -> str:
    if name not in MODULES:
        reason = f"this module is not here.{did_you_mean(name, MODULES)}"
        raise PydanticCustomError("module_unknown", "{reason}", {"reason": reason})
    return name


ModuleName = Annotated[str, Field(max_length=214), AfterValidator(_module)]
"""A library of runtime/javascript/modules, by its name on npm."""


def _distinct(modules: list[str]) -> list[str]:
    if len(set(modules)) < len(modules):
        raise PydanticCustomError("repeated", "a module is named twice")
    return modules


class CustomCode(Config):
    """The script and its limits.

    The code is no template: what a field holds would become code. A script reads the contact from
    what it is given. 8 MB is the least that V8 starts in.
    """

    code: Annotated[str, Field(min_length=1, max_length=LONGEST_CODE), AfterValidator(storable)]
    timeout_ms: Annotated[int, Field(ge=1, le=LONGEST_MS)] = LONGEST_MS
    memory_limit_mb: Annotated[int, Field(ge=8, le=MOST_MEMORY_MB)] = MOST_MEMORY_MB
    allowed_modules: Annotated[list[ModuleName], AfterValidator(_distinct)] = Field(
        default_factory=list
    )


def given(context: Mapping[str, Any]) -> dict[str, Any]:
    """Choose what a script is given of what merge fields can name."""
    contact = context["contact"]
    return {**context, "contact": {name: contact.get(name) for name in _CONTACT}}


async def perform(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write one run to the ledger for each item."""
    return [_run(item) for item in items]


def _run(item: Item) -> Outcome:
    config = item.config
    assert isinstance(config, CustomCode)
    # As text, and through str, since ids and instants of rows are no JSON.
    shown = orjson.dumps(given(template_context(item)), default=str, option=orjson.OPT_UTC_Z)
    if len(shown) > LARGEST_GIVEN:
        message = f"contact and earlier results are over {LARGEST_GIVEN} bytes"
        return Failed(Failure(Kind.INVALID_CONFIG, "script_input_too_large", message))
    request = {
        "code": config.code,
        "given": orjson.loads(shown),
        "modules": config.allowed_modules,
        "timeout_ms": config.timeout_ms,
        "memory_limit_mb": config.memory_limit_mb,
        "is_test": item.account.is_test,
    }
    return Dispatch([EffectRequest(EFFECT.kind, request)])


async def settle(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """End each step by its run: a script that failed has run, and fails its step."""
    return [_outcome(settle_one(item.effects)) for item in items]


def _outcome(outcome: Outcome) -> Outcome:
    if not isinstance(outcome, Done) or outcome.result["error"] is None:
        return outcome
    error = outcome.result["error"]
    place = f" (line {error['line']}, column {error['column']})" if error.get("line") else ""
    failure = Failure(Kind.INVALID_CONFIG, error["code"], error["message"] + place)
    return Failed(failure, is_final=True)


ACTION = ActionType(
    name="custom_code",
    family="code",
    config=CustomCode,
    perform=perform,
    settle=settle,
    verbatim=frozenset({"code"}),
    gives={
        "output": "what the script returned",
        "logs": "its console",
        "logs_dropped": "lines beyond the limit",
        "error": "null",
        "duration_ms": "how long it ran",
    },
)
