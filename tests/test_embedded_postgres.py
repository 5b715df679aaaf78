"""The embedded PostgreSQL: whoever dies in whatever way, the next start works, nothing is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cli.environment import ROOT

from runtime import embedded_postgres, postgres_cluster
from runtime.embedded_postgres import EmbeddedPostgresError, start, stop

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its privileges away")

# Starts or joins the server in argv[1], says its process id, and ends when stdin does.
_USER = """
import sys
from pathlib import Path
from runtime.embedded_postgres import start
print(start(Path(sys.argv[1]), volatile=True).pid, flush=True)
sys.stdin.read()
"""


class User:
    """Another process that uses a server."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _USER, str(data)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def server_pid(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def leave(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def data(scratch: Path) -> Iterator[Path]:
    """The data folder of a server of this test's own."""
    yield scratch / "data"
    stop(scratch / "data")


async def _fetch(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_the_server_starts_with_our_settings_and_a_database(data: Path) -> None:
    server = start(data)
    assert await _fetch(server.dsn, "select current_database()") == embedded_postgres.DATABASE
    assert await _fetch(server.dsn, "show max_connections") == "200"
    assert await _fetch(server.dsn, "show synchronous_commit") == "on"
    assert await _fetch(server.dsn, "show jit") == "off"
    assert await _fetch(server.dsn_for("postgres"), "show timezone") == "UTC"
    psql = [str(server.psql_path), server.dsn, "-XAtc", "select 42"]
    assert subprocess.check_output(psql, text=True) == "42\n"


async def test_changed_settings_reach_a_running_server(data: Path) -> None:
    assert await _fetch(start(data, volatile=True).dsn, "show fsync") == "off"
    assert await _fetch(start(data).dsn, "show fsync") == "on"


def test_a_second_process_joins_and_the_last_one_out_stops_the_server(data: Path) -> None:
    server = start(data, volatile=True)
    other = User(data)
    assert other.server_pid() == server.pid
    other.leave()
    third = User(data)
    third.server_pid()
    assert server.stop() is False
    third.leave()
    assert stop(data) is False  # the third has stopped it


def test_processes_that_race_for_the_first_start_share_one_server(data: Path) -> None:
    users = [User(data) for _ in range(4)]
    assert len({user.server_pid() for user in users}) == 1
    for user in users:
        user.leave()
    assert stop(data) is False


def test_a_killed_owner_leaves_a_server_that_the_next_one_joins_and_stops(data: Path) -> None:
    owner = User(data)
    pid = owner.server_pid()
    owner.kill()
    server = start(data, volatile=True)
    assert server.pid == pid
    assert server.stop() is True


async def test_a_killed_postmaster_is_replaced_and_nothing_committed_is_lost(data: Path) -> None:
    server = start(data)
    await _fetch(server.dsn, "create table kept as select 7 as number")
    killed = server.pid
    os.kill(killed, signal.SIGKILL)
    again = start(data)
    assert again.pid != killed
    assert await _fetch(again.dsn, "select number from kept") == 7


def test_a_process_id_that_another_program_got_does_not_count(data: Path) -> None:
    server = start(data, volatile=True)
    file = data / "postgres" / "postmaster.pid"
    text = file.read_text()
    server.stop()
    file.write_text(text.replace(text.split()[0], str(os.getpid()), 1))
    assert start(data, volatile=True).pid != os.getpid()


def test_a_frozen_postmaster_is_named_and_left_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(data, volatile=True)
    monkeypatch.setattr(postgres_cluster, "_ANSWER_SECONDS", 1)
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedPostgresError, match=f"{pid} .*does not answer"):
            start(data, volatile=True)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_stop_ends_a_server_that_others_use(data: Path) -> None:
    user = User(data)
    user.server_pid()
    assert stop(data) is True
    user.leave()
    assert user.process.returncode == 0


def test_stop_of_a_folder_without_a_server_says_so(data: Path) -> None:
    assert stop(data) is False


def test_a_server_that_is_kept_outlives_all_its_users_until_it_is_stopped(data: Path) -> None:
    server = start(data, volatile=True)
    server.keep_running()
    assert server.stop() is False
    assert start(data, volatile=True).stop() is False
    assert stop(data) is True
    assert start(data, volatile=True).stop() is True


def test_an_interrupted_first_start_is_begun_anew(data: Path) -> None:
    (data / "postgres.new").mkdir(parents=True)
    (data / "postgres.new" / "PG_VERSION").write_text("18")
    data.chmod(0o755)
    assert start(data, volatile=True).pid


def test_the_environment_of_the_caller_does_not_matter(data: Path) -> None:
    user = User(data, LC_ALL="de_DE.UTF-8", PGPORT="1", PGDATA="/nowhere", TZ="Nowhere/Never")
    assert user.server_pid()
    user.leave()


def test_a_long_path_gets_its_socket_elsewhere(scratch: Path) -> None:
    data = scratch / ("long" * 25)
    server = start(data, volatile=True)
    assert str(data) not in server.dsn
    assert stop(data) is True


def test_a_folder_of_another_version_is_refused(data: Path) -> None:
    start(data, volatile=True).stop()
    (data / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 15"):
        start(data, volatile=True)


def test_a_server_that_cannot_start_shows_its_own_words(data: Path) -> None:
    start(data, volatile=True).stop()
    with (data / "postgres" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        start(data, volatile=True)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file", "is a file, not a folder"),
        ("file/data", "cannot be used: .*Not a directory"),
        ("~nobody-of-that-name/data", "home directory"),
    ],
)
def test_a_folder_that_cannot_be_is_an_error_with_its_reason(
    place: str, reason: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scratch)
    (scratch / "file").touch(mode=0o600)
    with pytest.raises(EmbeddedPostgresError, match=f"{place}.*{reason}"):
        start(Path(place))


@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc")
def test_a_folder_that_the_system_does_not_let_us_make_is_an_error() -> None:
    with pytest.raises(EmbeddedPostgresError, match="/proc/callboard cannot be used: "):
        start(Path("/proc/callboard"))


@as_root
def test_private_parents_are_refused_and_stay_private(scratch: Path) -> None:
    private = scratch / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match="is private"):
        start(private / "data")
    assert private.stat().st_mode & 0o777 == 0o700


@as_root
def test_programs_in_a_private_folder_are_copied(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_cluster.Cluster, "_runs", lambda _self, _program: False)
    server = start(data, volatile=True)
    program = Path(f"/proc/{server.pid}/exe").readlink() if sys.platform == "linux" else data
    assert program.is_relative_to(data)
