"""What a process counts of its own work, for Prometheus: batches, steps, effects, and their times.

Counted once per batch and type, never per step: nothing here is felt in the hot path. Labels are
families, types, kinds and outcomes, of which there are few; never accounts or contacts.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

PROCESS: Final = CollectorRegistry()

BATCHES: Final = Counter(
    "callboard_batches", "Batches of steps that were committed.", ["family"], registry=PROCESS
)
BATCH_SECONDS: Final = Histogram(
    "callboard_batch_seconds",
    "How long a batch took, from its claim to its commit.",
    ["family"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
    registry=PROCESS,
)
STEPS: Final = Counter(
    "callboard_steps",
    "Tries of steps, by action type and outcome.",
    ["action_type", "outcome"],
    registry=PROCESS,
)
EFFECTS: Final = Counter(
    "callboard_effects",
    "Tries of effects, by kind and outcome.",
    ["kind", "outcome"],
    registry=PROCESS,
)
EFFECT_SECONDS: Final = Histogram(
    "callboard_effect_seconds",
    "How long the other side took.",
    ["kind"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
    registry=PROCESS,
)


def count_batch(family: str, seconds: float) -> None:
    """Count a committed batch."""
    BATCHES.labels(family).inc()
    BATCH_SECONDS.labels(family).observe(seconds)


def count_steps(steps: Iterable[tuple[str, str]]) -> None:
    """Count the (action type, outcome) of each try of a batch; done again, it counts again."""
    for (action_type, outcome), number in Tally(steps).items():
        STEPS.labels(action_type, outcome).inc(number)


def count_effects(ends: Iterable[tuple[str, str, float]]) -> None:
    """Count recorded results of effects: (kind, outcome, seconds on the wire) of each."""
    outcomes: Tally[tuple[str, str]] = Tally()
    for kind, outcome, seconds in ends:
        outcomes[kind, outcome] += 1
        EFFECT_SECONDS.labels(kind).observe(seconds)
    for (kind, outcome), number in outcomes.items():
        EFFECTS.labels(kind, outcome).inc(number)
