"""What errors say in people's language: every code, in every language, to whoever asks for it."""

import ast
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, get_args

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core.core_schema import ErrorType

from api.error_catalogue import LANGUAGES, entries, entry_of, language_of, said, translations
from api.middleware import _CODES
from api.why_sentences import SKIPPED
from runtime.retrying import SENTENCES
from runtime.settings import Settings
from tests.api_desk import Desk, open_desk

ROOT: Final = Path(__file__).resolve().parent.parent
PLACES: Final = {
    "_finding": 2, "Enrolment": 2, "_settle": 5,
    **dict.fromkeys(("Problem", "Fault", "Failure", "PutOff", "NotActivatableError"), 1),
    **dict.fromkeys(
        (
            "conflict", "not_found", "PydanticCustomError", "Skipped", "Suppress", "TemplateError",
            "UnusableError", "VaultError", "NoDateError", "OperationError", "ItemError", "misfit",
            "_invalid", "_unauthorized",
        ),
        0,
    ),
}  # fmt: skip
"""At which argument each of these takes its code."""
SOME: Final = "some"
"""Stands where a code is put together of something and a word."""


def codes_in(source: str) -> Iterator[str]:
    """The codes that a module gives: constants, names of constants, and f-strings."""
    tree = ast.parse(source)
    named = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        place = PLACES.get(name)
        if place is None or len(node.args) <= place:
            continue
        argument = node.args[place]
        if isinstance(argument, ast.Name):
            argument = named.get(argument.id, argument)
        for code in _texts(argument):
            yield f"{code}_not_found" if name == "not_found" else code


def _texts(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else SOME for p in parts)
        case ast.IfExp(body=body, orelse=other):
            yield from _texts(body)
            yield from _texts(other)


def all_codes() -> set[str]:
    files = [
        file for folder in ("actors", "runtime", "http") for file in (ROOT / folder).rglob("*.py")
    ]
    given = {code for file in files for code in codes_in(file.read_text())}
    child = (ROOT / "runtime/javascript/child.py").read_text()
    scripts = set(re.findall(r'"(script_[a-z_]+)"', child))
    tables = {*SENTENCES, *SKIPPED, *_CODES.values(), *get_args(ErrorType)}
    return given | scripts | tables | {"validation_failed", "refused", "worker_lost"}


CODES: Final = all_codes()


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


def test_every_code_has_its_entry() -> None:
    assert len(CODES) > 300
    assert sorted(code for code in CODES if entry_of(code) is None) == []


def test_a_code_without_an_entry_is_found() -> None:
    source = 'WORD: Final = "made_up"\nraise Problem(400, WORD, "")\nFault("x", f"{a}_so_so", "")'
    assert list(codes_in(source)) == ["made_up", "some_so_so"]
    assert [entry_of(code) for code in codes_in(source)] == [None, None]


def test_every_entry_is_of_use_and_every_code_stands_once() -> None:
    listed = [code for entry in entries() for code in entry.codes]
    assert len(listed) == len(set(listed))
    used = {id(entry_of(code)) for code in CODES}
    assert [entry.title for entry in entries() if id(entry) not in used] == []


@pytest.mark.parametrize("language", [one for one in LANGUAGES if one != "en"])
def test_every_text_is_translated(language: Any) -> None:
    texts = {t for e in entries() for t in (e.title, e.explanation, e.remedy)}
    known = translations(language)
    assert sorted(texts - known.keys()) == []
    assert sorted(known.keys() - texts) == []
    for text in texts:
        assert known[text] != text, text
        for what in (r"\{\{.*?\}\}", r"/[a-z][a-z0-9/-]+", r"[a-zA-Z]+_[a-zA-Z_]+"):
            assert sorted(re.findall(what, known[text])) == sorted(re.findall(what, text)), text


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("fr-FR, es-MX;q=0.8, de;q=0.7", "es"),
        ("de;q=0.1, es;q=0.9", "es"),
        ("de;q=0, es;q=0.1", "es"),
        ("*", "en"),
        ("zh, *;q=0.1", "en"),
        ("de;q=x", "en"),
        (";;q=,,-", "en"),
    ],
)
def test_the_language_is_the_one_that_is_wanted_most(header: str | None, language: str) -> None:
    assert language_of(header) == language


@given(st.text())
def test_no_header_is_an_error(header: str) -> None:
    assert language_of(header) in LANGUAGES


async def test_a_refusal_speaks_the_language_that_is_asked_for(desk: Desk) -> None:
    caller = await desk.caller()
    spoken = {}
    for language in ("en", "de", "es", "xx"):
        headers = {"Accept-Language": language}
        got = await caller.call("POST", "/api/v1/workflows", {"nam": "x"}, headers=headers)
        assert got.status == 422
        assert got.headers["Vary"] == "Accept-Language"
        spoken[language] = got.headers["Content-Language"], got.data["title"]
        assert got.data["errors"][0]["title"]
        assert got.data["type"] == f"/api/v1/errors/{got.data['code']}"
        assert {*got.data} >= {"explanation", "remedy", "detail"}
    assert [spoken[one][0] for one in ("en", "de", "es", "xx")] == ["en", "de", "es", "en"]
    assert len(set(spoken.values())) == 3


async def test_all_errors_are_listed_and_each_is_explained_without_a_token(desk: Desk) -> None:
    async def read(path: str) -> Any:
        async with desk.client.get(path, headers={"Accept-Language": "de"}) as got:
            assert got.headers["Content-Language"] == "de"
            return await got.json()

    listed = (await read("/api/v1/errors"))["items"]
    assert {item["code"] for item in listed} == {c for e in entries() for c in e.codes}
    (one,) = [item for item in listed if item["code"] == "no_consent"]
    entry = entry_of("no_consent")
    assert entry is not None
    assert (one["title"], one["occurs"]) == (said(entry, "de").title, ["run"])
    assert await read("/api/v1/errors/no_consent") == one
    found = await read("/api/v1/errors/twilio_30006")
    assert found["code"] == "twilio_30006"


async def test_a_code_that_does_not_exist_is_not_explained(desk: Desk) -> None:
    async with desk.client.get("/api/v1/errors/made-up") as got:
        assert got.status == 404
