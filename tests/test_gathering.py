"""Requests whose work is done together: nobody waits for nothing, and nobody harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from api.gathering import FullError, Gathering


class Counter:
    """Doubles numbers once it may; refuses the batches in which a number raises."""

    def __init__(self, error: type[Exception] = ValueError) -> None:
        self.batches: list[list[int]] = []
        self.may = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.error = error

    async def double(self, numbers: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(numbers))
        self.has_begun.set()
        await self.may.wait()
        if 13 in numbers:
            raise self.error
        return [2 * number for number in numbers]


async def test_what_comes_meanwhile_is_the_next_batch() -> None:
    counter = Counter()
    gathering = Gathering(counter.double, 3)
    first = gathering.bring(1)
    await counter.has_begun.wait()
    others = [gathering.bring(number) for number in (2, 3, 4, 5)]
    assert gathering.unanswered == 5
    counter.may.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8, 10]
    assert counter.batches == [[1], [2, 3, 4], [5]]


async def test_a_bad_one_takes_no_other_along() -> None:
    counter = Counter()
    counter.may.set()
    gathering = Gathering(counter.double, 10, alone=(ValueError,))
    answers = await asyncio.gather(*map(gathering.bring, (1, 13, 3)), return_exceptions=True)
    assert [answers[0], type(answers[1]), answers[2]] == [2, ValueError, 6]


async def test_an_error_that_is_everybody_s_is_not_tried_again() -> None:
    counter = Counter(ConnectionResetError)
    counter.may.set()
    gathering = Gathering(counter.double, 10, alone=(ValueError,))
    answers = await asyncio.gather(*map(gathering.bring, (1, 13, 3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionResetError] * 3
    assert counter.batches == [[1, 13, 3]]


async def test_who_has_gone_is_done_for_and_holds_up_nobody() -> None:
    counter = Counter()
    gathering = Gathering(counter.double, 10)
    gone, stays = gathering.bring(1), gathering.bring(2)
    await counter.has_begun.wait()
    gone.cancel()
    counter.may.set()
    assert await stays == 4


async def test_too_many_are_refused() -> None:
    counter = Counter()
    gathering = Gathering(counter.double, 10, most_waiting=2)
    brought = [gathering.bring(1), gathering.bring(2)]
    with pytest.raises(FullError):
        await gathering.bring(3)
    counter.may.set()
    assert await asyncio.gather(*brought) == [2, 4]
