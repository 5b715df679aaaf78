"""A stranger's first minutes: any folder, any Python, wrong settings, two starts at once."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cli import environment
from cli.commands import benchmarks, build_parser
from cli.environment import ROOT, missing, satisfied

import run

COMMANDS = ["demo", "test", "serve", "api", "worker", "migrate", "token create", "db uri",
            "db psql", "db stop", "settings", "bench"]  # fmt: skip


def _run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run run.py from another folder."""
    return subprocess.run(
        [sys.executable, ROOT / "run.py", *arguments],
        cwd="/",
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


# --- The command line --------------------------------------------------------------------------


def test_help_names_every_command_from_any_folder() -> None:
    done = _run("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command.split()[0]} ", done.stdout, re.MULTILINE)
    assert "DATABASE_URL" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([*command.split(), "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: run.py {command}")


def test_every_benchmark_says_what_it_measures() -> None:
    assert all(benchmarks().values())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["demo", "--contacts", "0"], "must be 1 or more"),
        (["demo", "--contact", "5"], "unrecognized arguments"),
        (["bench", "nonsense"], "invalid choice"),
        ([], "required"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], complaint: str) -> None:
    done = _run(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr


# --- Settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("CALLBOARD_API_PORT", "eighty", "valid integer"),
        ("CALLBOARD_BATCH_SIZE", "0", "greater than or equal to 1"),
        ("CALLBOARD_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("CALLBOARD_PUBLIC_URL", "example.org", "match pattern"),
        ("DATABASE_URL", "mysql://me:secret@here/x", "match pattern"),
    ],
)
def test_a_wrong_setting_is_named_with_its_reason(variable: str, value: str, reason: str) -> None:
    done = _run("settings", **{variable: value})
    assert done.returncode == 2
    assert variable in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_settings_are_listed_with_variables_and_without_the_password() -> None:
    done = _run(
        "settings", DATABASE_URL="postgresql://me:secret@here/x", CALLBOARD_LOG_LEVEL="INFO"
    )
    assert done.returncode == 0
    assert re.search(r"^CALLBOARD_BATCH_SIZE +500 ", done.stdout, re.MULTILINE)
    assert "secret" not in done.stdout


# --- The database commands ---------------------------------------------------------------------


def test_db_uri_starts_a_server_that_stays_and_db_stop_stops_it(scratch: Path) -> None:
    variables = {"CALLBOARD_DATA": str(scratch / "data"), "DATABASE_URL": ""}
    uri = _run("db", "uri", **variables).stdout.strip()
    assert uri.startswith("postgresql://")
    assert _run("migrate", **variables).stdout.startswith("applied 0001_procrastinate")
    assert _run("migrate", **variables).stdout == "nothing to do\n"
    asked = _run("db", "psql", "-XAtc", "select count(*) > 0 from schema_migrations", **variables)
    assert asked.stdout == "t\n"
    assert _run("db", "stop", **variables).stdout == "stopped\n"
    assert _run("db", "stop", **variables).stdout.startswith("no server runs")


def test_a_server_that_is_not_ours_is_not_stopped() -> None:
    done = _run("db", "stop", DATABASE_URL="postgresql://me@here/x")
    assert done.returncode == 0
    assert "not ours" in done.stdout


