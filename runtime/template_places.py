"""Where in a template something stands: numbers of lines that know a column.

Jinja keeps a line for every token, hands it on to nodes and errors as it is, and knows no columns.
So they travel with the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jinja2 import TemplateSyntaxError
from jinja2.lexer import newline_re

Token = tuple[int, str, str]
"""Line, kind and source, as Jinja's lexer gives them."""


class Place(int):
    """A line and, with it, a column; both count from 1."""

    column: int

    @classmethod
    def at(cls, line: int, column: int) -> Place:
        """Make one."""
        made = cls(line)
        made.column = column
        return made


def place_of(line: int | None) -> tuple[int | None, int | None]:
    """Give a line and the column that it came with; None for what is not known."""
    return (int(line), line.column) if isinstance(line, Place) else (line, None)


def placed(tokens: Iterable[Token], source: str) -> Iterator[Token]:
    """Give tokens their columns, and the lexer's errors that of what it could not read."""
    source = "\n".join(newline_re.split(source)[::2])  # as the lexer counts
    position = 0
    try:
        for line, kind, text in tokens:
            # White space that a tag strips off is in no token.
            start = max(source.find(text, position), position)
            yield Place.at(line, start - source.rfind("\n", 0, start)), kind, text
            position = start + len(text)
    except TemplateSyntaxError as error:
        if not isinstance(error.lineno, Place):
            while source[position : position + 1].isspace():
                position += 1
            column = position - source.rfind("\n", 0, position)
            error.lineno = Place.at(error.lineno, column)
        raise
