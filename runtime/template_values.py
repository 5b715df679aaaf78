"""How templates see values: look-ups, text, numbers.

Values are data. A look-up finds keys of mappings and positions of lists, never attributes or
methods of Python objects, so there is nothing to escape to. A missing value and None are the same
thing to a template: they are empty, everything below them is empty, they are false, and arithmetic
with them stays empty.
"""

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final, TypeAlias, TypeGuard

from jinja2 import ChainableUndefined, Undefined
from jinja2.runtime import LoopContext
from markupsafe import Markup

from runtime.template_limits import (
    MAX_DECIMAL_EXPONENT,
    MAX_INTEGER_BITS,
    Budget,
    TemplateError,
    check_length,
)

Number: TypeAlias = int | float | Decimal

LONGEST_NUMERAL: Final = 64
"""Characters of a text that is still read as a number."""


class Missing(ChainableUndefined):
    """A value that is not there: renders empty, is false, and so is everything below it."""

    __slots__ = ()


MISSING: Final = Missing()

_LOOP_FIELDS: Final = frozenset(
    {"index", "index0", "revindex", "revindex0", "first", "last", "length"}
)


def is_missing(value: object) -> bool:
    """Say whether a template treats the value as not there."""
    return value is None or isinstance(value, Undefined)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Say whether the value is a list to templates (text is not one)."""
    return isinstance(value, list | tuple)


def is_container(value: object) -> TypeGuard[Sequence[Any] | Mapping[Any, Any] | AbstractSet[Any]]:
    """Say whether the value holds other values."""
    return isinstance(value, list | tuple | Mapping | AbstractSet)


def look_up(value: object, key: object) -> Any:
    """Find a mapping's key or a list's position; MISSING if there is none."""
    if isinstance(value, dict):
        return value.get(key, MISSING)
    if isinstance(value, Mapping):
        return value.get(key, MISSING)
    if isinstance(key, int) and isinstance(value, str | list | tuple):
        return value[key] if -len(value) <= key < len(value) else MISSING
    if isinstance(value, LoopContext) and key in _LOOP_FIELDS:
        return getattr(value, str(key))
    return MISSING


def text_of(value: object, budget: Budget) -> str:
    """Write a value as text.

    Empty for missing values; ISO 8601 for dates; JSON for true, false, lists and objects (`join`
    makes prose of a list); otherwise what str() gives. Markup stays Markup: it exists only where
    the `escape` filter or the engine itself made it. Raises TemplateError for what is too large.
    """
    if type(value) is str:  # nearly always
        check_length(len(value))
        return value
    match value:
        case Markup():
            text: str = value
        case str():
            # Of subclasses too the text itself: str() of an enumeration gives the member's name.
            text = str.__str__(value)
        case None | Undefined():
            return ""
        case bool():
            return "true" if value else "false"
        case int() | Decimal():
            text = str(bounded(value))
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            text = json_text(value, budget) if is_container(value) else str(value)
    check_length(len(text))
    return text


def json_text(value: object, budget: Budget) -> str:
    """Write a value as JSON, piece by piece, so that a huge one is given up early."""

    def other(item: object) -> object:
        if is_container(item):
            return dict(item) if isinstance(item, Mapping) else list(item)
        return text_of(item, budget)

    pieces: list[str] = []
    length = 0
    # iterencode, unlike encode, never takes the C encoder, which would build everything at once.
    for piece in json.JSONEncoder(ensure_ascii=False, default=other).iterencode(value):
        budget.spend_text(len(piece))
        length += len(piece)
        check_length(length)
        pieces.append(piece)
    return "".join(pieces)


def bounded(number: Number) -> Number:
    """Return the number, or raise template_too_costly if writing it out would take very long."""
    if isinstance(number, int):
        too_large = number.bit_length() > MAX_INTEGER_BITS
    elif isinstance(number, Decimal):
        too_large = number.is_finite() and abs(number.adjusted()) > MAX_DECIMAL_EXPONENT
    else:
        too_large = False
    if too_large:
        raise TemplateError("template_too_costly", "the number is too large")
    return number


def number_of(value: object) -> Number:
    """Read a number, also one that is written as text, as custom fields often are.

    Raises template_failed for anything else, template_too_costly for numbers too large.
    """
    if isinstance(value, int | float | Decimal):
        return bounded(value)
    if isinstance(value, str) and len(value) <= LONGEST_NUMERAL:
        for read in (int, Decimal):
            try:
                return bounded(read(value))
            except (ValueError, ArithmeticError):
                continue
    raise TemplateError("template_failed", f"{kind_of(value)} is not a number")


def kind_of(value: object) -> str:
    """Name the kind of a value for messages, which never quote the value itself."""
    if is_missing(value):
        return "a missing value"
    if isinstance(value, str):
        return "this text"
    if is_list(value) or isinstance(value, AbstractSet):
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"a value of type {type(value).__name__}"
