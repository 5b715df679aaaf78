"""What is kept for some seconds: read once by all who miss it, never older, never too much."""

from __future__ import annotations

import asyncio

import pytest

from runtime.kept import Kept


class Shelf:
    """Counts who reads what; 13 cannot be read."""

    def __init__(self) -> None:
        self.reads: list[int] = []

    async def read(self, key: int) -> int | None:
        self.reads.append(key)
        await asyncio.sleep(0)
        if key == 13:
            raise ValueError
        return None if key == 0 else 2 * key


async def test_of_all_who_miss_a_key_one_reads_it() -> None:
    shelf = Shelf()
    kept = Kept(shelf.read, seconds=3600, most=10)
    given = await asyncio.gather(*(kept.get(key) for key in (0, 1, 2) * 20))
    assert given == [None, 2, 4] * 20
    assert sorted(shelf.reads) == [0, 1, 2]


async def test_what_is_not_fresh_is_read_again_and_errors_are_not_kept() -> None:
    shelf = Shelf()
    stale = Kept(shelf.read, seconds=-1, most=10)
    assert [await stale.get(1), await stale.get(1)] == [2, 2]
    fresh = Kept(shelf.read, seconds=3600, most=10)
    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011 (it says nothing)
            await fresh.get(13)
    assert shelf.reads == [1, 1, 13, 13]


async def test_no_more_than_so_many_are_kept() -> None:
    shelf = Shelf()
    kept = Kept(shelf.read, seconds=3600, most=3)
    for key in range(20, 120):
        await kept.get(key)
    assert len(kept._kept) <= 3
    assert len(kept._reading) <= 3
