"""What a million sleeping executions cost: throughput, wake-up lag, a herd, a paused backlog."""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from bench._held import claim_ms
from bench._journey import ACTIONS, Journey, prepare
from bench._reporting import Report, percentile
from bench._sleeping import Sleepers, put_to_sleep, spread
from bench._through import through
from bench._worker import running
from bench._world import World, new_world
from runtime.clock import current_instant
from runtime.settings import Settings

YEAR: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    sleepers: int
    herd: int
    held: int
    waits: int
    """Waits that fall due in the near future, for the lag."""
    seconds: int
    """The time over which those fall due."""
    contacts: int
    """Contacts of one round of the throughput."""
    rounds: int
    """Rounds, by turns without and with sleepers; the median counts."""

    @property
    def people(self) -> int:
        """Contacts that a world needs."""
        return max(self.contacts * self.rounds, self.herd, self.waits)


FULL: Final = Sizes(
    sleepers=1_000_000, herd=10_000, held=100_000, waits=1_000, seconds=20, contacts=8_000, rounds=3
)
SMALL: Final = Sizes(
    sleepers=2_000, herd=200, held=1_000, waits=40, seconds=2, contacts=100, rounds=1
)


class WrongResultError(Exception):
    """Something was lost or done twice."""


def main(settings: Settings, *, json: bool, small: bool, argv: list[str]) -> int:
    """Measure and report; exit code 1 if anything was lost or done twice."""
    argparse.ArgumentParser(prog="run.py bench sleepers").parse_args(argv)
    report = Report("sleepers", json=json)
    try:
        return asyncio.run(_measure(settings, report, SMALL if small else FULL))
    except WrongResultError as error:
        return report.fail([str(error)])


async def _measure(settings: Settings, report: Report, sizes: Sizes) -> int:
    async with (
        new_world(settings, contacts=sizes.people) as alone,
        new_world(settings, contacts=sizes.people) as beside,
    ):
        report.say(f"seeding {sizes.sleepers:,} sleeping executions")
        far = await current_instant(beside.pool) + timedelta(hours=1)
        await put_to_sleep(beside, "far", spread(far, YEAR, sizes.sleepers))
        without, with_ = await _rates(report, alone, beside, sizes)
        lag_without = await _lag(report, alone, sizes)
        lag = await _lag(report, beside, sizes)
        herd_s = await _herd(report, beside, sizes)
        report.say(f"claims behind {sizes.held:,} steps of a paused workflow")
        empty_ms, held_ms = await claim_ms(alone, held=sizes.held)
        conditions = {
            "sleepers": sizes.sleepers,
            "herd": sizes.herd,
            "held": sizes.held,
            "waits": sizes.waits,
            "contacts": sizes.contacts,
            **await beside.conditions(),
        }
    figures: dict[str, Any] = {
        "without_per_s": round(without, 1),
        "with_per_s": round(with_, 1),
        "slowdown": round(1 - with_ / without, 3),
        "lag_p50_s": round(percentile(lag, 0.5), 3),
        "lag_p99_s": round(percentile(lag, 0.99), 3),
        "lag_without_p50_s": round(percentile(lag_without, 0.5), 3),
        "lag_without_p99_s": round(percentile(lag_without, 0.99), 3),
        "herd_s": round(herd_s, 3),
        "empty_ms": round(empty_ms, 2),
        "held_ms": round(held_ms, 2),
    }
    report.table(f"{sizes.sleepers:,} sleepers", ["what", "value"], list(figures.items()))
    return report.finish(figures, conditions)


async def _rates(report: Report, alone: World, beside: World, sizes: Sizes) -> tuple[float, float]:
    """Actions per second without and with sleepers, measured by turns."""
    journeys = [await prepare(alone), await prepare(beside)]
    rates: list[list[float]] = [[], []]
    for journey in journeys:
        await journey.world.settle()
    for number in range(sizes.rounds):
        people = slice(number * sizes.contacts, (number + 1) * sizes.contacts)
        for journey, found in zip(journeys, rates, strict=True):
            report.say(f"throughput, round {number + 1}: {sizes.contacts:,} contacts")
            found.append(await _rate(journey, journey.world.contact_ids[people]))
    for journey in journeys:
        done = journey.world.contact_ids[: sizes.rounds * sizes.contacts]
        _refuse(await journey.complaints(done))
    return statistics.median(rates[0]), statistics.median(rates[1])


async def _rate(journey: Journey, contact_ids: Sequence[UUID]) -> float:
    async with running(journey.world) as worker:
        seconds = await through(journey, worker, contact_ids)
    return len(contact_ids) * len(ACTIONS) / seconds


async def _lag(report: Report, world: World, sizes: Sizes) -> list[float]:
    report.say(f"lag of {sizes.waits:,} waits within {sizes.seconds} s")
    async with running(world) as worker:
        begin = await current_instant(world.pool) + timedelta(seconds=2)
        span = timedelta(seconds=sizes.seconds)
        sleepers = await put_to_sleep(world, "near", spread(begin, span, sizes.waits))
        await sleepers.wake_up(worker)
        return await _lags(sleepers)


async def _herd(report: Report, world: World, sizes: Sizes) -> float:
    report.say(f"{sizes.herd:,} waits due at one instant")
    async with running(world) as worker:
        # Late enough that all of them are asleep by then.
        due = await current_instant(world.pool) + timedelta(seconds=2 + sizes.herd / 1000)
        sleepers = await put_to_sleep(world, "herd", [due] * sizes.herd)
        if await current_instant(world.pool) >= due:
            raise WrongResultError("the herd was due before it slept: this machine is too busy")
        awake_at = await sleepers.wake_up(worker)
        await _lags(sleepers)
    return (awake_at - due).total_seconds()


async def _lags(sleepers: Sleepers) -> list[float]:
    _refuse(await sleepers.complaints())
    lags = await sleepers.lags()
    if min(lags) < 0:
        raise WrongResultError("a wait was over before its instant")
    return lags


def _refuse(complaints: Sequence[str]) -> None:
    if complaints:
        raise WrongResultError("; ".join(complaints))
