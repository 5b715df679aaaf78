"""Why a step was done or not, and what everything that still stands waits for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.error_catalogue import Language, language_of
from api.errors_shown import ShownError, headers_of, meaning_of
from api.fields import Object
from api.problems import not_found
from api.shown import Shown
from api.why_sentences import of_decision, of_effect, of_step
from sql import load

queries = load("api_why")


class ShownReason(Shown):
    """What became of one thing that was to leave the house; `decision` is its decision record.

    `delivery_status`: how far it has come since it went out; `meaning`: what the code means, in the
    language asked for.
    """

    effect_id: UUID
    kind: str
    status: str
    delivery_status: str | None
    code: str | None
    meaning: ShownError | None
    until: datetime | None
    why: str
    decision: Object | None


class ShownWhy(Shown):
    """Why a step is as it is: `why` in plain words, `until` when that may change.

    `meaning`: what the code means and what to do, in the language asked for.
    """

    step_id: UUID
    execution_id: UUID
    action_type: str | None
    status: str
    code: str | None
    meaning: ShownError | None
    until: datetime | None
    why: str
    effects: list[ShownReason]


async def read(call: Call) -> web.Response:
    """Say in plain words why a step was done or not, or what it still waits for and until when."""
    return await _read(call, None)


async def read_of_execution(call: Call) -> web.Response:
    """Say the same of a step of this execution."""
    return await _read(call, call.id("execution_id"))


async def _read(call: Call, execution_id: UUID | None) -> web.Response:
    async with call.pool.acquire() as db:
        step = await db.fetchrow(queries.step, call.account_id, call.id("step_id"), execution_id)
        if step is None:
            raise not_found("step")
        effects = await db.fetch(queries.effects, call.account_id, step["id"])
    language = language_of(call.request.headers.get("Accept-Language"))
    reasons = [_reason(effect, step["now"], language) for effect in effects]
    code = step["skip_reason"] or step["error_code"]
    return answer(
        {
            "step_id": step["id"],
            "execution_id": step["execution_id"],
            "action_type": step["action_type"],
            "status": step["status"],
            "code": code,
            "meaning": meaning_of(code, language),
            "until": _until(step, reasons),
            "why": _why(step, effects, reasons),
            "effects": reasons,
        },
        headers=headers_of(language),
    )


def _reason(effect: Any, now: datetime, language: Language) -> dict[str, Any]:
    is_held = effect["status"] == "pending" and effect["held_until"] is not None
    return {
        "effect_id": effect["id"],
        "kind": effect["kind"],
        "status": effect["status"],
        "delivery_status": effect["delivery_status"],
        "code": effect["error_code"],
        "meaning": meaning_of(effect["error_code"], language),
        "until": effect["held_until"] if is_held else _open_until(effect),
        "why": of_effect(effect, now),
        "decision": effect["decision"],
    }


def _open_until(row: Any) -> datetime | None:
    is_open = row["status"] in {"scheduled", "waiting"}
    until: datetime | None = row["scheduled_at"] if is_open else None
    return until


def _until(step: Any, reasons: list[dict[str, Any]]) -> datetime | None:
    if step["status"] == "running":
        return min((r["until"] for r in reasons if r["until"] is not None), default=None)
    held: datetime | None = step["held_until"] if step["status"] == "pending" else None
    return held or _open_until(step)


def _why(step: Any, effects: list[Any], reasons: list[dict[str, Any]]) -> str:
    """The step's own sentence, or that of the effect that speaks for it."""
    gating = [r for e, r in zip(effects, reasons, strict=True) if e["gates_step"]]
    if step["status"] == "skipped" and step["skip_reason"] != "cancelled":
        said = next((of_decision(e["decision"]) for e in effects if e["gates_step"]), None)
        return said or of_step(step)
    if gating and step["status"] in {"running", "completed"}:
        return str(gating[0]["why"]) if len(gating) == 1 else of_step(step)
    return of_step(step)


_STEP: Final = "/steps/{step_id}/why"

_SHOWN: Final = {200: ShownWhy}

ROUTES: Final = (
    Route("GET", f"/api/v1{_STEP}", read, Permission.READ, answers=_SHOWN),
    Route(
        "GET",
        f"/api/v1/executions/{{execution_id}}{_STEP}",
        read_of_execution,
        Permission.READ,
        answers=_SHOWN,
    ),
)
