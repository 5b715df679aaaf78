"""All filters and tests of the template language, in one place.

Each is bounded: by the length of its input, or by checking the length of its result before making
it. Left out on purpose, because they make much out of little, run code that cannot be stopped, or
reach into objects: attr, batch, center, filesizeformat, format, groupby, indent, list, map, pprint,
random, safe, select, slice, sort, striptags, sum, urlize, wordcount, wordwrap, xmlattr.
To add one: write a function here, put it into FILTERS, and spend from the budget what it costs.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from decimal import Context as Precision
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec
from urllib.parse import quote
from zoneinfo import ZoneInfo

import phonenumbers
from arrow.formatter import DateTimeFormatter
from jinja2 import filters as jinja_filters
from jinja2 import pass_context
from markupsafe import Markup
from markupsafe import escape as escape_markup

from runtime.template_limits import Budget, TemplateError, check_length
from runtime.template_operators import RenderContext, calculate, joined
from runtime.template_values import (
    MISSING,
    Number,
    is_container,
    is_list,
    is_missing,
    json_text,
    kind_of,
    look_up,
    number_of,
    text_of,
)

P = ParamSpec("P")

_DATE_TOKENS: Final = DateTimeFormatter("en_us")
_LONGEST_PATTERN: Final = 100
_LONGEST_DATE: Final = 40
_LONGEST_PHONE: Final = 40
_MOST_DIGITS: Final = 12
# Wide enough for the largest number with the most decimals: rounding is exact, never "too precise".
_PRECISION: Final = Precision(prec=400)
_ROUNDINGS: Final = {"common": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
_PHONE_STYLES: Final = {
    "national": phonenumbers.PhoneNumberFormat.NATIONAL,
    "international": phonenumbers.PhoneNumberFormat.INTERNATIONAL,
    "e164": phonenumbers.PhoneNumberFormat.E164,
}


def _text_filter(
    function: Callable[Concatenate[str, P], str], *, cost: int = 1
) -> Callable[..., str]:
    """Make a filter of a function from text to text; `cost` is its price against a plain copy."""

    @pass_context
    @wraps(function)
    def bounded(context: RenderContext, value: object, *args: P.args, **kwargs: P.kwargs) -> str:
        text = text_of(value, context.budget)
        context.budget.spend_text(len(text) * cost)
        result = function(text, *args, **kwargs)
        check_length(len(result))
        context.budget.spend_text(len(result))
        return result

    return bounded


# --- text ----------------------------------------------------------------------------------------


def _trim(text: str) -> str:
    """Drop white space at both ends (only that: a set of characters would cost n × m)."""
    return text.strip()


def _urlencode(text: str) -> str:
    """Quote for an address; `/` stays."""
    return quote(text)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    """Replace `old` by `new`, at most `count` times: {{ contact.phone | replace('-', '') }}."""
    found = text.count(old) if count < 0 else min(text.count(old), count)
    check_length(len(text) + found * (len(new) - len(old)))
    return text.replace(old, new, count)


def _truncate(text: str, length: int = 255, killwords: bool = False, end: str = "…") -> str:
    """Shorten to `length` characters including `end`, at a word's end unless `killwords`."""
    if len(text) <= length:
        return text
    kept = text[: max(length - len(end), 0)]
    return (kept if killwords else kept.rsplit(" ", 1)[0]) + end


def _phone_format(text: str, style: str = "national", region: str = "US") -> str:
    """Write a phone number in the style national, international or e164.

    `region` is the country of numbers without +. What is no phone number stays as it is.
    """
    if style not in _PHONE_STYLES:
        raise TemplateError("template_failed", f"phone_format knows {', '.join(_PHONE_STYLES)}")
    try:
        number = phonenumbers.parse(text[:_LONGEST_PHONE], region)
    except phonenumbers.NumberParseException:
        return text
    if len(text) > _LONGEST_PHONE or not phonenumbers.is_possible_number(number):
        return text
    return phonenumbers.format_number(number, _PHONE_STYLES[style])


@pass_context
def _escape(context: RenderContext, value: object) -> Markup:
    """Escape for HTML, once: {{ contact.note | escape }}."""
    text = text_of(value, context.budget)
    context.budget.spend_text(len(text) * 2)
    return escape_markup(text)


@pass_context
def _tojson(context: RenderContext, value: object) -> str:
    """Write as JSON, text in quotes; null for missing values."""
    return json_text(None if is_missing(value) else value, context.budget)


# --- any value -----------------------------------------------------------------------------------


def _default(value: object, default_value: object = "", boolean: bool = False) -> object:
    """Take `default_value` for a missing value or None; with `boolean` also for anything empty."""
    return default_value if is_missing(value) or (boolean and not value) else value


def _length(value: object) -> int:
    """Count characters or items; 0 for missing values."""
    if is_missing(value):
        return 0
    if isinstance(value, str) or is_container(value):
        return len(value)
    raise TemplateError("template_failed", f"{kind_of(value)} has no length")


def _first(value: object) -> Any:
    """Take the first item or character; empty if there is none."""
    return look_up(value, 0) if isinstance(value, str) or is_list(value) else MISSING


def _last(value: object) -> Any:
    """Take the last item or character; empty if there is none."""
    return look_up(value, -1) if isinstance(value, str) or is_list(value) else MISSING


@pass_context
def _join(
    context: RenderContext, value: object, separator: str = "", attribute: str | None = None
) -> str:
    """Join a list's items, or one field of each: {{ contact.tags | join(', ') }}."""
    if is_missing(value):
        return ""
    if not is_list(value):
        raise TemplateError("template_failed", f"join needs a list, {kind_of(value)} is none")
    context.budget.spend(3 * len(value))
    check_length(len(value) * len(separator))
    parts: list[object] = []
    for item in value:
        parts += (separator, item if attribute is None else look_up(item, attribute))
    return joined(parts[1:], context.budget)


