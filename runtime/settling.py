"""How a step ends when its effects have ended, unless its action type says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.failures import Failure, Kind
from runtime.outcomes import Done, Failed, Outcome, Skipped
from runtime.stage import Item, Stage


async def settle_effects(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Settle each item by its effects: see `settle_one`."""
    return [settle_one(item.effects) for item in items]


def settle_one(effects: Sequence[Mapping[str, Any]]) -> Outcome:
    """Say what effects that have all ended mean for their step.

    Any failed or unknown one fails the step with its code; otherwise, if nothing went out, the
    step is skipped with the reason of the first; otherwise it is done, with the result of the
    only effect, or a list under `effects` when there were several.
    """
    failed = next((e for e in effects if e["status"] in ("failed", "unknown")), None)
    if failed is not None:
        return Failed(_failure_of(failed), is_final=True)
    succeeded = [dict(e["result"] or {}) for e in effects if e["status"] == "succeeded"]
    if effects and not succeeded:
        return Skipped(effects[0]["error_code"] or effects[0]["status"])
    return Done(succeeded[0] if len(succeeded) == 1 else {"effects": succeeded})


def _failure_of(effect: Mapping[str, Any]) -> Failure:
    kind = Kind.UNKNOWN_OUTCOME if effect["status"] == "unknown" else Kind.REFUSED
    code = effect["error_code"] or "outcome_unknown"
    return Failure(kind, code, effect["error_message"] or code)
