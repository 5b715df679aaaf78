"""Parses templates and lets only harmless ones through to Jinja's compiler.

Jinja's sandbox protects objects, not time or memory. So the syntax tree is held against a list of
what is allowed (all else is refused: calls, `**`, assignments, macros, includes, list literals …),
and the operators that remain are rewritten into calls of our bounded ones before any code exists.
Jinja's constant folding never gets to run an operator or filter while it compiles.
"""

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, cast

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2 import filters as jinja_filters
from jinja2 import tests as jinja_tests

from runtime.template_filters import FILTERS, TESTS
from runtime.template_limits import (
    MAX_BRACKETS,
    MAX_DEPTH,
    MAX_INTEGER_BITS,
    MAX_SOURCE,
    Budget,
    TemplateError,
)
from runtime.template_places import place_of, placed

_ALLOWED: Final = frozenset(
    {
        *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For),
        *(nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice),
        *(nodes.Filter, nodes.Test, nodes.Keyword, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not),
        *(nodes.Compare, nodes.Operand, nodes.Concat, nodes.Neg, nodes.Pos),
        *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
    }
)
_REFUSED: Final = {
    nodes.Call: "functions cannot be called; use a filter",
    nodes.Pow: "powers are not available",
    nodes.List: "lists are allowed only after 'in'",
    nodes.Tuple: "lists are allowed only after 'in'",
    nodes.Dict: "objects cannot be written in a template",
    nodes.Assign: "{% set %} is not available",
    nodes.AssignBlock: "{% set %} is not available",
}
_LINE_END: Final = re.compile(r"\r\n|\r|\n")  # what Jinja counts: not all of str.splitlines
_REFUSED_NAMES: Final = frozenset(
    {"self", "range", "dict", "lipsum", "cycler", "joiner", "namespace", "super", "caller"}
)


def check_source(source: str) -> None:
    """Refuse a source that is too long, with or without merge fields."""
    if len(source) > MAX_SOURCE:
        message = f"the text has more than {MAX_SOURCE:,} characters"
        raise TemplateError("template_too_long", message)


def parse(source: str, environment: Environment, tokens: Budget) -> nodes.Template:
    """Parse and check a template; raises TemplateError for everything that is not allowed."""
    try:
        _count_tokens(source, environment, tokens)
        tree = environment.parse(source)
    except TemplateError:
        raise
    except TemplateSyntaxError as error:
        message = error.message or "this is no valid template"
        raise TemplateError("template_syntax", message, *place_of(error.lineno)) from None
    except RecursionError:
        raise TemplateError("template_too_costly", "the template is nested too deeply") from None
    except Exception as error:  # whatever else a parser does on hostile input
        raise TemplateError("template_syntax", "this is no valid template") from error
    for node, depth in _walk(tree):
        if depth > MAX_DEPTH:
            raise TemplateError(
                "template_too_costly", "the template is nested too deeply", node.lineno
            )
        _check(node, source)
    return tree


def _count_tokens(source: str, environment: Environment, tokens: Budget) -> None:
    # Before parsing, because the parser is recursive and many times slower than the lexer.
    depth = 0
    for line, kind, value in placed(environment.lex(source), source):
        if kind in ("data", "whitespace"):
            continue
        tokens.work -= 1
        if tokens.work < 0:
            raise TemplateError(
                "template_too_costly", "there are too many merge fields", *place_of(line)
            )
        if kind == "operator" and value in "([{":
            depth += 1
        elif kind == "operator" and value in ")]}":
            depth -= 1
        if depth > MAX_BRACKETS:
            raise TemplateError("template_too_costly", "too many open brackets", *place_of(line))


def _walk(tree: nodes.Template) -> Iterator[tuple[nodes.Node, int]]:
    # With a stack of its own: `a + a + a + …` is parsed in a loop, but as deep as it is long.
    stack: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        match node:
            case nodes.Operand(op="in" | "notin", expr=nodes.List() | nodes.Tuple() as listed):
                stack += ((item, depth + 1) for item in listed.items)
            case nodes.If(elif_=branches):
                # CPython compiles a chain of elif as nested as it is long.
                stack += ((branch, depth + 1 + n) for n, branch in enumerate(branches))
                stack += ((child, depth + 1) for child in node.iter_child_nodes(exclude=("elif_",)))
            case _:
                stack += ((child, depth + 1) for child in node.iter_child_nodes())


