"""Small batches of a loop that is at it all the time, on a slow machine, leave room."""

import asyncio

import pytest

from runtime import pace
from runtime.pace import Pace


class Time:
    """The clock, and how long the loop has rested; both held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.rested = 0.0
        monkeypatch.setattr("runtime.pace.time.monotonic", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.rested += seconds
        self.now += seconds

    async def go(self, seconds: float, *, batches: int, pause: float, is_small: bool) -> float:
        """Go through batches that take so long; gives the seconds rested."""
        loop = Pace()
        for _ in range(batches):
            await loop.rest()
            began = self.now
            self.now += seconds
            loop.spend(began, is_small=is_small)
            self.now += pause
        return self.rested


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def test_quick_batches_never_rest(time: Time) -> None:
    assert await time.go(0.01, batches=1000, pause=0.0, is_small=True) == 0


async def test_large_batches_never_rest(time: Time) -> None:
    assert await time.go(0.4, batches=100, pause=0.0, is_small=False) == 0


async def test_slow_batches_that_come_rarely_never_rest(time: Time) -> None:
    assert await time.go(0.05, batches=100, pause=1.0, is_small=True) == 0


async def test_slow_small_batches_soon_work_a_small_part_of_the_time(time: Time) -> None:
    began = time.now
    rested = await time.go(0.035, batches=200, pause=0.0, is_small=True)
    # What is beyond QUICK_SECONDS, 0.02 of 0.035 s, may be a tenth of the time.
    assert 0.7 < rested / (time.now - began) < 0.9


async def test_no_rest_is_long(time: Time) -> None:
    loop = Pace()
    began = time.now
    time.now += 60.0
    loop.spend(began, is_small=True)
    await loop.rest()
    assert time.rested == pace.LONGEST_REST
