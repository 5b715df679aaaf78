"""Makes `.venv` beside this file from requirements.lock, and goes on under it.

Standard library only, since it runs before anything is installed. An interpreter that already has
what pyproject.toml asks for (a prepared container) is used as it is.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
PEERS_LOCK = ROOT / "requirements-peers.lock"

_OLDEST_PIP_WITH_PYTHON_OPTION = (22, 3)
_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 3.0


class SetupError(Exception):
    """The environment cannot be made; the text says what helps."""


def enter(*, dev: bool = False) -> None:
    """Come back in an interpreter that has all dependencies (with `dev`, the tools for tests too).

    Either the running one has them, or `.venv` is brought up to date and this program starts over
    in it. SetupError if that fails; a half-made `.venv` is completed by the next call.
    """
    if _is_current(LOCK):
        if _inside():
            return
    elif not _inside() and not missing("dev" if dev else None):
        return
    else:
        with _turn():
            if not _is_current(LOCK):
                _make()
                _install(LOCK)
    os.execv(PYTHON, [str(PYTHON), *sys.argv])  # noqa: S606 (no shell: these are our own words)


def ensure_peers() -> bool:
    """Have the packages that `bench inward` compares with; False if they are absent and stay so.

    They are only ever installed into our own `.venv`.
    """
    if not missing("peers", runtime=False):
        return True
    if not _inside():
        return False
    with _turn():
        if not _is_current(PEERS_LOCK):
            _install(PEERS_LOCK)
    importlib.invalidate_caches()
    return True


def missing(group: str | None = None, *, runtime: bool = True) -> list[str]:
    """What pyproject.toml asks for and the running interpreter does not have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted: list[str] = list(project["project"]["dependencies"]) if runtime else []
    if group:
        wanted += project["dependency-groups"][group]
    return [requirement for requirement in wanted if not satisfied(requirement)]


def satisfied(requirement: str) -> bool:
    """Whether `name[extra]>=1.2,<2` is installed. Knows the operators that pyproject.toml uses."""
    name, _extras, bounds = re.fullmatch(r"([\w.-]+)(\[[\w,-]+])?(.*)", requirement).groups()  # type: ignore[union-attr]
    try:
        installed = _numbers(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False
    for bound in filter(None, bounds.split(",")):
        operator, limit = bound[:2].rstrip("0123456789"), _numbers(bound)
        if operator not in {">=", "<"}:
            raise ValueError(f"pyproject.toml: {requirement!r} uses an operator unknown here")
        if (installed < limit) is (operator == ">="):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _inside() -> bool:
    return Path(sys.prefix).resolve() == VENV.resolve()


def _stamp(lock: Path) -> Path:
    return VENV / f"{lock.name}.installed"


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _is_current(lock: Path) -> bool:
    try:
        return PYTHON.exists() and _stamp(lock).read_text() == _digest(lock)
    except FileNotFoundError:
        return False


@contextmanager
def _turn() -> Iterator[None]:
    """Only one process at a time changes `.venv`; our folder itself is the lock's file."""
    if not os.access(VENV if VENV.exists() else ROOT, os.W_OK):
        raise SetupError(f"{VENV} cannot be written. Run this once as the owner of {ROOT}.")
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another process is setting up .venv; waiting for it")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _make() -> None:
    """Make `.venv`, without pip: Debian has no ensurepip, and elsewhere it takes seconds.

    One that runs is kept; one whose Python is gone or out of range is made anew.
    """
    if PYTHON.exists():
        check = "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"
        if subprocess.call([PYTHON, "-c", check], stderr=subprocess.DEVNULL) == 0:
            return
    _say(f"making {VENV} with Python {sys.version.split()[0]}")
    make = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)]
    done = subprocess.run(make, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(make)} failed:\n{done.stdout}{done.stderr}")


def _install(lock: Path) -> None:
    began = time.monotonic()
    _say(f"installing the packages of {lock.name} into {VENV}")
    uv = shutil.which("uv")
    # uv does not read pip's configuration, so where a mirror is set for pip, uv may fail.
    if uv is None or _watch([uv, "pip", "install", "--python", str(PYTHON), "--require-hashes",
                             "--no-progress", "-r", str(lock)], began):  # fmt: skip
        tail = _watch([*_pip(), "install", "--require-hashes", "--no-input", "--progress-bar=off",
                       "--disable-pip-version-check", "-r", str(lock)], began)  # fmt: skip
        if tail:
            raise SetupError("\n".join(["installing failed; pip's last words:", *tail]))
    _stamp(lock).write_text(_digest(lock))
    _say(f"installed in {time.monotonic() - began:.0f} s")


def _pip() -> list[str]:
    """A pip that installs into `.venv`: ours from outside, else one put into it."""
    if importlib.util.find_spec("pip") is not None:
        version = _numbers(importlib.metadata.version("pip"))
        if version >= _OLDEST_PIP_WITH_PYTHON_OPTION:
            return [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    done = subprocess.run([PYTHON, "-m", "ensurepip"], check=False, capture_output=True)
    if done.returncode != 0:
        raise SetupError(
            "this Python has neither pip nor ensurepip. Install one of them "
            "(Debian, Ubuntu: apt install python3-pip) and start again."
        )
    return [str(PYTHON), "-m", "pip"]


def _watch(command: list[str], began: float) -> list[str]:
    """Run an installer and show that it lives; gives nothing, or its last lines if it failed."""
    lines: deque[str] = deque(maxlen=15)
    environment = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() and not line.startswith("WARNING: Location"):  # a mirror's gaps
                lines.append(line.rstrip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    live = sys.stderr.isatty()
    shown = time.monotonic()
    try:
        while reader.is_alive():
            reader.join(_REDRAW_SECONDS)
            if live or time.monotonic() - shown >= _LINE_SECONDS:
                shown = time.monotonic()
                latest = re.sub(r"\s*(--hash\S+|\(from .*)", "", lines[-1]) if lines else "starting"
                text = f"[{shown - began:3.0f} s] {latest.strip()}"[:99]
                print(f"\r\033[K{text}" if live else text, end="" if live else "\n",
                      file=sys.stderr, flush=True)  # fmt: skip
        failed = process.wait() != 0
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        if live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    return list(lines) or ["(it said nothing)"] if failed else []


def _say(text: str) -> None:
    # Not to stdout: `run.py db uri` and `bench --json` are read by programs.
    print(f"callboard: {text}", file=sys.stderr, flush=True)
