"""A stranger's first minutes: any folder, any Python, wrong settings, two starts at once."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli import checks, environment
from cli.arguments import benchmarks, families
from cli.commands import build_parser, main
from cli.environment import ROOT, missing, satisfied

import run
from runtime.registry import FAMILIES, Registry
from runtime.settings import Settings

COMMANDS = ["demo", "test", "serve", "api", "worker", "migrate", "token create", "db uri",
            "db psql", "db stop", "settings", "bench"]  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: object
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Does in this process what run.py does, without the second that a new one takes to import."""
    # The operator's own server is out of reach, whatever a command does by mistake.
    monkeypatch.setenv("CALLBOARD_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(environment, "enter", lambda **_options: None)
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)  # pytest's own shall stay

    def run_here(*arguments: str, **variables: str) -> Ended:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        try:
            code: object = main(list(arguments))
        except SystemExit as end:
            code = end.code
        return Ended(code, *capfd.readouterr())

    return run_here


def _run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run run.py in a process of its own, from another folder."""
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


def test_help_needs_nothing_but_the_standard_library() -> None:
    bare = [sys.executable, "-S", str(ROOT / "run.py"), "worker", "--help"]
    assert "timing" in subprocess.check_output(bare, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([*command.split(), "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: run.py {command}")


def test_every_benchmark_says_what_it_measures() -> None:
    assert all(benchmarks().values())


@pytest.mark.parametrize("name", benchmarks())
def test_every_option_of_a_benchmark_stands_in_its_help(name: str, call: Call) -> None:
    source = (ROOT / "bench" / f"{name}.py").read_text()
    done = call("bench", name, "--help")
    assert done.code == 0
    for option in ["--json", "--small", *re.findall(r'add_argument\(\s*"(--\w+)"', source)]:
        assert option in done.out


@pytest.mark.parametrize(
    ("name", "options", "handed_on"),
    [
        ("inward", ["--contacts", "7"], ["--contacts", "7"]),
        ("latency", ["--times", "7", "--json"], ["--times", "7"]),
        ("sleepers", ["--small"], []),
    ],
)
def test_a_benchmark_is_given_its_size(
    name: str,
    options: list[str],
    handed_on: list[str],
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, object] = {}

    def measure(_settings: Settings, **words: object) -> int:
        given.update(words)
        return 0

    monkeypatch.setattr(environment, "ensure_peers", lambda: True)
    monkeypatch.setattr(f"bench.{name}.main", measure)
    assert call("bench", name, *options).code == 0
    small, json = "--small" in options, "--json" in options
    assert given == {"argv": handed_on, "json": json, "small": small}


WRONG_USAGE = [
    ("demo --contacts 0", "must be 1 or more"),
    ("demo --contacts x", "'x' is not a whole number"),
    ("demo --contact 5", "unrecognized arguments: --contact 5, did you mean '--contacts'?"),
    ("demo --kep=1", "did you mean '--keep'?"),
    ("dmeo", "did you mean 'demo'?"),
    ("db urii", "did you mean 'uri'?"),
    ("bench nonsense", "invalid choice"),
    ("bench inwrad", "did you mean 'inward'?"),
    ("bench sleepers --times 5", "unrecognized arguments"),
    ("token create --role edtor", "did you mean 'editor'?"),
    ("worker --families crmm", "there is no family 'crmm', did you mean 'crm'?"),
    ("worker --families xyzzy", "there is no family 'xyzzy'; there are: crm, timing"),
    ("worker --families ,", "names no family; there are: crm, timing"),
    ("", "required"),
]


@pytest.mark.parametrize(("line", "complaint"), WRONG_USAGE)
def test_wrong_usage_is_exit_code_2_and_says_what_was_meant(
    line: str, complaint: str, call: Call
) -> None:
    done = call(*line.split())
    assert done.code == 2
    assert complaint in done.err


def test_every_check_is_run_whatever_the_others_say(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stages = {"bad": ["-c", "raise SystemExit(3)"], "good": ["-c", "import cli, runtime"]}
    monkeypatch.setattr(checks, "_STAGES", stages)
    assert checks.run_all([]) == 1
    assert re.findall(r"^(\w+) +(FAILED|ok) ", capfd.readouterr().out, re.MULTILINE) == [
        ("bad", "FAILED"), ("good", "ok"),
    ]  # fmt: skip


def test_further_arguments_of_test_go_to_pytest_alone(call: Call) -> None:
    done = call("test", "--version")
    assert (done.code, done.out.split()[0]) == (0, "pytest")


def test_a_worker_for_a_family_in_which_nothing_runs_is_refused(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.registry", Registry(actions={}))
    done = call("worker", "--families", "email")
    assert done.code == 2
    assert "nothing runs yet in the family email" in done.err


def test_a_workers_help_names_the_families(call: Call) -> None:
    assert families() == FAMILIES
    assert ", ".join(FAMILIES) in " ".join(call("worker", "--help").out.split())


# --- Settings ----------------------------------------------------------------------------------

DAYS = "CALLBOARD_RETENTION_EVENTS_DAYS"

WRONG_SETTINGS = [
    ("CALLBOARD_API_PORT", "eighty", "= 'eighty': Input should be a valid integer"),
    ("CALLBOARD_BATCH_SIZE", "0", "greater than or equal to 1"),
    ("CALLBOARD_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
    ("CALLBOARD_PUBLIC_URL", "example.org", "match pattern"),
    ("DATABASE_URL", "mysql://me:secret@here/x", "match pattern"),
    ("CALLBOARD_ACTORS", "crm=2", """= 'crm=2': must be JSON like {"crm": 2}"""),
    ("CALLBOARD_ACTORS", "3", "valid dictionary"),
    ("CALLBOARD_ACTORS", '{"crmm": 2}', "there is no family 'crmm'. Did you mean 'crm'?"),
    ("CALLBOARD_SLOTS", '{"webhok": 2}', "Did you mean 'webhook'?"),
    ("CALLBOARD_SLOTS", '{"crm": -1}', "['crm'] = '-1': Input should be greater than"),
    ("CALLBOARD_STATEMENT_TIMEOUT_MS", "99999999999", "less than or equal to 2147483647"),
    ("CALLBOARD_IDLE_IN_TRANSACTION_TIMEOUT_MS", "99999999999", "less than or equal to"),
    (DAYS, "inf", "finite number"),
    (DAYS, "nan", "finite number"),
    (DAYS, "1e9", "less than or equal to 36500"),
    ("CALLBOARD_HEARTBEAT_SECONDS", "nan", "finite number"),
    ("CALLBOARD_LEASE_SECONDS", "1", "at least twice CALLBOARD_HEARTBEAT_SECONDS = 5"),
    ("CALLBOARD_BACTH_SIZE", "5", "no such setting. Did you mean 'CALLBOARD_BATCH_SIZE'?"),
    ("CALLBOARD_PORT", "5", "Did you mean 'CALLBOARD_API_PORT'?"),
    ("CALLBOARD_DATABASE_URL", "postgresql://x", "Did you mean 'DATABASE_URL'?"),
    ("CALLBOARD_XYZZY", "5", "there is no such setting."),
]


@pytest.mark.parametrize(("variable", "value", "reason"), WRONG_SETTINGS)
def test_a_wrong_setting_is_named_with_its_reason(
    variable: str, value: str, reason: str, call: Call
) -> None:
    done = call("settings", **{variable: value})
    assert done.code == 2
    assert done.err.startswith(f"callboard: {variable}")
    assert reason in done.err
    assert "secret" not in done.err


def test_wrong_settings_are_all_named_at_once_without_a_traceback() -> None:
    done = _run("settings", CALLBOARD_BATCH_SIZE="0", CALLBOARD_ACTORS="{", CALLBOARD_XYZZY="1")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [re.findall("CALLBOARD_[A-Z_]+", line)[0] for line in lines] == [
        "CALLBOARD_XYZZY", "CALLBOARD_BATCH_SIZE", "CALLBOARD_ACTORS",
    ]  # fmt: skip


def test_variables_that_kubernetes_makes_for_a_service_are_no_misspelt_settings(
    call: Call,
) -> None:
    done = call(
        "settings",
        CALLBOARD_SERVICE_HOST="10.0.0.1",
        CALLBOARD_SERVICE_PORT_HTTP="8100",
        CALLBOARD_PORT="tcp://10.0.0.1:8100",
        CALLBOARD_PORT_8100_TCP_ADDR="10.0.0.1",
        CALLBOARD_XYZZY="",
    )
    assert (done.code, done.err) == (0, "")


def test_settings_are_listed_as_their_variables_take_them_and_without_the_password(
    call: Call,
) -> None:
    done = call(
        "settings",
        DATABASE_URL="postgresql://me:secret@here/x",
        CALLBOARD_LOG_LEVEL="INFO",
        CALLBOARD_ACTORS='{"crm": 3}',
    )
    assert done.code == 0
    assert re.search(r"^CALLBOARD_BATCH_SIZE +500 ", done.out, re.MULTILINE)
    assert re.search(r'^CALLBOARD_ACTORS +\{"crm": 3\} ', done.out, re.MULTILINE)
    assert ":secret@" not in done.out


# --- The database commands ---------------------------------------------------------------------


def test_db_uri_starts_a_server_that_stays_and_db_stop_stops_it(scratch: Path, call: Call) -> None:
    variables = {"CALLBOARD_DATA": str(scratch / "data"), "DATABASE_URL": ""}
    uri = _run("db", "uri", **variables).stdout.strip()
    assert uri.startswith("postgresql://")
    assert call("migrate", **variables).out.startswith("applied 0001_procrastinate")
    assert call("migrate").out == "nothing to do\n"
    asked = call("db", "psql", "-XAtc", "select count(*) > 0 from schema_migrations")
    assert asked.out == "t\n"
    assert call("db", "stop").out == "stopped\n"
    assert call("db", "stop").out.startswith("no server runs")


def test_a_server_that_is_not_ours_is_not_stopped(call: Call) -> None:
    done = call("db", "stop", DATABASE_URL="postgresql://me@here/x")
    assert done.code == 0
    assert "not ours" in done.out


def test_an_unreachable_database_is_exit_code_2_without_a_traceback(tmp_path: Path) -> None:
    done = _run("migrate", DATABASE_URL=f"postgresql://me@/x?host={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("callboard: DATABASE_URL: no connection")


def test_psql_needs_none_on_the_path(server_dsn: str, tmp_path: Path, call: Call) -> None:
    done = call("db", "psql", "-XAtc", "select 42", DATABASE_URL=server_dsn, PATH=str(tmp_path))
    assert (done.code, done.out) == (0, "42\n")


@pytest.mark.parametrize(
    "url", ["postgresql://me:s%40cret@here:77/x", "postgres://me@here:77/x?password=s%40cret"]
)
def test_psql_on_the_path_is_told_the_password_where_ps_does_not_show_it(
    url: str, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "psql").write_text('#!/bin/sh\necho "$PGPASSWORD for $@"\n')
    (tmp_path / "psql").chmod(0o755)
    done = call("db", "psql", "-X", DATABASE_URL=url, PATH=str(tmp_path))
    password, _, arguments = done.out.strip().partition(" for ")
    assert password == "s@cret"
    assert sorted(arguments.split()) == ["-X", "dbname=x", "host=here", "port=77", "user=me"]


def test_an_address_that_psql_cannot_read_is_not_repeated(call: Call) -> None:
    done = call("db", "psql", DATABASE_URL="postgresql://me:se%zzcret@here/x")
    assert done.code == 2
    assert done.err == "callboard: DATABASE_URL: psql cannot read this address\n"


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
    pins = re.findall(
        r"^[a-z0-9][\w.-]*(?:\[[\w, -]+\])?==\S+.*\\\n    --hash=sha256:", text, re.MULTILINE
    )
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
        locked = re.findall(r"^([\w.-]+)(\[.+\])?==", (ROOT / name).read_text(), re.MULTILINE)
        names = {package for package, _ in locked}
        assert {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted} <= names


def test_what_is_asked_for_with_extras_is_pinned_with_them() -> None:
    # Otherwise pip refuses the lock as soon as a newer version of such a package is published.
    lock = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^coverage\[toml\]==", lock, re.MULTILINE)
    assert re.search(r"^psycopg\[binary, pool\]==", lock, re.MULTILINE)


def _clone(folder: Path) -> Path:
    """A folder that needs one package that nobody has, and a lock that installs nothing."""
    package = folder / "http" / "cli"
    shutil.copytree(ROOT / "http" / "cli", package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text('project.dependencies = ["surely-not-installed"]')
    (folder / "requirements.lock").write_text("# nothing\n")
    (folder / "go.py").write_text(
        "import os, sys; sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'http'))\n"
        "from cli import environment; environment.enter(); print(sys.prefix, sys.argv[1:])"
    )
    return folder


def _go(clone: Path, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, clone / "go.py", "an argument"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, **variables},
    )


@pytest.fixture(scope="module")
def first_starts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, str]]]:
    """A clone that was started twice at once, and what the two said."""
    clone = _clone(tmp_path_factory.mktemp("clone"))
    return clone, [process.communicate() for process in (_go(clone), _go(clone))]


@pytest.fixture
def made(first_starts: tuple[Path, object], tmp_path: Path) -> Path:
    """A copy of the clone, with an environment: nothing in that says where it lies."""
    return shutil.copytree(first_starts[0], tmp_path / "copy", symlinks=True)


@pytest.fixture
def installer(tmp_path: Path) -> dict[str, str]:
    """The PATH of an installer that has nothing to do; pip takes a second to find that out."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").write_text("#!/bin/sh\n")
    (programs / "uv").chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}


