"""The engine finds actors here: action types, effect types and timer kinds by name.

The registry is filled in one visible place (`actors/__init__.py`) and handed to whoever needs
it; there is no global one, so that tests make their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    from datetime import datetime

    from runtime.database import Connection
    from runtime.effect import Effect, Result, Verdict
    from runtime.house import House
    from runtime.operations import OperationType
    from runtime.outcomes import Outcome
    from runtime.stage import Item, Stage
    from runtime.timers import Timer

FAMILIES: Final = (
    "crm",
    "timing",
    "email",
    "sms",
    "voice",
    "messenger",
    "webhook",
    "code",
    "notification",
    "membership",
)

Refers = Mapping[str, str] | Callable[[Mapping[str, Any]], Mapping[str, str]]
"""Places in a config to the kind of row that they name, or what gives them for a config."""

Performance = Callable[["Stage", "Sequence[Item]"], Awaitable["Sequence[Outcome]"]]
Send = Callable[["Effect", Any], Awaitable["Result"]]
Check = Callable[["Connection", "Sequence[Effect]", "datetime"], Awaitable["Sequence[Verdict]"]]


@dataclass(frozen=True, slots=True)
class ActionType:
    """One of the 24 types: its name, its config model and its performance.

    `perform` is given items of this type only, no two of one contact, with rendered
    `item.values`, inside the batch's transaction, and returns an outcome for each in order.
    None: the type is legal, and a workflow that holds it cannot be activated yet.
    `resume` follows a Sleep or a Wait; `settle` follows a Dispatch (the engine has a default).
    `contended`: it locks a row that others queue up at, so it is performed last in a
    transaction and nothing is fused behind it. `verbatim` names the config fields that hold no
    merge fields, such as code and secrets: they stand in `item.config`, not in `item.values`.
    `secret` names the fields that hold credentials: they are sealed when a config is saved (see
    actors/sealed_configs.py) and never shown again.

    What the type says of itself, for the palette and for checks of definitions: `gives` are the
    fields of its results with what they hold, `emits` the domain events that it may emit, `refers`
    the fields of its config that lead to rows, with their kinds (see actors/referents.py).
    """

    name: str
    family: str
    config: type[BaseModel]
    perform: Performance | None = None
    resume: Performance | None = None
    settle: Performance | None = None
    contended: bool = False
    verbatim: frozenset[str] = frozenset()
    secret: frozenset[str] = frozenset()
    gives: Mapping[str, str] = field(default_factory=dict)
    emits: frozenset[str] = frozenset()
    refers: Refers = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EffectType:
    """One kind of thing that leaves the house.

    `send` does it, once, within `timeout_seconds`, and returns a Result; an exception counts
    as a failure of kind internal. `open` is given the process's House and gives what all sends of
    one pool share (a session, a connection); it is entered once per pool. `on_unknown` says what
    follows when a worker died after dispatch: `repeat` under the same idempotency key, or `fail`
    with outcome_unknown.

    `check` says, just before the wire, which effects may go out: it is given all effects of this
    kind in one group, inside the dispatch's transaction, with their addresses and executions
    locked, and the clock's instant; it gives a verdict for each, in order, by a fixed number of
    statements. It changes nothing, and opt-outs are its business then: a kind without a check
    goes to no address that has opted out.
    """

    kind: str
    family: str
    send: Send
    on_unknown: Literal["repeat", "fail"]
    open: Callable[[House], AbstractAsyncContextManager[Any]] | None = None
    timeout_seconds: float = 30.0
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class TimerType:
    """What happens when a timer of this kind falls due, inside the transaction that removes it."""

    kind: str
    fire: Callable[[Stage, Sequence[Timer]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Registry:
    """The action types, effect types, and kinds of timers and operations of one process."""

    actions: Mapping[str, ActionType]
    effects: Mapping[str, EffectType] = field(default_factory=dict)
    timers: Mapping[str, TimerType] = field(default_factory=dict)
    operations: Mapping[str, OperationType] = field(default_factory=dict)

    def families(self) -> tuple[str, ...]:
        """The families that have anything to perform here, in the order of FAMILIES."""
        used = {a.family for a in self.actions.values() if a.perform is not None}
        used |= {e.family for e in self.effects.values()}
        return tuple(f for f in FAMILIES if f in used)
