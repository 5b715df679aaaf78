"""The order of actions: whatever is done to it, every chain stays whole."""

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from api import chains
from api.problems import Problem

BRANCHES = (None, UUID(int=1001), UUID(int=1002))
IDS = st.integers(0, 9).map(lambda n: UUID(int=n + 1))

STEPS = st.one_of(
    st.tuples(
        st.just("place"),
        IDS,
        st.none() | st.integers(0, 6),
        st.none() | IDS,
        st.sampled_from(BRANCHES),
    ),
    st.tuples(st.just("delete"), IDS),
    st.tuples(st.just("reorder"), st.sampled_from(BRANCHES), st.randoms(use_true_random=False)),
)


def rows_of(orders: chains.Orders) -> dict[UUID, dict[str, Any]]:
    return {
        link.id: {
            "id": link.id,
            "branch_id": link.branch_id,
            "position": link.position,
            "previous_action_id": link.previous_id,
            "next_action_id": link.next_id,
        }
        for link in chains.links(orders).values()
    }


def applied(orders: chains.Orders, step: tuple[Any, ...]) -> chains.Orders:
    match step:
        case ("place", id_, position, previous_id, branch_id):
            return chains.place(
                chains.without(orders, id_),
                id_,
                position=position,
                previous_id=previous_id,
                branch_id=branch_id,
            )
        case ("delete", id_):
            return chains.without(orders, id_)
        case _:
            _, branch_id, random = step
            ids = list(orders.get(branch_id, []))
            random.shuffle(ids)
            return chains.reordered(orders, branch_id, ids)


@given(st.lists(STEPS, max_size=25))
def test_the_rows_that_change_are_those_that_must(steps: list[tuple[Any, ...]]) -> None:
    """Writing only `changed` rows leaves the table as if all had been written."""
    orders: chains.Orders = {}
    table: dict[UUID, dict[str, Any]] = {}
    for step in steps:
        try:
            orders = applied(orders, step)
        except Problem as problem:
            assert problem.status == 422  # noqa: PT017 (most steps are no problem)
            continue
        whole = rows_of(orders)
        table = {id_: table.get(id_, whole[id_]) for id_ in whole}
        for link in chains.changed(table.values(), chains.links(orders)):
            assert table[link.id] != whole[link.id]
            table[link.id] = whole[link.id]
        assert table == whole
        live = sorted(table.values(), key=lambda row: (str(row["branch_id"]), row["position"]))
        assert {b: ids for b, ids in chains.orders_of(live).items() if ids} == {
            b: ids for b, ids in orders.items() if ids
        }
        for ids in orders.values():
            assert [table[id_]["position"] for id_ in ids] == list(range(len(ids)))
