"""Jinja with our operators, filters and look-ups in place of all of its own."""

from functools import cache
from typing import Any

from jinja2 import pass_context
from jinja2.lexer import TokenStream
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runtime.template_filters import FILTERS, TESTS
from runtime.template_limits import Budget
from runtime.template_operators import (
    RenderContext,
    calculate,
    compare,
    concat,
    cut,
    loop_over,
    negate,
)
from runtime.template_places import placed
from runtime.template_values import Missing, look_up, text_of


@pass_context
def _finalize(context: RenderContext, value: object) -> str:
    # Wanting the context has a second effect: Jinja then leaves constants to run time.
    return text_of(value, context.budget)


class Environment(ImmutableSandboxedEnvironment):
    """What compiles and runs the trees that the guard let through.

    The names in parentheses are those that the rewriter gives; no template can write them.
    """

    context_class = RenderContext
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})

    def __init__(self, *, html: bool, comments: bool) -> None:
        super().__init__(
            autoescape=html,
            undefined=Missing,
            finalize=_finalize,
            optimized=False,
            keep_trailing_newline=True,
            cache_size=0,
            # A NUL cannot be in any text that PostgreSQL stores.
            comment_start_string="{#" if comments else "\0{#",
        )
        self.globals.clear()
        self.filters = {
            **FILTERS,
            "(compare)": compare,
            "(concat)": concat,
            "(cut)": cut,
            "(loop)": loop_over,
        }
        self.tests = dict(TESTS)

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        # As Jinja does, which has no extensions here; but tokens know their columns.
        tokens = placed(self.lexer.tokeniter(source, name, filename, state), source)
        return TokenStream(self.lexer.wrap(tokens, name, filename), name, filename)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate within bounds."""
        return calculate(operator, left, right, _budget_of(context))

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:  # noqa: ARG002 - as the base's
        """Calculate within bounds."""
        return negate(operator, arg)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look a key up; never an attribute."""
        return look_up(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look a key or position up."""
        return look_up(obj, argument)

    def is_safe_callable(self, obj: Any) -> bool:  # noqa: ARG002 - as the base's
        """Refuse every call, should one ever get past the guard."""
        return False


def _budget_of(context: Context) -> Budget:
    assert isinstance(context, RenderContext)
    return context.budget


@cache
def _environment(*, html: bool, comments: bool) -> Environment:
    return Environment(html=html, comments=comments)


def environment_for(source: str, *, html: bool) -> Environment:
    """Give the environment that reads this source.

    Without a `#}` there can be no comment, and `{#` is what it mostly is in an e-mail: minified CSS
    (`@media print{#menu{display:none}}`).
    """
    return _environment(html=html, comments="#}" in source)
