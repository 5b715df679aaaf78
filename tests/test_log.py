"""Lines of ours and of libraries come out in one format."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runtime import log
from runtime.settings import Settings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_json_lines_hold_event_context_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Settings(log_format="json"))
    structlog.contextvars.bind_contextvars(execution=7)
    log.get("runtime.claims").info("batch.claimed", steps=5)
    logging.getLogger("some.library").warning("odd: %s", "this")
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert ours["timestamp"].endswith("Z")
    assert (ours["event"], ours["execution"], ours["steps"]) == ("batch.claimed", 7, 5)
    assert (ours["level"], ours["logger"]) == ("info", "runtime.claims")
    assert (theirs["event"], theirs["execution"]) == ("odd: this", 7)


def test_an_exception_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Settings(log_format="json"))
    try:
        raise ValueError("no such thing")
    except ValueError:
        log.get("x").exception("step.failed", step=object())
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: no such thing" in json.loads(line)["exception"]


def test_the_level_is_heeded_and_procrastinates_arguments_stay_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure(Settings(log_level="info", log_format="console"))
    log.get("x").debug("too quiet")
    logging.getLogger("procrastinate.worker").info("Starting job drain[1](secret='x')")
    logging.getLogger("procrastinate.worker").error("it broke")
    written = capsys.readouterr().err
    assert "it broke" in written
    assert "quiet" not in written
    assert "secret" not in written


HOSTILE = [
    "no mail to ada.lovelace+x@example.com (550)",
    "call +44 20 7946 0958 failed",
    "(555) 010-9999 is busy",
    "Authorization: Bearer cb_" + "A" * 43,
    "postgresql://me:hunter2secret@db/x",
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl is old",
    "api_key=abcdef123456 refused",
]
LEAKS = ("ada", "7946", "010-9999", "AAAA", "hunter2", "c2lnbmF0dXJl", "abcdef123456")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_line_holds_personal_data_or_secrets(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    log.configure(Settings(log_format=log_format))
    for hostile in HOSTILE:
        try:
            raise ValueError(hostile)
        except ValueError as error:
            log.get("x").exception("step.failed", error=repr(error), step_id="01a210b8-5dfa")
            logging.getLogger("some.library").exception("odd: %s", hostile)
            log.get("x").warning("nested", held={"auth_config": {"x": "abcdef123456"}}, o=error)
    written = capsys.readouterr().err
    assert "01a210b8-5dfa" in written
    for leak in LEAKS:
        assert leak not in written


def test_ids_instants_and_numbers_stay(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(Settings(log_format="json"))
    values = {
        "step_id": "01a210b8-5dfa-70c5-b914-850727f7b4f8",
        "at": "2026-11-25T03:20:47.867667+00:00",
        "address": "192.168.100.200",
        "steps": 5551234567,
    }
    log.get("x").info("batch.claimed", **values)
    line = json.loads(capsys.readouterr().err)
    assert {name: line[name] for name in values} == values
