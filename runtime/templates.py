"""Merge fields: `{{ contact.first_name }}` in the text values of an action's configuration.

Templates are Jinja2, narrowed down (`template_guard`) until every one of them ends soon: fields,
filters (`template_filters`), conditions, comparisons, arithmetic, and loops over lists. They are
compiled once and rendered often, in the event loop's thread. What a field holds is text and is
never read as a template again. Missing fields are empty. A text with merge fields leaves with LF
as its line ends; one without stays exactly as it is.

>>> compile_text("Dear {{ contact.first_name | default('friend') }}").render({})
'Dear friend'
"""

from collections.abc import Callable, Mapping
from decimal import DivisionByZero
from typing import Any, Final, TypeAlias, cast

import jinja2
from jinja2 import nodes
from markupsafe import escape

from runtime.template_environment import Environment, environment_for
from runtime.template_guard import check_source, parse
from runtime.template_limits import MAX_DEPTH, MAX_TOKENS, Budget, TemplateError, check_length
from runtime.template_operators import RenderContext
from runtime.template_rewriter import Rewriter, constant_path
from runtime.template_values import look_up, text_of

__all__ = ["JSON", "Context", "TemplateError", "Text", "Value", "compile_text", "compile_value"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Context: TypeAlias = Mapping[str, Any]

_TextMaker: TypeAlias = Callable[[Context, Budget], str]
_ValueMaker: TypeAlias = Callable[[Context, Budget], JSON]

_DELIMITERS: Final = ("{{", "{%", "{#")


class Text:
    """A compiled text; immutable, safe to share between threads.

    `fields` are the dotted paths it uses, each from its root on: {'contact.first_name'}.
    `is_static` says that it renders the same whatever the context is.
    """

    __slots__ = ("fields", "is_static", "make", "source")

    def __init__(
        self, source: str, make: _TextMaker, fields: frozenset[str], *, is_static: bool
    ) -> None:
        self.source = source
        self.make = make
        self.fields = fields
        self.is_static = is_static

    def render(self, context: Context) -> str:
        """Fill the fields in; raises TemplateError and nothing else."""
        return self.make(context, Budget())


class Value:
    """A compiled config value of any depth; immutable, safe to share between threads."""

    __slots__ = ("fields", "is_static", "make")

    def __init__(self, make: _ValueMaker, fields: frozenset[str], *, is_static: bool) -> None:
        self.make = make
        self.fields = fields
        self.is_static = is_static

    def render(self, context: Context) -> JSON:
        """Fill all fields in, within one budget; raises TemplateError and nothing else.

        Parts without fields are shared with the configuration, not copied: do not change them.
        """
        return self.make(context, Budget())


def compile_text(source: str, *, html: bool = False) -> Text:
    """Compile a text; with `html` what fields hold is escaped, what the author wrote is not.

    Raises TemplateError: template_syntax, template_forbidden, template_too_long, or
    template_too_costly.
    """
    return _compile_text(source, html=html, tokens=Budget(MAX_TOKENS))


def compile_value(value: JSON) -> Value:
    """Compile every string inside a config value; keys and everything else stay as they are.

    Raises TemplateError as `compile_text` does, with `path` leading to the string.
    """
    fields: set[str] = set()
    fixed, make = _compile_value(value, fields, Budget(MAX_TOKENS), 0)
    return Value(make or _always(fixed), frozenset(fields), is_static=make is None)


def _compile_text(source: str, *, html: bool, tokens: Budget) -> Text:
    check_source(source)
    if not any(delimiter in source for delimiter in _DELIMITERS):
        return Text(source, _always(source), frozenset(), is_static=True)
    environment = environment_for(source, html=html)
    tree = parse(source, environment, tokens)
    rewriter = Rewriter()
    rewriter.visit(tree)
    parts = _plain_parts(tree)
    if parts is None:
        make = _by_jinja(tree, environment)
    elif all(isinstance(part, str) for part in parts):
        return Text(source, _always("".join(map(str, parts))), frozenset(), is_static=True)
    else:
        make = _by_look_up(parts, html=html)
    return Text(source, make, frozenset(rewriter.fields), is_static=False)


def _compile_value(
    value: JSON, fields: set[str], tokens: Budget, depth: int
) -> tuple[JSON, _ValueMaker | None]:
    # Gives the value with its static parts in place, and what makes the rest (None: nothing to do).
    if isinstance(value, str):
        text = _compile_text(value, html=False, tokens=tokens)
        fields |= text.fields
        return (text.render({}), None) if text.is_static else (value, text.make)
    if not isinstance(value, dict | list):
        return value, None
    if depth == MAX_DEPTH:
        raise TemplateError("template_too_costly", "the value is nested too deeply")
    fixed: Any = value.copy()
    makers: list[tuple[Any, _ValueMaker]] = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        try:
            fixed[key], make = _compile_value(item, fields, tokens, depth + 1)
        except TemplateError as error:
            error.path = (key, *error.path)
            raise
        if make is not None:
            makers.append((key, make))
    return fixed, _filled(fixed, makers) if makers else None


def _always(value: Any) -> Callable[[Context, Budget], Any]:
    return lambda _context, _budget: value


def _filled(fixed: Any, makers: list[tuple[Any, _ValueMaker]]) -> _ValueMaker:
    def make(context: Context, budget: Budget) -> JSON:
        copy: JSON = fixed.copy()
        for key, make_item in makers:
            copy[key] = make_item(context, budget)  # type: ignore[index]
        return copy

    return make


# --- the two ways to render a text ---------------------------------------------------------------

_Slot: TypeAlias = tuple[int, str, tuple[str | int, ...]]


def _plain_parts(tree: nodes.Template) -> list[str | _Slot] | None:
    # Literal text and (line, root, keys) of plain fields; None if there is anything else.
    parts: list[str | _Slot] = []
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return None
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                parts.append(node.data)
            elif path := constant_path(node):
                parts.append((node.lineno, path[0].name, tuple(path[1])))
            else:
                return None
    return parts


def _by_look_up(parts: list[str | _Slot], *, html: bool) -> _TextMaker:
    # Most texts have nothing but plain fields. They need none of Jinja's context and generators,
    # and none of its code generation: several times faster, to compile and to render.
    literals = [part if isinstance(part, str) else "" for part in parts]
    slots = [(n, *part) for n, part in enumerate(parts) if not isinstance(part, str)]

    def make(context: Context, budget: Budget) -> str:
        pieces = literals.copy()
        line = 0
        try:
            for n, line, root, keys in slots:  # noqa: B007 - the handlers below use the line
                value = context.get(root)
                for key in keys:
                    value = value.get(key) if type(value) is dict else look_up(value, key)
                if value is None:
                    continue
                text = value if type(value) is str else text_of(value, budget)
                check_length(len(text))
                pieces[n] = escape(text) if html else text
            budget.emit(sum(map(len, pieces)))
        except TemplateError as error:
            error.line = line
            raise
        except Exception as error:  # values are not ours, and only TemplateError leaves
            raise _failure(error, line) from error
        return "".join(pieces)

    return make


def _by_jinja(tree: nodes.Template, environment: Environment) -> _TextMaker:
    try:
        code = environment.compile(tree)
    except jinja2.TemplateSyntaxError as error:
        message = error.message or "this is no valid template"
        raise TemplateError("template_syntax", message, error.lineno) from None
    except (SyntaxError, RecursionError, MemoryError):
        # CPython's own limits, for example 20 nested loops.
        raise TemplateError("template_too_costly", "the template is nested too deeply") from None
    template = jinja2.Template.from_code(environment, code, {})
    pieces_of = template.root_render_func

    def make(context: Context, budget: Budget) -> str:
        scope = RenderContext(environment, cast("dict[str, Any]", context), None, {})
        scope.budget = budget
        pieces: list[str] = []
        try:
            for piece in pieces_of(scope):
                budget.emit(len(piece))
                pieces.append(piece)
        except TemplateError as error:
            error.line = _line_of(error, template)
            raise
        except Exception as error:  # values are not ours, and only TemplateError leaves
            raise _failure(error, _line_of(error, template)) from error
        return "".join(pieces)

    return make


def _line_of(error: Exception, template: jinja2.Template) -> int | None:
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def _failure(error: Exception, line: int | None) -> TemplateError:
    match error:
        case ZeroDivisionError() | DivisionByZero():
            return TemplateError("template_failed", "division by zero", line)
        case RecursionError():
            return TemplateError("template_too_costly", "a value is nested too deeply", line)
        case TypeError():
            # Names types only. The messages of other errors quote values: contact data.
            return TemplateError("template_failed", str(error), line)
        case _:
            message = f"this cannot be computed ({type(error).__name__})"
            return TemplateError("template_failed", message, line)