# --- numbers -------------------------------------------------------------------------------------


def _rounded(number: Number, digits: int, rounding: str) -> Decimal:
    if not -_MOST_DIGITS <= digits <= _MOST_DIGITS:
        raise TemplateError("template_failed", f"at most {_MOST_DIGITS} digits can be rounded to")
    # repr of a float is its shortest exact name: 2.675 rounds to 2.68 as people expect.
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    return exact.quantize(Decimal(1).scaleb(-digits), rounding, _PRECISION)


def _round(value: object, precision: int = 0, method: str = "common") -> Any:
    """Round half away from zero, or up, or down; a whole number if `precision` is 0 or less."""
    if is_missing(value):
        return MISSING
    if method not in _ROUNDINGS:
        raise TemplateError("template_failed", f"round knows {', '.join(_ROUNDINGS)}")
    number = number_of(value)
    result = _rounded(number, precision, _ROUNDINGS[method])
    if precision <= 0:
        return int(result)
    return float(result) if isinstance(number, float) else result


def _int(value: object, default: int = 0) -> int:
    """Read a whole number, cutting decimals off; `default` for what is no number."""
    try:
        return int(number_of(value))
    except (TemplateError, ValueError, OverflowError):
        return default


def _float(value: object, default: float = 0.0) -> float:
    """Read a decimal number; `default` for what is no number."""
    try:
        return float(number_of(value))
    except (TemplateError, ValueError, OverflowError):
        return default


def _abs(value: object) -> Any:
    """Drop the sign."""
    return MISSING if is_missing(value) else abs(number_of(value))


@pass_context
def _number_format(
    context: RenderContext,
    value: object,
    decimals: int = 0,
    decimal_point: str = ".",
    thousands: str = ",",
) -> str:
    """Write with thousands separators: {{ 9800.5 | number_format(2, ',', '.') }} is 9.800,50."""
    if is_missing(value):
        return ""
    context.budget.spend(10 + len(decimal_point) + len(thousands))
    text = f"{_rounded(number_of(value), max(decimals, 0), ROUND_HALF_UP):,f}"
    whole, _, fraction = text.partition(".")
    whole = whole.replace(",", thousands)
    return f"{whole}{decimal_point}{fraction}" if fraction else whole


# --- dates ---------------------------------------------------------------------------------------


@pass_context
def _date_format(
    context: RenderContext, value: object, pattern: str = "YYYY-MM-DD", tz: str | None = None
) -> str:
    """Write a date: {{ workflow.execution_date | date_format('MMMM D, YYYY', tz='Asia/Tokyo') }}.

    Takes dates, instants and ISO 8601 text. Tokens: YYYY YY MMMM MMM MM M DDDD DDD (of the year)
    DD D Do dddd ddd d W HH H hh h mm m ss s S to SSSSSS A a ZZZ ZZ Z X x, and [literal text].
    With `tz` an instant is shown in that zone (one without a zone is taken as UTC); a plain date
    never moves. Empty for missing values.
    """
    if is_missing(value) or value == "":
        return ""
    context.budget.spend(20)
    if len(pattern) > _LONGEST_PATTERN:
        raise TemplateError("template_too_costly", "the date pattern is too long")
    moment = _moment(value)
    if isinstance(moment, datetime):
        if tz is not None:
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(_zone(tz))
    else:
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return _DATE_TOKENS.format(moment, pattern)


def _moment(value: object) -> date:
    if isinstance(value, date):
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_DATE:
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return read(value.strip())
            except ValueError:
                continue
    raise TemplateError("template_failed", f"{kind_of(value)} is not a date")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # ValueError: a path that leaves the zone database; OSError: a folder, or a name too long.
        raise TemplateError("template_failed", "there is no such time zone") from None


# --- tests: {% if x is … %} ----------------------------------------------------------------------


def _divisible(value: object, by: object) -> bool:
    # number_of also because Jinja's own test is `value % 2`, which formats text: '%999999999d'.
    if is_missing(value):
        return False
    return bool(calculate("%", number_of(value), number_of(by), Budget()) == 0)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": _abs,
    "capitalize": _text_filter(str.capitalize),
    "d": _default,
    "date_format": _date_format,
    "default": _default,
    "e": _escape,
    "escape": _escape,
    "first": _first,
    "float": _float,
    "int": _int,
    "join": _join,
    "last": _last,
    "length": _length,
    "lower": _text_filter(str.lower),
    "number_format": _number_format,
    "phone_format": _text_filter(_phone_format, cost=1000),
    "replace": _text_filter(_replace, cost=4),
    "round": _round,
    "title": _text_filter(jinja_filters.do_title, cost=60),
    "tojson": _tojson,
    "trim": _text_filter(_trim),
    "truncate": _text_filter(_truncate),
    "upper": _text_filter(str.upper),
    "urlencode": _text_filter(_urlencode, cost=20),
}

TESTS: Final[Mapping[str, Callable[..., bool]]] = {
    "boolean": lambda value: isinstance(value, bool),
    "defined": lambda value: not is_missing(value),
    "divisibleby": _divisible,
    "even": lambda value: _divisible(value, 2),
    "none": is_missing,
    "number": lambda value: isinstance(value, int | float | Decimal),
    "odd": lambda value: not is_missing(value) and not _divisible(value, 2),
    "string": lambda value: isinstance(value, str),
    "undefined": is_missing,
}
