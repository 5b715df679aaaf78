"""Rounds: who of a team, or of all users of an account, is given the next contact.

A round's cursor row is locked until the batch commits, so that concurrent batches take turns.
The members are read in a statement after that lock.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from runtime.stage import Stage
from sql import load

queries = load("assign_to_user")

RoundKey = tuple[UUID, UUID | None]
"""Account and team; no team: all users of the account."""


@dataclass(slots=True)
class Round:
    """The available users of a round in the order of their ids, and who was given one last.

    `loads` are open tasks plus owned open opportunities, aligned with `users`.
    """

    users: Sequence[UUID]
    loads: Sequence[int]
    last: UUID | None = None
    last_least_busy: UUID | None = None
    _queue: list[tuple[int, int]] = field(default_factory=list)
    _first: int = 0

    def next_in_turn(self) -> UUID | None:
        """Give the user after the last one, in a circle; None if nobody is available.

        Of n calls over m users, in this batch and the next ones, each gets n/m, rounded up or down.
        """
        if self.users:
            self.last = self.users[self._after(self.last)]
            return self.last
        return None

    def next_least_busy(self) -> UUID | None:
        """Give the user with the least load, counting what this batch gave; None if there is none.

        Equally busy users take turns, from the one after the last on.
        """
        if not self.users:
            return None
        if not self._queue:
            # (load, turns from the cursor on); a sorted list is a heap.
            self._first, n = self._after(self.last_least_busy), len(self.users)
            self._queue = sorted((load, (i - self._first) % n) for i, load in enumerate(self.loads))
        load, turn = self._queue[0]
        heapq.heapreplace(self._queue, (load + 1, turn))
        self.last_least_busy = self.users[(self._first + turn) % len(self.users)]
        return self.last_least_busy

    def _after(self, user_id: UUID | None) -> int:
        # The last user may be gone or unavailable by now: the place in the order is what counts.
        return bisect_right(self.users, user_id) % len(self.users) if user_id else 0


async def begin(
    stage: Stage, keys: Collection[RoundKey], with_load: Collection[RoundKey]
) -> dict[RoundKey, Round]:
    """Lock the cursors of rounds and read their members; a key of an unknown team is left out."""
    wanted = list(keys)
    cursors = {
        (row["account_id"], row["team_id"]): row
        for row in await stage.db.fetch(queries.lock_cursors, *_columns(wanted))
    }
    found = list(cursors)
    members: list[list[tuple[UUID, int]]] = [[] for _ in found]
    for row in await stage.db.fetch(
        queries.find_available_members,
        list(range(len(found))),
        *_columns(found),
        [key in with_load for key in found],
    ):
        members[row["round"]].append((row["id"], row["load"]))
    return {
        key: Round(
            [user for user, _ in of_round],
            [load for _, load in of_round],
            cursors[key]["last_user_id"],
            cursors[key]["last_least_busy_user_id"],
        )
        for key, of_round in zip(found, members, strict=True)
    }


async def end(stage: Stage, rounds: Mapping[RoundKey, Round]) -> None:
    """Write the cursors of rounds down."""
    await stage.db.execute(
        queries.move_cursors,
        *_columns(list(rounds)),
        [r.last for r in rounds.values()],
        [r.last_least_busy for r in rounds.values()],
    )


def _columns(keys: Sequence[RoundKey]) -> tuple[list[UUID], list[UUID | None]]:
    return [account for account, _ in keys], [team for _, team in keys]
