"""What a template may cost, and the error that says it was too much.

Templates are written by people we do not know and rendered in the event loop's own thread, where
nothing can be timed out. So every limit is counted, never measured in seconds, and is checked
*before* the work is done: the same template always ends the same way.
"""

from typing import Final, Literal, TypeAlias

MAX_SOURCE: Final = 100_000
"""Characters of one template's source."""

MAX_OUTPUT: Final = 1_000_000
"""Characters that one rendering may produce, and that any value on the way may have."""

MAX_TOKENS: Final = 2_000
"""Tokens inside `{{ }}` and `{% %}` of one template, or of one config value as a whole: some 400
fields. Compiling takes up to 50 µs for each."""

MAX_DEPTH: Final = 40
"""Levels of the syntax tree: keeps Jinja's and CPython's recursive compilers from their ends."""

MAX_BRACKETS: Final = 20
"""Open brackets at once: the parser takes up to twenty Python frames for each of them."""

MAX_WORK: Final = 50_000
"""Units of work of one rendering; a unit is one evaluated node, some 0.5 to 1 µs."""

CHARACTERS_PER_UNIT: Final = 100
"""Characters that a string operation handles for one unit of work."""

MAX_INTEGER_BITS: Final = 1_024
"""Size of whole numbers (308 digits, as far as a float goes)."""

MAX_DECIMAL_EXPONENT: Final = 64
"""Largest power of ten of a Decimal: beyond it `1E+999999` would be written out in full."""

ErrorCode: TypeAlias = Literal[
    "template_syntax",
    "template_forbidden",
    "template_too_long",
    "template_output_too_long",
    "template_too_costly",
    "template_failed",
]


class TemplateError(ValueError):
    """A template that cannot be compiled or rendered; the only error that templates raise.

    `code` is stable, `message` is for the template's author and quotes no contact data. `line` and
    `column` count from 1 and are None when unknown; `path` leads from a config value to its string.
    """

    def __init__(
        self, code: ErrorCode, message: str, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.line = line
        self.column = column
        self.path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        """Give the message with its place."""
        if self.line is None:
            return self.message
        place = f"line {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{self.message} ({place})"


class Budget:
    """What one rendering may still spend on work and on output; shared by all texts of a value."""

    __slots__ = ("characters", "work")

    def __init__(self, work: int = MAX_WORK) -> None:
        self.work = work
        self.characters = MAX_OUTPUT

    def spend(self, units: int) -> None:
        """Take units of work; raises template_too_costly before work that the budget lacks."""
        self.work -= units
        if self.work < 0:
            raise TemplateError("template_too_costly", "the template does too much work")

    def spend_text(self, length: int) -> None:
        """Take the work of handling `length` characters."""
        self.spend(1 + length // CHARACTERS_PER_UNIT)

    def emit(self, length: int) -> None:
        """Take `length` characters of output; raises template_output_too_long."""
        self.characters -= length
        if self.characters < 0:
            raise output_too_long()


def output_too_long() -> TemplateError:
    """Make the error for a result of more than MAX_OUTPUT characters."""
    return TemplateError(
        "template_output_too_long", f"the result has more than {MAX_OUTPUT:,} characters"
    )


def check_length(length: int) -> None:
    """Refuse a string that would have `length` characters, before it is built."""
    if length > MAX_OUTPUT:
        raise output_too_long()
