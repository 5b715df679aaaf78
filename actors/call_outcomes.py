"""How a step that calls somebody ends: when the call has ended, or when nothing was heard of it.

The effect ends as soon as Twilio has taken the call. The step then waits for the event
`call_ended`, which Twilio's callback makes, within a bound: one that is lost holds up no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from actors.call_reports import CALL_ENDED
from actors.call_twiml import MOST_SECONDS
from actors.test_mode import RECORDED
from runtime.failures import Failure, Kind
from runtime.outcomes import Done, Failed, Outcome, Wait
from runtime.settling import settle_one
from runtime.stage import Item, Stage

LONGEST_CALL: Final = timedelta(seconds=MOST_SECONDS + 600)

_UNHEARD: Final = Failed(
    Failure(Kind.UNKNOWN_OUTCOME, "call_end_unknown", "Twilio has not said how the call ended"),
    is_final=True,
)
_FAILED: Final = Failed(
    Failure(Kind.REFUSED, "call_failed", "the call could not be completed"), is_final=True
)


def given(outcomes: str) -> dict[str, str]:
    """Say what a step that calls gives to later ones, beside one of these outcomes."""
    return {
        "sid": "Twilio's id of the call",
        "tries": "how often it was called",
        "outcome": outcomes,
        "duration_seconds": "how long it lasted",
        "answered_by": "who answered: human, machine_end_beep …",
        "dial_status": "how the other leg ended",
        "dial_seconds": "how long the two were connected",
        "recording_sid": "Twilio's id of the recording",
        "recording_url": "where Twilio keeps it",
        "recording_seconds": "how long it is",
        "is_settled_by_callback": "true where a report told that it had gone out",
        "status": "recorded, in test mode",
        "to": "the number, in test mode",
        "is_test": "true in test mode",
    }


def begun(stage: Stage, tries: int = 0) -> dict[str, Any]:
    """What a step that places a call keeps until it has ended."""
    return {"since": stage.now.isoformat(), "tries": tries}


async def settle(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Wait for the end of each call that Twilio has taken; what it has not taken ends here."""
    return [_settled(stage, item) for item in items]


def _settled(stage: Stage, item: Item) -> Outcome:
    effect = item.effects[-1]  # of several tries the last counts
    if effect["status"] != "succeeded":
        return settle_one([effect])
    result = effect["result"]
    if result.get("status") == RECORDED:
        return Done({**result, "outcome": RECORDED})
    # From here on, and not from the step's begin: quiet hours may lie in between.
    until = (stage.now + LONGEST_CALL).isoformat()
    return _wait(item, {**item.data, "effect_id": str(effect["id"]), "until": until})


def _wait(item: Item, data: Mapping[str, Any]) -> Wait:
    since, until = (datetime.fromisoformat(data[name]) for name in ("since", "until"))
    return Wait(CALL_ENDED, since, until, item.action.id, dict(data))


def ended(item: Item) -> Outcome | Mapping[str, Any]:
    """Give what is known of the call that has ended, or the outcome that follows from there."""
    if item.event is None:
        return _UNHEARD
    payload = item.event["payload"]
    if payload.get("effect_id") != item.data["effect_id"]:
        # Of an earlier try, told late.
        later = item.event["occurred_at"] + timedelta(microseconds=1)
        return _wait(item, {**item.data, "since": later.isoformat()})
    return dict(payload)


def done(item: Item, payload: Mapping[str, Any]) -> Outcome:
    """End the step by the call's outcome; only one that could not be placed at all fails it."""
    if payload["outcome"] == "failed":
        return _FAILED
    told = {key: value for key, value in payload.items() if key != "effect_id"}
    return Done({**told, "tries": item.data["tries"] + 1})


async def resume(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """End each step whose call has ended."""
    outcomes: list[Outcome] = []
    for item in items:
        known = ended(item)
        outcomes.append(done(item, known) if isinstance(known, Mapping) else known)
    return outcomes