def test_two_first_starts_at_once_make_one_environment(
    first_starts: tuple[Path, list[tuple[str, str]]],
) -> None:
    clone, outputs = first_starts
    assert {out for out, _err in outputs} == {f"{clone / '.venv'} ['an argument']\n"}
    assert sum("making" in err for _out, err in outputs) == 1


def test_the_environment_is_brought_up_to_date_only_when_the_lock_changes(
    made: Path, installer: dict[str, str]
) -> None:
    out, silence = _go(made).communicate()
    assert out.startswith(str(made / ".venv"))
    assert silence == ""
    (made / "requirements.lock").write_text("# changed\n")
    out, err = _go(made, **installer).communicate()
    assert "installing" in err
    assert "making" not in err
    assert out.startswith(str(made / ".venv"))


def test_an_environment_whose_python_is_gone_is_made_anew(
    made: Path, installer: dict[str, str]
) -> None:
    (made / ".venv" / "bin" / "python").unlink()
    out, err = _go(made, **installer).communicate()
    assert "making" in err
    assert out.startswith(str(made / ".venv"))


def test_a_failed_installation_shows_why_and_is_tried_again(made: Path) -> None:
    # A line that pip refuses before it asks an index.
    (made / "requirements.lock").write_text("no requirement\n")
    _out, err = _go(made).communicate()
    assert "installing failed" in err
    assert "Invalid requirement" in err
    (made / "requirements.lock").write_text("# mended\n")
    out, _err = _go(made).communicate()
    assert out.startswith(str(made / ".venv"))


def test_a_prepared_environment_is_used_as_it_is(tmp_path: Path) -> None:
    clone = _clone(tmp_path)
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