def test_an_unreachable_database_is_exit_code_2_without_a_traceback(tmp_path: Path) -> None:
    done = _run("migrate", DATABASE_URL=f"postgresql://me@/x?host={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("callboard: DATABASE_URL: no connection")


# --- Finding a Python --------------------------------------------------------------------------


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that were started in our place."""
    calls: list[str] = []
    monkeypatch.setattr(os, "execv", lambda path, _arguments: calls.append(str(path)))
    return calls


@pytest.mark.parametrize("running", [(3, 9, 18), (3, 14, 1)])
def test_another_python_is_left_for_one_that_works(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executed: list[str],
    running: tuple[int, int, int],
) -> None:
    for name, body in (("python3.13", "exit 127  # a shim of pyenv"), ("python3.11", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "version_info", running)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):  # only because the exec that ends us is a stand-in
        run.go_on_under_a_fitting_python()
    assert executed == [str(tmp_path / "python3.11")]


def test_without_a_fitting_python_the_error_says_which_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11, 3\.12 or 3\.13 .*this is 3\.9\.18"):
        run.go_on_under_a_fitting_python()


def test_the_start_of_run_py_can_be_read_by_an_old_python() -> None:
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 6))


# --- The environment ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "is_satisfied"),
    [
        ("pytest", True),
        ("pytest>=7,<99", True),
        ("pytest[extra]>=7", True),
        ("pytest>=99", False),
        ("pytest<7", False),
        ("surely-not-installed", False),
    ],
)
def test_installed_packages_are_compared_with_bounds(requirement: str, is_satisfied: bool) -> None:
    assert satisfied(requirement) is is_satisfied


def test_a_bound_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown here"):
        satisfied("pytest~=7.0")


def test_this_interpreter_has_all_that_pyproject_asks_for() -> None:
    assert missing("dev") == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-peers.lock"])
def test_a_lock_pins_everything_by_hash_and_names_no_host_or_folder(name: str) -> None:
    text = (ROOT / name).read_text()
    pins = re.findall(r"^[a-z0-9][\w.-]*==\S+.*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) > 0
    assert "/" not in text
    assert not re.search(r"^\s*--(?!hash)", text, re.MULTILINE)


def test_the_locks_have_all_that_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    for name, wanted in (
        ("requirements.lock", project["project"]["dependencies"] + groups["dev"]),
        ("requirements-peers.lock", groups["peers"]),
    ):
        locked = set(re.findall(r"^([\w.-]+)==", (ROOT / name).read_text(), re.MULTILINE))
        assert {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted} <= locked


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that needs one package that nobody has, and a lock that installs nothing."""
    package = tmp_path / "http" / "cli"
    shutil.copytree(ROOT / "http" / "cli", package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text('project.dependencies = ["surely-not-installed"]')
    (tmp_path / "requirements.lock").write_text("# nothing\n")
    (tmp_path / "go.py").write_text(
        "import os, sys; sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'http'))\n"
        "from cli import environment; environment.enter(); print(sys.prefix, sys.argv[1:])"
    )
    return tmp_path


def _go(clone: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, clone / "go.py", "an argument"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )


def test_two_first_starts_at_once_make_one_environment(clone: Path) -> None:
    outputs = [process.communicate() for process in (_go(clone), _go(clone))]
    assert {out for out, _err in outputs} == {f"{clone / '.venv'} ['an argument']\n"}
    assert sum("making" in err for _out, err in outputs) == 1


def test_the_environment_is_brought_up_to_date_only_when_the_lock_changes(clone: Path) -> None:
    _go(clone).communicate()
    _out, silence = _go(clone).communicate()
    assert silence == ""
    (clone / "requirements.lock").write_text("# changed\n")
    out, err = _go(clone).communicate()
    assert "installing" in err
    assert "making" not in err
    assert out.startswith(str(clone / ".venv"))


def test_an_environment_whose_python_is_gone_is_made_anew(clone: Path) -> None:
    _go(clone).communicate()
    (clone / ".venv" / "bin" / "python").unlink()
    out, err = _go(clone).communicate()
    assert "making" in err
    assert out.startswith(str(clone / ".venv"))


def test_a_failed_installation_shows_why_and_is_tried_again(clone: Path) -> None:
    (clone / "requirements.lock").write_text("not-hashed==1\n")
    _out, err = _go(clone).communicate()
    assert "installing failed" in err
    assert "hash" in err
    (clone / "requirements.lock").write_text("# nothing\n")
    out, _err = _go(clone).communicate()
    assert out.startswith(str(clone / ".venv"))


def test_a_prepared_environment_is_used_as_it_is(clone: Path) -> None:
    (clone / "pyproject.toml").write_text('project.dependencies = ["pytest>=7"]')
    out, err = _go(clone).communicate()
    assert out.startswith(sys.prefix)
    assert err == ""
    assert not (clone / ".venv").exists()


def test_the_peers_are_not_installed_into_an_environment_that_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "missing", lambda *_args, **_options: ["pgqueuer"])
    monkeypatch.setattr(environment, "VENV", tmp_path / ".venv")
    assert environment.ensure_peers() is False