def _check(node: nodes.Node, source: str) -> None:
    if type(node) not in _ALLOWED:
        name = type(node).__name__
        raise _refusal(node, source, _REFUSED.get(type(node), f"'{name}' is not available"))
    match node:
        case nodes.Name(name=name) if name in _REFUSED_NAMES or name.startswith("__"):
            raise _refusal(node, source, f"'{name}' is not available", name)
        case nodes.Getattr(attr=attr) if attr.startswith("__"):
            raise _refusal(node, source, f"'{attr}' is not available", attr)
        case nodes.Const(value=value):
            _check_constant(value, node.lineno)
        case nodes.Mul(left=left, right=right) if _is_text(left) or _is_text(right):
            raise _refusal(node, source, "text cannot be multiplied", "*")
        case nodes.Mod(left=left) if _is_text(left):
            raise _refusal(node, source, "text cannot be formatted by '%'", "%")
        case nodes.For(recursive=True):
            raise _refusal(node, source, "recursive loops are not available", "recursive")
        case nodes.For(target=target) if not isinstance(target, nodes.Name):
            raise _refusal(node, source, "a loop has one variable")
        case nodes.Filter():
            _check_call(node, "filter", FILTERS, jinja_filters.FILTERS, source)
        case nodes.Test():
            _check_call(node, "test", TESTS, jinja_tests.TESTS, source)


def _is_text(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


def _check_constant(value: object, line: int) -> None:
    too_large = (isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS) or (
        isinstance(value, float) and not math.isfinite(value)
    )
    if too_large:
        raise TemplateError("template_too_costly", "the number is too large", line)
    # Escapes such as '\x00' write what PostgreSQL text cannot hold; contacts' values never do.
    if isinstance(value, str) and (
        "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value)
    ):
        message = "text must not contain NUL or lone surrogates"
        raise TemplateError("template_forbidden", message, line)


def _check_call(
    node: nodes.Filter | nodes.Test,
    kind: str,
    known: Mapping[str, Callable[..., Any]],
    jinjas: Mapping[str, Any],
    source: str,
) -> None:
    name = node.name
    if name not in known:
        if name in jinjas:
            raise _refusal(node, source, f"the {kind} '{name}' is not available", name)
        near = difflib.get_close_matches(name[:40], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
        message = f"there is no {kind} '{name[:40]}'; {hint}"
        raise TemplateError("template_syntax", message, *_place(node, source, name))
    if node.dyn_args or node.dyn_kwargs or node.node is None:
        raise _refusal(node, source, "arguments cannot be unpacked", name)
    try:
        pairs = cast("list[nodes.Keyword]", node.kwargs)  # Jinja's annotation says Pair
        _signature(known[name]).bind(None, *node.args, **{pair.key: pair.value for pair in pairs})
    except TypeError as error:
        message = f"wrong arguments for the {kind} '{name}': {error}"
        raise TemplateError("template_syntax", message, *_place(node, source, name)) from None


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    visible = [p for p in signature.parameters.values() if p.name != "context"]
    return signature.replace(parameters=visible)


def _refusal(node: nodes.Node, source: str, message: str, word: str = "") -> TemplateError:
    return TemplateError("template_forbidden", message, *_place(node, source, word))


def _place(node: nodes.Node, source: str, word: str) -> tuple[int | None, int | None]:
    # A node's place is that of one of its tokens: the word stands there or behind it. Jinja forgets
    # the line of what it makes up itself ({% autoescape %}), whatever its annotation says.
    number, column = place_of(node.lineno)
    if number is None:
        return None, None
    line = (_LINE_END.split(source, number)[number - 1 :] or [""])[0]
    found = line.find(word, (column or 1) - 1) if word else -1
    return number, found + 1 if found >= 0 else column
