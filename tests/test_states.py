"""The state table of a step: no way leads out of a final state, and SQL knows the same words."""

import re
from typing import get_args

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import states
from runtime.records import AttemptOutcome
from runtime.states import FINAL, STATUSES, TRANSITIONS, IllegalTransitionError, Status


@given(st.sampled_from(sorted(FINAL)), st.sampled_from(sorted(STATUSES)))
def test_no_way_leads_out_of_a_final_state(final: Status, after: Status) -> None:
    with pytest.raises(IllegalTransitionError, match=f"from {final} to {after}"):
        states.check(final, after)


@given(st.lists(st.sampled_from(sorted(STATUSES)), max_size=12))
def test_a_walk_along_the_table_ends_with_its_first_final_state(walk: list[Status]) -> None:
    before: Status | None = None
    for number, after in enumerate(walk):
        try:
            states.check(before, after)
        except IllegalTransitionError:
            return
        assert before not in FINAL, walk[:number]
        before = after


def test_every_state_is_reached_and_every_other_one_can_end() -> None:
    assert set(TRANSITIONS) == {None, *STATUSES}
    assert frozenset().union(*TRANSITIONS.values()) == STATUSES
    for status in STATUSES - FINAL:
        assert _reaches(status) >= FINAL


def _reaches(status: Status) -> set[Status]:
    seen: set[Status] = set()
    ahead = [status]
    while ahead:
        fresh = TRANSITIONS[ahead.pop()] - seen
        seen |= fresh
        ahead += fresh
    return seen


def test_sleeping_and_waiting_steps_become_ready_before_anything_else() -> None:
    assert TRANSITIONS["scheduled"] == TRANSITIONS["waiting"] == {"pending", "skipped"}


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("valid_execution_status", STATUSES),
        ("attempt_has_known_outcome", {*get_args(AttemptOutcome), "started", "lost"}),
    ],
)
async def test_the_schema_knows_the_same_words_as_the_table(
    conn: asyncpg.Connection, constraint: str, words: frozenset[str]
) -> None:
    definition = await conn.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint
    )
    assert set(re.findall(r"'(\w+)'", definition)) == words
