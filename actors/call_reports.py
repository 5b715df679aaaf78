"""What Twilio reports on texts and calls, and the event that says how a call has ended.

Statuses may come in any order; the event is emitted once, by whichever report is the last word,
with all that was reported until then. What comes later, as a recording does that is ready some
moments after the call, is added to the event and to the step that it has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from actors.twilio_failures import OPTED_OUT_CODE
from actors.voice_voicemail import KIND as VOICEMAIL
from runtime.bells import Bells
from runtime.database import Connection
from runtime.deliveries import LAST, Report, Reported, Stand, take_reports
from runtime.deliveries import queries as deliveries
from runtime.dispatching import opt_out
from runtime.events import IncomingEvent, take_in
from sql import load

queries = load("calls")

CALL_ENDED: Final = "call_ended"
VOICE: Final = "voice"

_OUTCOMES: Final = {
    "busy": "busy",
    "no_answer": "no_answer",
    "failed": "failed",
    "canceled": "failed",
}


async def take_provider_reports(
    db: Connection, reports: Sequence[Report], now: datetime
) -> tuple[list[Reported], Bells]:
    """Take in reports on texts and calls, in the caller's transaction, in their order.

    A fixed number of statements for any number of them, but for what is told of calls that have
    ended. Locks the contacts before the effects, as whoever cancels their runs does.
    """
    of_effects = [report.account_id for report in reports], [report.effect_id for report in reports]
    await db.execute(queries.lock_contacts_of_effects, *of_effects)
    taken, bells = await take_reports(db, reports, now)
    calls = [
        (one.report, one.effect)
        for one in taken
        if one.is_new and one.effect is not None and _is_of_contacts_call(one.effect)
    ]
    bells |= await _tell_ends(db, [call for call in calls if call[0].status in LAST])
    for report, effect in calls:
        if report.status not in LAST and effect["delivery_status"] in LAST:
            await _tell_late(db, report)
    return taken, bells | await _heed(db, taken)


def _is_of_contacts_call(effect: Stand) -> bool:
    return effect["family"] == VOICE and effect["contact_id"] is not None


async def _heed(db: Connection, taken: Sequence[Reported]) -> Bells:
    """Opt out whoever Twilio says has opted out there."""
    bells = Bells()
    for one in taken:
        failure, effect = one.report.failure, one.effect
        if one.is_new and effect is not None and failure and failure.code == OPTED_OUT_CODE:
            account_id = one.report.account_id
            bells |= await opt_out(db, account_id, "sms", effect["address"], "twilio_21610")
    return bells


async def _tell_ends(db: Connection, ended: Sequence[tuple[Report, Stand]]) -> Bells:
    if not ended:
        return Bells()
    named = [report.effect_id for report, _ in ended], [r.provider_id for r, _ in ended]
    details: dict[tuple[UUID, str], dict[str, Any]] = defaultdict(dict)
    for row in await db.fetch(deliveries.details_of_reports, *named):
        details[row["effect_id"], row["provider_id"]] |= row["detail"]
    events = [
        _end(report, effect, details[report.effect_id, report.provider_id])
        for report, effect in ended
    ]
    _, bells = await take_in(db, events)
    return bells


def _end(report: Report, effect: Stand, details: Mapping[str, Any]) -> IncomingEvent:
    payload = outcome_of(effect["kind"], report.status, details)
    return IncomingEvent(
        report.account_id,
        CALL_ENDED,
        effect["contact_id"],
        {"effect_id": str(report.effect_id), "sid": report.provider_id, **payload},
        action_id=effect["action_id"],
        execution_id=effect["execution_id"],
        dedupe_key=_key(report),
    )


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
