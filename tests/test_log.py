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
