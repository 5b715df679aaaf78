"""http/SECURITY.md names files and tests that exist."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = (ROOT / "http" / "SECURITY.md").read_text()
FILES: Final = sorted(set(re.findall(r"`((?:actors|http|runtime|sql)/[\w/.]+)`", PAGE)))
TESTS: Final = sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", PAGE)))


def exists(test: str) -> bool:
    """Whether a test is there, without running anything."""
    name, _, function = test.partition("::")
    file = ROOT / "tests" / name
    if not file.exists():
        return False
    functions = {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return not function or function in functions


def test_every_file_that_is_named_exists() -> None:
    assert len(FILES) > 20
    assert [name for name in FILES if not (ROOT / name).exists()] == []


def test_every_test_that_is_named_exists() -> None:
    assert len(TESTS) > 40
    assert [test for test in TESTS if not exists(test)] == []


@pytest.mark.parametrize("made_up", ["test_made_up.py", "test_log.py::test_made_up"])
def test_a_test_that_is_made_up_is_found(made_up: str) -> None:
    assert not exists(made_up)


@pytest.mark.parametrize("row", [line for line in PAGE.splitlines() if line.startswith("| ")])
def test_every_threat_has_its_guard_and_a_test(row: str) -> None:
    _, guard, tests = [cell.strip() for cell in row.strip("|").split("|")]
    assert guard
    assert tests == "tests" or "`test_" in tests
