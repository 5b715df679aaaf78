"""Asking the checks of effect types what may go out, and what their verdicts make of the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from runtime.database import Connection
from runtime.effect import Effect, Go, PutOff, Suppress, Verdict
from runtime.registry import EffectType

# A check that puts off into the past would have its effect claimed again without a pause.
SHORTEST_DELAY: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Broken:
    """The verdict on an effect whose check cannot be made: it fails, and takes no other along."""

    message: str


Columns = tuple[list[str | None], list[str | None], list[str | None], list[Any], list[Any]]
"""Status, code, message, instant and decision of each effect, as dispatch_effects takes them."""


def has_checks(effects: Sequence[Effect], types: Mapping[str, EffectType]) -> bool:
    """Whether any of these effects is of a kind with a check."""
    return any(_check_of(effect, types) is not None for effect in effects)


async def ask(
    db: Connection, effects: Sequence[Effect], types: Mapping[str, EffectType], now: datetime
) -> dict[UUID, Verdict | Broken]:
    """Ask each kind's check once for all of its effects; kinds without one give no verdict."""
    by_kind: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_kind[effect.kind].append(effect)
    verdicts: dict[UUID, Verdict | Broken] = {}
    for of_kind in by_kind.values():
        check = _check_of(of_kind[0], types)
        if check is not None:
            given = await check(db, of_kind, now)
            verdicts |= {e.id: v for e, v in zip(of_kind, given, strict=True)}
    return verdicts


def columns(
    effects: Sequence[Effect], verdicts: Mapping[UUID, Verdict | Broken], now: datetime
) -> Columns:
    """Turn verdicts into arrays in the order of the effects; all empty when there is none."""
    rows = [_row(verdicts.get(effect.id), now) for effect in effects] if verdicts else []
    status, code, message, until, decision = ([row[n] for row in rows] for n in range(5))
    return status, code, message, until, decision


def _row(verdict: Verdict | Broken | None, now: datetime) -> tuple[Any, ...]:
    match verdict:
        case Go(decision):
            return "dispatched", None, None, None, _json(decision)
        case PutOff(until, reason, decision):
            return "scheduled", reason, None, max(until, now + SHORTEST_DELAY), _json(decision)
        case Suppress(code, decision):
            return "suppressed", code, None, None, _json(decision)
        case Broken(message):
            return "failed", "check_crashed", message, None, None
    return None, None, None, None, None


def _json(decision: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if decision is None else dict(decision)


def _check_of(effect: Effect, types: Mapping[str, EffectType]) -> Any:
    type_ = types.get(effect.kind)
    return None if type_ is None else type_.check
