"""The operators of the template language, each bounded before it begins.

Python's own would run in C until they are done (`'x' * 10**9`, `'%500000000d' % 1`), where nothing
can stop them. The guard compiles every operator of a template into a call of one of these.
"""

import operator
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any, Final, cast

from jinja2 import pass_context
from jinja2.runtime import Context

from runtime.template_limits import Budget, TemplateError, check_length
from runtime.template_values import (
    MISSING,
    Number,
    bounded,
    is_container,
    is_list,
    is_missing,
    kind_of,
    text_of,
)

_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}
_ORDER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}


class RenderContext(Context):
    """Jinja's context of one rendering, with the budget that its operators and filters share."""

    budget: Budget


def calculate(symbol: str, left: object, right: object, budget: Budget) -> Any:
    """Apply an arithmetic operator to two numbers, or `+` to two texts.

    Empty if either side is missing. Raises template_forbidden for anything that repeats or formats
    text or lists, template_too_costly for numbers too large.
    """
    if is_missing(left) or is_missing(right):
        return MISSING
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        return joined([left, right], budget)
    a, b = _operand(symbol, left), _operand(symbol, right)
    if isinstance(a, Decimal) and isinstance(b, float):
        b = Decimal(str(b))
    elif isinstance(a, float) and isinstance(b, Decimal):
        a = Decimal(str(a))
    return bounded(_ARITHMETIC[symbol](a, b))


def negate(symbol: str, value: object) -> Any:
    """Apply the sign `-` or `+` to a number; empty if it is missing."""
    if is_missing(value):
        return MISSING
    number = _operand(symbol, value)
    return -number if symbol == "-" else number


def _operand(symbol: str, value: object) -> Number:
    if isinstance(value, int | float | Decimal):
        return bounded(value)
    if symbol in ("*", "%") and (isinstance(value, str) or is_container(value)):
        raise TemplateError(
            "template_forbidden", f"'{symbol}' is for numbers only, {kind_of(value)} is none"
        )
    raise TemplateError("template_failed", f"'{symbol}' needs numbers, {kind_of(value)} is none")


def joined(values: list[Any], budget: Budget) -> str:
    """Join values as text, once it is known that the result is short enough."""
    texts = [text_of(value, budget) for value in values]
    length = sum(map(len, texts))
    check_length(length)
    budget.spend_text(length)
    return "".join(texts)


@pass_context
def concat(context: RenderContext, first: object, *rest: object) -> str:
    """Join values as text: `a ~ b ~ c`."""
    return joined([first, *rest], context.budget)


@pass_context
def compare(context: RenderContext, left: object, *steps: object) -> bool:
    """Evaluate a chain of comparisons: `a < b <= c`; steps alternate operator name and operand.

    A missing value equals only a missing one and is neither less nor greater than anything.
    """
    for name, right in zip(steps[::2], steps[1::2], strict=True):
        if not _compared(cast("str", name), left, right, context.budget):
            return False
        left = right
    return True


def _compared(name: str, left: object, right: object, budget: Budget) -> bool:
    if name in ("in", "notin"):
        return _contains(left, right, budget) is (name == "in")
    left, right = _scalar(left, budget), _scalar(right, budget)
    if name in ("eq", "ne"):
        return (left == right) is (name == "eq")
    if left is None or right is None:
        return False
    return bool(_ORDER[name](left, right))


def _contains(item: object, container: object, budget: Budget) -> bool:
    item = _scalar(item, budget)
    if is_missing(container):
        return False
    if isinstance(container, str):
        budget.spend_text(len(container))
        return isinstance(item, str) and item in container
    if not is_container(container):
        raise TemplateError("template_failed", f"nothing can be in {kind_of(container)}")
    if is_list(container):
        budget.spend(len(container))
    return item in container


def _scalar(value: object, budget: Budget) -> object:
    if is_missing(value):
        return None
    if is_container(value):
        # Equality of nested values costs as much as the values are large, unknown in advance.
        raise TemplateError("template_failed", f"{kind_of(value)} cannot be compared")
    if isinstance(value, str):
        budget.spend_text(len(value))
    return value


@pass_context
def cut(context: RenderContext, value: object, *bounds: object) -> Any:
    """Take a part of a text or list: `value[start:stop:step]`; empty if the value is missing."""
    if is_missing(value):
        return MISSING
    if not isinstance(value, str) and not is_list(value):
        raise TemplateError("template_failed", f"there is no part of {kind_of(value)}")
    context.budget.spend_text(len(value))
    return value[slice(*(cast("Any", None if is_missing(bound) else bound) for bound in bounds))]


@pass_context
def loop_over(context: RenderContext, value: object, weight: int) -> list[Any]:
    """List what a `for` runs over, paying for all its rounds at once.

    `weight` is the number of nodes in the loop's body, so that nested loops, however they are
    arranged, end when together they would evaluate more than the budget has.
    """
    if is_missing(value):
        return []
    if not is_list(value) and not isinstance(value, Mapping | AbstractSet):
        raise TemplateError("template_failed", f"'for' needs a list, {kind_of(value)} is none")
    context.budget.spend(len(value) * weight)
    return list(value)
