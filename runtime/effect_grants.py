"""What limits and breakers grant to a batch of ready effects, and which of them take it."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any, Final
from uuid import UUID

from runtime import lanes
from runtime.bells import Bells
from runtime.database import Connection
from sql import load

queries = load("effects")

# How long a half-open breaker waits for the result of its probe.
PROBE_SECONDS: Final = 60.0
LANES_REMEMBERED: Final = 10_000

Row = Any
"""A locked effect: id, lane_id, integration_id."""


@dataclass(slots=True)
class Grant:
    """How many calls an integration's limits and breaker allow now, and until when not more."""

    count: int
    is_probe: bool = False
    reason: str | None = None
    next_at: datetime | None = None


async def ask(db: Connection, rows: Sequence[Row], now: datetime) -> dict[UUID, Grant]:
    """Ask breakers and limits for all integrations of a batch, in two statements."""
    wanted = Counter(row["integration_id"] for row in rows if row["integration_id"] is not None)
    grants = {integration: Grant(count) for integration, count in wanted.items()}
    if not grants:
        return {}
    for row in await db.fetch(queries.ask_breakers, list(wanted), now, PROBE_SECONDS):
        is_probe = row["admits"] == "probe"
        grants[row["integration_id"]] = Grant(
            int(is_probe), is_probe, "breaker_open", row["next_at"]
        )
    asking = {integration: g.count for integration, g in grants.items() if g.count}
    for row in await db.fetch(queries.take_tokens, list(asking), list(asking.values()), now):
        grant = grants[row["integration_id"]]
        if row["reason"] is not None:
            grant.count, grant.reason, grant.next_at = row["granted"], row["reason"], row["next_at"]
            if grant.is_probe and grant.count == 0:
                await db.execute(queries.put_off_probe, row["integration_id"], row["next_at"])
    return grants


async def hold_what_is_limited(
    db: Connection, rows: Sequence[Row], grants: dict[UUID, Grant]
) -> Bells:
    """Hold the lanes of integrations that did not grant all that was asked, until they may more."""
    held: dict[str, dict[int, datetime]] = defaultdict(dict)
    for row in rows:
        grant = grants.get(row["integration_id"])
        if grant is not None and grant.reason and grant.next_at:
            held[grant.reason][row["lane_id"]] = grant.next_at
    if len(held) > 1:
        await db.execute(queries.lock_lanes, [lane for until in held.values() for lane in until])
    for reason, until in held.items():
        await lanes.hold(db, list(until), list(until.values()), reason)
    return Bells(wake_at={at for until in held.values() for at in until.values()})


async def name_probes(db: Connection, chosen: Sequence[Row], grants: dict[UUID, Grant]) -> None:
    """Say which of the chosen effects are the probes of half-open breakers."""
    for row in chosen:
        grant = grants.get(row["integration_id"])
        if grant is not None and grant.is_probe:
            await db.execute(queries.name_probe, row["integration_id"], row["id"])


@dataclass(slots=True)
class Rota:
    """Hands out what is granted, lane by lane in turn.

    The lane that was served longest ago comes first: where an integration has one call at a
    time to give, its lanes still take turns.
    """

    _served: dict[int, int] = field(default_factory=dict)
    _count: int = 0

    def choose(self, rows: Sequence[Row], grants: dict[UUID, Grant]) -> list[Row]:
        """Give the rows that may go: all without an integration, of others so many as granted."""
        chosen = [row for row in rows if row["integration_id"] not in grants]
        limited: dict[UUID, list[Row]] = defaultdict(list)
        for row in rows:
            if row["integration_id"] in grants:
                limited[row["integration_id"]].append(row)
        for integration, asking in limited.items():
            count = grants[integration].count
            chosen += asking if count >= len(asking) else self._share(asking, count)
        return chosen

    def _share(self, rows: Sequence[Row], count: int) -> list[Row]:
        by_lane: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_lane[row["lane_id"]].append(row)
        # Which of those that were never served is first is left to chance, as workers differ.
        first = sorted(by_lane, key=lambda lane: (self._served.get(lane, 0), random.random()))  # noqa: S311 - no secret
        rounds = zip_longest(*(by_lane[lane] for lane in first))
        taken = [row for one_each in rounds for row in one_each if row is not None][:count]
        for row in taken:
            self._note(row["lane_id"])
        return taken

    def _note(self, lane: int) -> None:
        self._count += 1
        self._served.pop(lane, None)  # to the end, so that the first is the oldest
        self._served[lane] = self._count
        if len(self._served) > LANES_REMEMBERED:
            del self._served[next(iter(self._served))]
