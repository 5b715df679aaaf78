"""Currencies: which codes there are (ISO 4217, as Unicode's CLDR lists them)."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from babel.numbers import list_currencies
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from runtime.configuration import did_you_mean


@cache
def _codes() -> frozenset[str]:
    return frozenset(list_currencies())


def _known(code: str) -> str:
    if code not in _codes():
        reason = f"there is no such currency.{did_you_mean(code, _codes())}"
        raise PydanticCustomError("currency_unknown", "{reason}", {"reason": reason})
    return code


Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$"), AfterValidator(_known)]
"""A currency by its code, such as EUR."""
