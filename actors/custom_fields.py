"""An account's custom fields: which there are, and values brought to their types.

Values are stored as JSON: numbers as numbers of at most 15 significant digits (what a JSON number
carries exactly everywhere), dates as YYYY-MM-DD, instants as ISO 8601 in UTC, choices as the
option is written, several choices as a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from difflib import get_close_matches
from typing import Annotated, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from pydantic import Field

from actors.rendered import UnusableError, is_blank, text_of
from runtime.stage import Stage
from sql import load

queries = load("custom_fields")

LONGEST_TEXT: Final = 10_000
_SIGNIFICANT: Final = 15
_LARGEST: Final = Decimal(10) ** _SIGNIFICANT
_SMALLEST_EXPONENT: Final = -30
_NUMERAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_LONGEST_NUMERAL: Final = 64
_WORDS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip

CustomFieldKey = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""The key of a custom field; which keys an account has is known only when the step performs."""


@dataclass(frozen=True, slots=True)
class CustomField:
    """One custom field as its account defined it."""

    key: str
    field_type: str
    options: tuple[str, ...] = ()

    def unusable(self, reason: str) -> UnusableError:
        """Build the error for a value that this field cannot hold."""
        return UnusableError(
            "custom_field_unusable", f"custom_fields.{self.key} ({self.field_type}): {reason}"
        )


CustomFields = Mapping[str, CustomField]


async def custom_fields_of(
    stage: Stage, account_ids: Iterable[UUID]
) -> Mapping[UUID, CustomFields]:
    """Give the custom fields of each of the accounts, by key; one query, none for no account."""
    found: dict[UUID, dict[str, CustomField]] = {account_id: {} for account_id in account_ids}
    rows = await stage.db.fetch(queries.custom_fields_of_accounts, list(found)) if found else []
    for row in rows:
        options = tuple(option for option in row["options"] if isinstance(option, str))
        found[row["account_id"]][row["key"]] = CustomField(row["key"], row["field_type"], options)
    return found


def custom_field(fields: CustomFields, key: str) -> CustomField:
    """Find a field by its key; UnusableError: custom_field_unknown, with the nearest key."""
    if key in fields:
        return fields[key]
    near = get_close_matches(key, fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UnusableError("custom_field_unknown", f"the account has no custom field {key!r}{hint}")


def to_field(field: CustomField, value: Any, zone: ZoneInfo) -> Any:
    """Bring a rendered value to the field's type, as JSON; None when it says nothing.

    Dates and times without a zone are of `zone`, the account's. UnusableError:
    custom_field_unusable, text_too_long.
    """
    return None if is_blank(value) else _READERS[field.field_type](field, value, zone)


def to_number(value: Decimal, field: CustomField) -> int | float:
    """Round to 15 significant digits; UnusableError where magnitude or fineness is beyond them."""
    rounded = Context(prec=_SIGNIFICANT).plus(value)
    if not rounded:
        return 0
    if abs(rounded) >= _LARGEST or rounded.adjusted() < _SMALLEST_EXPONENT:
        raise field.unusable(f"numbers have at most {_SIGNIFICANT} digits")
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)


def to_decimal(field: CustomField, value: Any) -> Decimal:
    """Read a number exactly as it is written, from JSON or text; never from true or false."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    is_numeral = len(text) <= _LONGEST_NUMERAL and _NUMERAL.fullmatch(text)
    if isinstance(value, bool) or not is_numeral:
        raise field.unusable("is no number, such as -1234.5")
    return Decimal(text)


def _text(field: CustomField, value: Any, _zone: ZoneInfo) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise field.unusable("is no text")
    return text_of(str(value), f"custom_fields.{field.key}", LONGEST_TEXT)


def _number(field: CustomField, value: Any, _zone: ZoneInfo) -> int | float:
    return to_number(to_decimal(field, value), field)


def _boolean(field: CustomField, value: Any, _zone: ZoneInfo) -> bool:
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word not in _WORDS:
        raise field.unusable("is neither true nor false")
    return _WORDS[word]


def _instant(field: CustomField, value: Any, zone: ZoneInfo) -> datetime:
    try:
        moment = datetime.fromisoformat(value.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (AttributeError, ValueError, OverflowError):
        raise field.unusable("is not written as in ISO 8601") from None


def _datetime(field: CustomField, value: Any, zone: ZoneInfo) -> str:
    return _instant(field, value, zone).isoformat()


def _date(field: CustomField, value: Any, zone: ZoneInfo) -> str:
    # Plain dates first: at the ends of the calendar they have no instant.
    try:
        return date.fromisoformat(value.strip()).isoformat()
    except (AttributeError, ValueError):
        return _instant(field, value, zone).astimezone(zone).date().isoformat()


def _choice(field: CustomField, value: Any, _zone: ZoneInfo) -> str:
    wanted = str(value).strip()
    for option in field.options:
        if option.casefold() == wanted.casefold():
            return option
    raise field.unusable("is none of the options")


def _choices(field: CustomField, value: Any, zone: ZoneInfo) -> list[str] | None:
    wanted = [part for part in _parts(field, value) if not is_blank(part)]
    return list(dict.fromkeys(_choice(field, part, zone) for part in wanted)) or None


def _parts(field: CustomField, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    text = str(value).strip()
    if any(option.casefold() == text.casefold() for option in field.options):
        return [text]
    if text.startswith("["):  # a list in a merge field renders as JSON
        try:
            return list(orjson.loads(text))
        except orjson.JSONDecodeError:
            raise field.unusable("is no list of options") from None
    return text.split(",")


_READERS: Final[Mapping[str, Callable[[CustomField, Any, ZoneInfo], Any]]] = {
    "text": _text,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "choice": _choice,
    "multi_choice": _choices,
}
