"""Why something was done or not, waits or failed: one sentence in plain words for each reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

Row = Mapping[str, Any]

_CHANNELS: Final = {
    "email": "e-mails",
    "sms": "texts",
    "voice": "calls",
    "messenger": "Messenger messages",
}

_OPT_OUTS: Final = {
    "stop": "its owner wrote STOP",
    "stopped_texts": "its owner texted STOP, which ends marketing calls too",
    "unsubscribed": "its owner has unsubscribed",
    "hard_bounce": "mail to it came back for good",
    "complaint": "its owner reported a message as spam",
    "by_request": "its owner asked for it",
    "erased": "its owner was erased and asked not to be written to",
}

SKIPPED: Final[Mapping[str, str]] = {
    "cancelled": "The run was ended before this step was done.",
    "disabled": "The action was switched off when the workflow was activated.",
    "contact_erased": "The contact was erased.",
    "opted_out": "The address has opted out.",
    "do_not_disturb": "The contact is not to be disturbed on this channel.",
    "no_consent": "Marketing on this channel needs consent, and the contact has given none.",
    "consent_withdrawn": "The contact has withdrawn consent.",
    "integration_disabled": "The integration that it would have gone out by is disabled.",
    "integration_removed": "The integration that it would have gone out by was removed.",
    "outside_messaging_window": (
        "The person has not written to the page within 24 hours, and no tag permits the message."
    ),
    "person_unlinked": "The person on Messenger is no longer this contact.",
    "contact_not_on_messenger": "The contact is nobody whom the page knows on Messenger.",
    "always_quiet": "At every hour it is quiet in one of the zones that the number may be in.",
}
"""Reasons for not doing something that need no further values."""

HELD: Final[Mapping[str, str]] = {
    "rate_limit": "The integration has used up its messages per second",
    "concurrency_limit": "As many calls of the integration are under way as may be at once",
    "breaker_open": "The integration has failed so often that it is given a rest",
}


DELIVERIES: Final[Mapping[str, str]] = {
    "deferred": "The receiving server has put it off",
    "delivered": "It was delivered",
    "read": "It was read",
    "opened": "It was opened",
    "clicked": "A link in it was followed",
    "bounced": "It came back",
    "complained": "Its recipient reported it as spam",
}
"""What was reported of something that went out."""


def of_decision(decision: Row | None) -> str | None:
    """Say what a decision record says; None where there is nothing to add."""
    failed = next((c for c in (decision or {}).get("checks", ()) if not c["passed"]), None)
    if decision is None or failed is None:
        return None
    match failed["check"]:
        case "opt_out":
            because = _OPT_OUTS.get(failed.get("because"), f"because: {failed.get('because')}")
            return f"The address opted out on {_day(failed['opted_out_at'])}: {because}."
        case "do_not_disturb":
            what = _CHANNELS.get(decision["channel"], decision["channel"])
            return f"The contact wants no {what} (do not disturb)."
        case "consent" if failed.get("is_given") is False:
            return f"The contact withdrew consent on {_day(failed['at'])} ({failed['source']})."
        case "quiet_hours" if decision["verdict"] == "put_off":
            return _quiet(failed, decision)
        case "messaging_window" if failed["until"] and failed["code"] != "person_unlinked":
            return (
                f"The person last wrote to the page on {_minute(failed['last_inbound_at'])}:"
                f" without a tag that permits more, it could go until {_minute(failed['until'])}."
            )
    return SKIPPED.get(failed.get("code", ""))


def _quiet(found: Row, decision: Row) -> str:
    windows = " and ".join(found["windows"])
    zones = ", ".join(found["zones"])
    source = {
        "contact": "the contact's own time zone",
        "phone_number": "by the phone number",
        "account": "the account's time zone, as nothing else is known",
        "user": "the user's own choice",
    }[found["zone_from"]]
    return (
        f"Quiet hours ({windows}) held in {zones} ({source}) at {_minute(decision['at'])};"
        f" it may go from {_minute(decision['until'])} on and is looked at again then."
    )


def of_effect(effect: Row, now: datetime) -> str:
    """Say how it stands with one effect."""
    said = of_decision(effect["decision"])
    code, status = effect["error_code"], effect["status"]
    match status:
        case "succeeded":
            if (effect["result"] or {}).get("status") == "recorded":
                return "It was recorded and not sent: the account is in test mode."
            return f"It went out at {_minute(effect['dispatched_at'])}.{_of_delivery(effect)}"
        case "suppressed":
            return said or SKIPPED.get(code or "", f"It was not sent: {code}.")
        case "cancelled":
            return SKIPPED["contact_erased" if code == "contact_erased" else "cancelled"]
        case "failed":
            return f"It was not sent: {_failure(effect)}"
        case "unknown":
            return (
                "It is not known whether it went out, as the answer never came;"
                " it is not sent a second time."
            )
        case "scheduled" if said is not None:
            return said
        case "scheduled":
            return f"It is tried again at {_minute(effect['scheduled_at'])} after: {code}."
        case "dispatched":
            return "It is on the wire."
        case "claimed":
            return "It is about to go out."
    return of_hold(effect, now) or "It is ready and goes out as soon as a worker is free."


def _of_delivery(effect: Row) -> str:
    """Say what was reported since it went out; nothing where nothing was."""
    said = DELIVERIES.get(effect["delivery_status"] or "")
    known = ""
    if said is not None:
        code = f" ({effect['delivery_code']})" if effect["delivery_code"] else ""
        known = f" {said}{code} at {_minute(effect['delivery_at'])}."
    if effect["has_met_machines"] and effect["delivery_status"] in {None, "sent", "delivered"}:
        known += " Only machines, such as scanners, have opened it so far."
    return known


def of_hold(row: Row, now: datetime) -> str | None:
    """Say what holds ready work; None if nothing does."""
    if row["hold"] in {"parked", "parked_isolated"}:
        return "The run is paused, until somebody resumes it."
    if row["is_paused"]:
        return "The workflow is paused, until somebody resumes it."
    if row["held_until"] is not None and row["held_until"] > now:
        why = HELD.get(row["held_reason"], f"Held: {row['held_reason']}")
        return f"{why}; it goes on at {_minute(row['held_until'])}."
    return None


def of_step(step: Row) -> str:
    """Say how it stands with a step, apart from its effects."""
    now = step["now"]
    match step["status"]:
        case "completed":
            return f"It was done at {_minute(step['completed_at'])}."
        case "failed":
            return f"It failed: {_failure(step)}"
        case "skipped" if step["skip_reason"] == "cancelled" and step["end_reason"] == "replied":
            return "The contact has replied, and the workflow ends its runs on a reply."
        case "skipped":
            reason = step["skip_reason"]
            return SKIPPED.get(reason, f"There was nothing to do: {reason}.")
        case "scheduled" if step["phase"] == "perform":
            return (
                f"It failed ({step['error_code']}) and is tried again at"
                f" {_minute(step['scheduled_at'])}."
            )
        case "scheduled":
            return f"It sleeps until {_minute(step['scheduled_at'])}."
        case "waiting":
            until = step["scheduled_at"]
            end = f", at most until {_minute(until)}" if until else ""
            return f"It waits for the event {step['waiting_for']}{end}."
        case "running":
            return "It waits for what it has sent out to end."
    if step["execution_status"] == "paused":
        return "The run is paused, until somebody resumes it."
    return of_hold(step, now) or "It is ready and is done as soon as a worker is free."


def _failure(row: Row) -> str:
    return f"{row['error_message'] or 'no more is known'} ({row['error_code']})."


def _minute(instant: datetime | str | None) -> str:
    if isinstance(instant, str):
        instant = datetime.fromisoformat(instant)
    return "an unknown time" if instant is None else f"{instant:%Y-%m-%d %H:%M} UTC"


def _day(instant: str) -> str:
    return f"{datetime.fromisoformat(instant):%Y-%m-%d}"
