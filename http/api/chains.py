"""The order of a workflow's actions: where one goes, and the positions and links that follow.

Pure: takes the rows of the live actions, gives new orders and the rows that must change. The
trunk (branch None) and every branch are chains of their own, each counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from api.problems import invalid
from runtime.configuration import Fault

Orders = dict[UUID | None, list[UUID]]
"""The ids of the actions of each chain, in order."""

Row = Mapping[str, Any]
"""A row of an action."""


class Link(NamedTuple):
    """Where an action stands."""

    id: UUID
    branch_id: UUID | None
    position: int
    previous_id: UUID | None
    next_id: UUID | None


def orders_of(rows: Iterable[Row]) -> Orders:
    """Read the orders from rows that are sorted by position within each chain."""
    orders: Orders = {}
    for row in rows:
        orders.setdefault(row["branch_id"], []).append(row["id"])
    return orders


def links(orders: Orders) -> dict[UUID, Link]:
    """Compute positions and links from the orders."""
    return {
        id_: Link(id_, branch_id, position, previous_id, next_id)
        for branch_id, ids in orders.items()
        for position, (id_, previous_id, next_id) in enumerate(
            zip(ids, [None, *ids], [*ids[1:], None], strict=False)
        )
    }


def changed(rows: Iterable[Row], after: Mapping[UUID, Link]) -> list[Link]:
    """Give the links that the rows are to have, of those that it moves or links differently."""
    found = []
    for row in rows:
        link = after.get(row["id"])
        if link is not None and link != _link(row):
            found.append(link)
    return found


def columns(links: Sequence[Link]) -> tuple[list[Any], ...]:
    """Give ids, branches, positions, preceding and following ids, as the SQL unnests them."""
    return tuple(list(column) for column in zip(*links, strict=True)) or ([], [], [], [], [])


def _link(row: Row) -> tuple[Any, ...]:
    """What `Link` holds; a plain tuple, since it is made of every row at every change."""
    return (
        row["id"],
        row["branch_id"],
        row["position"],
        row["previous_action_id"],
        row["next_action_id"],
    )


def without(orders: Orders, id_: UUID) -> Orders:
    """Take an action out; those behind it move up."""
    return {branch: [i for i in ids if i != id_] for branch, ids in orders.items()}


def place(
    orders: Orders,
    id_: UUID,
    *,
    position: int | None,
    previous_id: UUID | None,
    branch_id: UUID | None,
) -> Orders:
    """Put an action in at a position or behind another one; at the end if neither is said.

    Without a branch it goes where the preceding action is, or to the trunk. A 422 Problem where
    what is said does not fit together.
    """
    if previous_id is not None:
        home = next((branch for branch, ids in orders.items() if previous_id in ids), _NOWHERE)
        if home == _NOWHERE or (branch_id is not None and home != branch_id):
            message = "The preceding action is none of this workflow, or stands in another branch."
            raise invalid(Fault("previous_action_id", "previous_action_unknown", message))
        branch_id = home
    chain = orders.get(branch_id, [])
    index = _index(chain, position, previous_id)
    return {**orders, branch_id: [*chain[:index], id_, *chain[index:]]}


_NOWHERE = UUID(int=0)


def _index(chain: Sequence[UUID], position: int | None, previous_id: UUID | None) -> int:
    if position is not None and position > len(chain):
        message = f"The position must be {len(chain)} at most: positions count from 0 without gaps."
        raise invalid(Fault("position", "position_out_of_range", message))
    if previous_id is None:
        return len(chain) if position is None else position
    behind = chain.index(previous_id) + 1
    if position not in {None, behind}:
        message = f"Behind the given preceding action the position is {behind}."
        raise invalid(Fault("position", "position_disagrees", message))
    return behind


def reordered(orders: Orders, branch_id: UUID | None, ids: Sequence[UUID]) -> Orders:
    """Put one chain into a new order, which must name each of its actions exactly once."""
    wanted, present = set(ids), set(orders.get(branch_id, []))
    if len(wanted) < len(ids):
        raise invalid(Fault("action_ids", "action_named_twice", "An action is named twice."))
    if wanted != present:
        message = (
            f"Name every action of this chain: {len(present - wanted)} are left out, "
            f"{len(wanted - present)} are not in it."
        )
        raise invalid(Fault("action_ids", "not_a_permutation", message))
    return {**orders, branch_id: list(ids)}
