"""Currency rates: the bank's, which are seeded, and an account's own, which come before them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field, WithJsonSchema

from actors.currencies import Currency
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Day
from api.lists import List, Page
from api.problems import invalid
from api.shown import PageOf, Shown
from runtime.configuration import Fault
from sql import load

queries = load("currency_rates")

MOST_RATES: Final = 1_000


# The column is numeric(24, 10).
Rate = Annotated[
    Decimal,
    Field(gt=0, max_digits=24, decimal_places=10),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1e9},
                {"type": "string", "pattern": r"^[1-9]\d{0,12}(\.\d{1,10})?$"},
            ]
        }
    ),
]


class NewRate(Body):
    """How many units of a currency a euro was worth on a day."""

    currency: Currency
    valid_on: Day
    per_euro: Rate


class NewRates(Body):
    """Rates to set; one of the same currency and day is replaced."""

    rates: Annotated[list[NewRate], Field(min_length=1, max_length=MOST_RATES)]


class RatePage(Page):
    """Which rates to list: of one currency, of days from `valid_from` to `valid_to`."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    valid_from: Day | None = None
    valid_to: Day | None = None


class ShownRate(Shown):
    """A rate, as a decimal in text."""

    id: UUID
    currency: str
    valid_on: date
    per_euro: str
    source: Literal["account", "european_central_bank"]


RATES: Final = List(
    queries.rates,
    ShownRate,
    "-valid_on",
    lambda row: {**row, "per_euro": f"{row['per_euro'].normalize():f}"},
)


async def list_all(call: Call) -> web.Response:
    """List rates, newest first: those of the European Central Bank and the account's own."""
    page = call.parameters(RatePage)
    return answer(await RATES.page(call.pool, page, call.account_id))


async def set_rates(call: Call) -> web.Response:
    """Set rates of the account, all or none; of one day they come before the bank's."""
    new = await call.body(NewRates)
    _refuse_what_needs_none(new.rates)
    rows = {(rate.currency, rate.valid_on): rate.per_euro for rate in new.rates}
    columns = zip(*((*key, rate) for key, rate in rows.items()), strict=True)
    async with call.transaction() as db:
        await db.execute(queries.set_rates, call.account_id, *map(list, columns))
        told = [rate.model_dump(mode="json") for rate in new.rates]
        await call.record(db, "currency_rates.set", ("account", call.account_id), None, told)
    return web.Response(status=204)


def _refuse_what_needs_none(rates: list[NewRate]) -> None:
    faults = [
        Fault(f"rates[{number}].currency", "euro_needs_no_rate", "A euro is always worth one.")
        for number, rate in enumerate(rates)
        if rate.currency == "EUR"
    ]
    if faults:
        raise invalid(*faults)


_ALL: Final = "/api/v1/currency-rates"

ROUTES: Final = (
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.READ,
        parameters=RatePage,
        answers={200: PageOf[ShownRate]},
    ),
    Route("PUT", _ALL, set_rates, Permission.EDIT_SETTINGS, NewRates, answers={204: None}),
)
