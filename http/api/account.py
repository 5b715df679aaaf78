"""The account itself: what its texts, dates and phone numbers are read by."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from aiohttp import web
from babel.numbers import list_currencies
from phonenumbers import SUPPORTED_REGIONS
from pydantic import Field

from actors.fields import PlainText
from actors.rendered import UnusableError, zone_of
from api.access import Permission
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Name, checked, left_out
from api.resources import Resource
from api.shown import Shown
from sql import load

_CURRENCIES: Final = frozenset(list_currencies())


def _zone(name: str) -> str:
    return zone_of(name, "time_zone").key


def currency_of(code: str) -> str:
    """Check the code of a currency (ISO 4217); UnusableError: currency_unknown."""
    if code not in _CURRENCIES:
        raise UnusableError("currency_unknown", "there is no such currency, such as EUR")
    return code


def _country(code: str) -> str:
    if code not in SUPPORTED_REGIONS:
        raise UnusableError("country_unknown", "there is no such country, such as DE")
    return code


class AccountChange(Body):
    """What is to be different; what is stored already is not read anew.

    `postal_address` is what marketing mail must carry; it keeps its line breaks.
    """

    name: Name = left_out()
    time_zone: Annotated[str, checked(_zone)] = left_out()
    currency: Annotated[str, checked(currency_of)] = left_out()
    country: Annotated[str, checked(_country)] = left_out()
    postal_address: Annotated[PlainText, Field(max_length=1000)] = left_out()


class ShownAccount(Shown):
    """An account; one for tests sends nothing beyond this machine."""

    id: UUID
    name: str
    time_zone: str
    currency: str
    country: str
    postal_address: str
    is_test: bool
    created_at: datetime
    updated_at: datetime


ACCOUNT: Final = Resource(
    "account",
    "/api/v1/account",
    load("api_account"),
    ("name", "time_zone", "currency", "country", "postal_address"),
    is_own=True,
)


async def read(call: Call) -> web.Response:
    """Read the account that the caller belongs to."""
    return await ACCOUNT.read(call)


async def change(call: Call) -> web.Response:
    """Rename the account, or change its time zone, currency, country or postal address."""
    return await ACCOUNT.change(call, await call.body(AccountChange))


ROUTES: Final = (
    Route("GET", ACCOUNT.path, read, Permission.READ, answers={200: ShownAccount}),
    Route(
        "PATCH",
        ACCOUNT.path,
        change,
        Permission.EDIT_SETTINGS,
        AccountChange,
        answers={200: ShownAccount},
        problems=frozenset({409}),
    ),
)
