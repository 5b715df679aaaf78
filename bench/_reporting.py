"""How benchmarks speak: a table for people, or one JSON line on stdout and the rest on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


class Report:
    """What one benchmark says. With `json` stdout gets exactly one line, by `finish`."""

    def __init__(self, bench: str, *, json: bool) -> None:
        self._bench = bench
        self._json = json
        self._console = Console(stderr=json, highlight=False)

    def say(self, text: str) -> None:
        """Say what is being done now."""
        self._console.print(text, style="dim", markup=False)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table; all columns but the first are right-aligned, numbers have separators."""
        self._console.print(title, style="bold", markup=False)
        table = Table()
        for number, name in enumerate(head):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*(_shown(cell) for cell in row))
        self._console.print(table)

    def fail(self, complaints: Sequence[str]) -> int:
        """Say what is wrong with the result; gives the exit code. There is no JSON line then."""
        for complaint in complaints:
            self._console.print(f"FAILED: {complaint}", style="bold red", markup=False)
        return 1

    def finish(self, figures: Mapping[str, Any], conditions: Mapping[str, Any]) -> int:
        """End with the figures and what they depend on; gives the exit code."""
        if self._json:
            line = {"bench": self._bench, **figures, "conditions": dict(conditions)}
            print(json.dumps(line))
        else:
            shown = ", ".join(f"{name} {_shown(value)}" for name, value in conditions.items())
            self.say(f"Conditions: {shown}")
        return 0


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def _shown(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:,.3g}"
