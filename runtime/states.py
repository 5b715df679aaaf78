"""The state table of a step: pure, and the only place that says which change is legal.

A step is a row of `workflow_action_executions`. Rules:

1. `pending` is ready work; `scheduled` becomes pending at `scheduled_at`; `waiting` becomes
   pending by its event or its time-out; `running` is in hand, or has effects that are.
2. Consecutive inward steps are written by one transaction, so that a fused step is born in
   whatever state its performance ended in: `None` stands for «no row yet».
3. `completed`, `failed` and `skipped` are final: nothing leads out of them. Retrying an
   execution makes new steps and leaves the old ones as history.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Status = Literal["pending", "scheduled", "waiting", "running", "completed", "failed", "skipped"]

STATUSES: Final[frozenset[Status]] = frozenset(get_args(Status))
FINAL: Final[frozenset[Status]] = frozenset({"completed", "failed", "skipped"})

TRANSITIONS: Final[dict[Status | None, frozenset[Status]]] = {
    None: STATUSES,
    # Performed in one commit; put off; beginning to wait; claimed alone or with effects; cancelled.
    "pending": frozenset(
        {"pending", "running", "scheduled", "waiting", "completed", "failed", "skipped"}
    ),
    # Its instant has come; cancelled.
    "scheduled": frozenset({"pending", "skipped"}),
    # Its event or its time-out has come; cancelled.
    "waiting": frozenset({"pending", "skipped"}),
    # Its effects have ended, or its worker died (pending); performed alone; put off; cancelled.
    "running": frozenset(
        {"pending", "running", "scheduled", "waiting", "completed", "failed", "skipped"}
    ),
    "completed": frozenset(),
    "failed": frozenset(),
    "skipped": frozenset(),
}


class IllegalTransitionError(AssertionError):
    """A change of state that the table does not have: a defect of the engine, never of data."""


def check(before: Status | None, after: Status) -> None:
    """Raise IllegalTransitionError unless the table leads from `before` to `after`."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransitionError(f"a step cannot go from {before} to {after}")
