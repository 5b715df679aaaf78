"""What Twilio reports on calls, and the event that says how one has ended.

Statuses may come in any order; the event is emitted once, by whichever report is the last word,
with all that was reported until then.
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
    if not taken.is_new or report.status not in LAST or taken.effect["contact_id"] is None:
        return taken.bells
    rows = await db.fetch(deliveries.details_of_reports, report.effect_id, report.provider_id)
    details: dict[str, Any] = {}
    for row in rows:
        details |= row["detail"]
    payload = outcome_of(taken.effect["kind"], report.status, details)
    event = IncomingEvent(
        report.account_id,
        CALL_ENDED,
        taken.effect["contact_id"],
        {"effect_id": str(report.effect_id), "sid": report.provider_id, **payload},
        action_id=await _action_of(db, taken.effect),
        execution_id=taken.effect["execution_id"],
        dedupe_key=f"{CALL_ENDED}:{report.provider_id}",
    )
    _, bells = await take_in(db, [event])
    return taken.bells | bells


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
