"""The simple conditions under which a domain event starts a workflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any


def met(conditions: Iterable[Mapping[str, Any]], fields: Mapping[str, Any]) -> bool:
    """Whether all conditions hold. `fields` has the roots that paths begin with: payload, contact.

    A missing field is None: it equals nothing but null, contains nothing, is neither greater
    nor less than anything.
    """
    return all(
        _holds(c["operator"], _look_up(c["field"], fields), c.get("value")) for c in conditions
    )


def _look_up(path: str, fields: Mapping[str, Any]) -> Any:
    value: Any = fields
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _holds(operator: str, actual: Any, wanted: Any) -> bool:
    match operator:
        case "equals":
            return _same(actual, wanted)
        case "not_equals":
            return not _same(actual, wanted)
        case "contains":
            return _contains(actual, wanted)
        case "exists":
            return (actual not in (None, "")) is (wanted is not False)
        case "greater_than":
            return _compared(actual, wanted) > 0
        case "less_than":
            return _compared(actual, wanted) < 0
        case _:
            raise ValueError(f"no such operator: {operator}")


def _same(actual: Any, wanted: Any) -> bool:
    # JSON knows true and 1 as different values; Python does not.
    return actual == wanted and isinstance(actual, bool) == isinstance(wanted, bool)


def _contains(actual: Any, wanted: Any) -> bool:
    if isinstance(actual, str):
        return isinstance(wanted, str) and wanted.casefold() in actual.casefold()
    return isinstance(actual, list) and wanted in actual


def _compared(actual: Any, wanted: Any) -> int:
    """1, 0 or -1 like numbers where both are numbers, like text where both are text, else 0."""
    left, right = _number(actual), _number(wanted)
    if left is not None and right is not None:
        return (left > right) - (left < right)
    if isinstance(actual, str) and isinstance(wanted, str):
        return (actual > wanted) - (actual < wanted)
    return 0


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
