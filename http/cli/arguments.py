"""How the command line is read: typos get a «did you mean», numbers and families are checked.

Standard library only, so that `--help` works on a bare machine: what it tells about families and
benchmarks is read from their source.
"""

import argparse
import ast
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

from cli.environment import ROOT

SIZES = {
    "inward": ("--contacts", "contacts that Callboard and the floor bring through"),
    "bulk": ("--rows", "rows of CSV that are imported"),
    "api": ("--each", "actions that each of the 50 clients creates"),
    "email": ("--messages", "mails of each round"),
    "sms": ("--messages", "texts of each round"),
    "code": ("--scripts", "scripts in the sandbox, a fresh isolate for each"),
    "inflight": ("--executions", "executions inside a webhook call at the same time"),
    "mixed": ("--contacts", "contacts that go through all types of action"),
    "workers": ("--contacts", "contacts that each number of workers brings through"),
    "latency": ("--times", "enrolments that are measured"),
}
"""The benchmarks whose size can be chosen: the option that they take, and what it counts."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that names the nearest word it knows when it is given another."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), action.choices or ())
            raise

    def refuse(self, extra: list[str]) -> NoReturn:
        """Exit with code 2 because of arguments that nothing here takes."""
        option = extra[0].partition("=")[0]
        hint = did_you_mean(option, self._option_string_actions)
        self.error(f"unrecognized arguments: {' '.join(extra)}{hint}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to a complaint: the nearest known word, or nothing if none is near."""
    near = get_close_matches(word, list(known), n=1)
    return f", did you mean '{near[0]}'?" if near else ""


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def words(text: str) -> list[str]:
    """Read words separated by commas, at least one."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise argparse.ArgumentTypeError("names nothing")
    return found


def key_name(text: str) -> str:
    """Read the name of a key."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", text):
        raise argparse.ArgumentTypeError("a name has letters, digits, - and _, 32 at most")
    return text


def family_names(text: str) -> list[str]:
    """Read a list of families, each once, at least one."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError(f"names no family; there are: {', '.join(families())}")
    for name in names:
        if name not in families():
            hint = did_you_mean(name, families()) or f"; there are: {', '.join(families())}"
            raise argparse.ArgumentTypeError(f"there is no family {name!r}{hint}")
    return names


def families() -> tuple[str, ...]:
    """The FAMILIES of runtime/registry.py."""
    source = (ROOT / "runtime" / "registry.py").read_text(encoding="utf-8")
    (found,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FAMILIES" and node.value
    )
    names: tuple[str, ...] = ast.literal_eval(found)
    return names


def benchmarks() -> dict[str, str]:
    """The benchmarks in bench/ and the first line of each one's docstring."""
    found = {}
    for path in sorted((ROOT / "bench").glob("*.py")):
        if not path.name.startswith("_") and path.stem != "demo":
            docs = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = docs.partition("\n")[0]
    return found
