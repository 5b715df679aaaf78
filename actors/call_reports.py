"""What Twilio reports on calls, and the event that says how one has ended.

Statuses may come in any order; the event is emitted once, by whichever report is the last word,
with all that was reported until then. What comes later, as a recording does that is ready some
moments after the call, is added to the event and to the step that it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import asyncpg

from actors.voice_voicemail import KIND as VOICEMAIL
from runtime.bells import Bells
from runtime.database import Connection
from runtime.deliveries import LAST, Report, take_report
from runtime.deliveries import queries as deliveries
from runtime.events import IncomingEvent, take_in
from sql import load

queries = load("calls")

CALL_ENDED: Final = "call_ended"

_OUTCOMES: Final = {
    "busy": "busy",
    "no_answer": "no_answer",
    "failed": "failed",
    "canceled": "failed",
}


async def take_call_report(db: Connection, report: Report, now: datetime) -> Bells | None:
    """Take in a report on a call, in the caller's transaction; None when there is no such call.

    Locks the contact before the effect, as whoever cancels its runs does.
    """
    await db.execute(queries.lock_contact_of_effect, report.account_id, report.effect_id)
    taken = await take_report(db, report, now)
    if taken.effect is None:
        return None
    if not taken.is_new or taken.effect["contact_id"] is None:
        return taken.bells
    if report.status not in LAST:
        if taken.effect["delivery_status"] in LAST:
            await _tell_late(db, report)
        return taken.bells
    return taken.bells | await _tell_end(db, report, taken.effect)


async def _tell_end(db: Connection, report: Report, effect: asyncpg.Record) -> Bells:
    rows = await db.fetch(deliveries.details_of_reports, report.effect_id, report.provider_id)
    details: dict[str, Any] = {}
    for row in rows:
        details |= row["detail"]
    payload = outcome_of(effect["kind"], report.status, details)
    event = IncomingEvent(
        report.account_id,
        CALL_ENDED,
        effect["contact_id"],
        {"effect_id": str(report.effect_id), "sid": report.provider_id, **payload},
        action_id=await _action_of(db, effect),
        execution_id=effect["execution_id"],
        dedupe_key=_key(report),
    )
    _, bells = await take_in(db, [event])
    return bells


async def _tell_late(db: Connection, report: Report) -> None:
    """Add what is heard of a call that has ended; its outcome stays.

    The contact is locked, as it is by whoever resumes the step: it has either read the event
    already, and is found completed, or will read it as it is now.
    """
    detail, account_id = dict(report.detail), report.account_id
    await db.execute(queries.add_to_end, account_id, _key(report), detail)
    await db.execute(queries.add_to_step, account_id, report.effect_id, report.provider_id, detail)


def _key(report: Report) -> str:
    return f"{CALL_ENDED}:{report.provider_id}"


async def _action_of(db: Connection, effect: asyncpg.Record) -> Any:
    return await db.fetchval(queries.action_of_step, effect["step_id"])


def outcome_of(kind: str, status: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Say in one word how a call ended, with what is known of it."""
    answered_by = details.get("answered_by")
    if status != "completed":
        outcome = _OUTCOMES.get(status, "failed")
    elif kind != VOICEMAIL:
        outcome = _dialled(details.get("dial_status"))
    elif answered_by is None:
        outcome = "answered"  # nobody asked by whom
    elif answered_by == "fax":
        outcome = "failed"
    else:
        outcome = "machine" if answered_by.startswith("machine") else "human"
    return {"outcome": outcome, **details}


def _dialled(status: str | None) -> str:
    """How the other leg ended; a queue and an IVR report none."""
    if status is None or status == "completed":
        return "completed"
    return {"busy": "busy", "no-answer": "no_answer"}.get(status, "failed")


def with_details(report: Report, **details: Any) -> Report:
    """Add what is known."""
    return replace(report, detail={k: v for k, v in details.items() if v is not None})
