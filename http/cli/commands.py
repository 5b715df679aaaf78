"""The command line of run.py: what can be asked for, and which part of Callboard answers.

Imports nothing but the standard library until the environment is there, so that `--help` works on
a bare machine. Every command imports its part by itself.
"""

import argparse
import ast
import importlib
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli import checks, environment

if TYPE_CHECKING:
    from runtime.settings import Settings

ROOT = environment.ROOT
USAGE_ERROR = 2

_EPILOG = """\
Settings are environment variables: DATABASE_URL (PostgreSQL 16 or newer; without it an embedded
server is started), CALLBOARD_DATA (its folder), CALLBOARD_API_PORT, CALLBOARD_LOG_LEVEL, ...;
`run.py settings` lists them all. The first start installs what is needed into .venv.
"""


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; gives the exit code (2: wrong usage or setting)."""
    parser = build_parser()
    options, extra = parser.parse_known_args(argv)
    if extra and not options.takes_more:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    options.extra = extra
    signal.signal(signal.SIGTERM, _end)
    try:
        environment.enter(dev=options.command == "test")
    except environment.SetupError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return 130
    return _perform(options)


def _end(_signal: int, _frame: object) -> None:
    sys.exit(128 + signal.SIGTERM)  # by an exception, so that children and servers are stopped


def _perform(options: argparse.Namespace) -> int:
    from runtime.database import DatabaseError
    from runtime.embedded_postgres import EmbeddedPostgresError
    from runtime.settings import SettingsError, load_settings
    from sql.migrate import MigrationError

    perform: Callable[[Settings, argparse.Namespace], int | None] = options.perform
    try:
        return perform(load_settings(), options) or 0
    except (DatabaseError, EmbeddedPostgresError, MigrationError, SettingsError) as error:
        return _complain(error)
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception) -> int:
    print(f"callboard: {error}", file=sys.stderr)
    return USAGE_ERROR


# --- What can be asked for ---------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Callboard runs the action steps of CRM and marketing workflows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _add(commands, "demo", _demo, "run a sample workflow for many contacts and show it")
    demo.add_argument("--contacts", type=_positive, default=1000, metavar="N", help="default: 1000")
    demo.add_argument("--keep", action="store_true", help="leave everything running at the end")

    _add(
        commands, "test", _test, "lint, types, import contract, tests and coverage", takes_more=True
    ).epilog = "Further arguments go to pytest, which then runs alone: run.py test -k migrate -x"

    _add(commands, "serve", _serve, "API and worker in one process; Ctrl-C ends both")
    _add(commands, "api", _api, "the HTTP API alone; start workers beside it")
    worker = _add(commands, "worker", _worker, "a worker alone; start as many as you like")
    worker.add_argument(
        "--families", type=_names, metavar="A,B", help="perform only these families (default: all)"
    )
    _add(commands, "migrate", _migrate, "bring the database's schema up to date")

    token = commands.add_parser("token", help="access to the API", description="Access to the API.")
    tokens = token.add_subparsers(required=True, metavar="COMMAND")
    create = _add(tokens, "create", _token_create, "make a bearer token and print it once")
    create.add_argument("--account", default="default", metavar="NAME", help="made if it is new")
    create.add_argument("--role", choices=("admin", "editor", "viewer"), default="admin")
    create.add_argument("--name", default="command line", help="tells tokens apart later")

    db = commands.add_parser("db", help="the database", description="The database.")
    dbs = db.add_subparsers(required=True, metavar="COMMAND")
    _add(dbs, "uri", _db_uri, "print the address; an embedded server is started and left running")
    _add(dbs, "psql", _db_psql, "open psql; further arguments go to it", takes_more=True)
    _add(dbs, "stop", _db_stop, "stop the embedded server, whoever uses it")

    _add(commands, "settings", _settings, "list all settings, their variables and values")
    _add_bench(commands)
    return parser


def _add_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    names = benchmarks()
    bench = _add(commands, "bench", _bench, "measure something", takes_more=True)
    bench.add_argument("name", choices=sorted(names), metavar="NAME", help=", ".join(sorted(names)))
    bench.add_argument("--json", action="store_true", help="print one JSON line at the end")
    bench.add_argument("--small", action="store_true", help="a small size: does it still run?")
    bench.formatter_class = argparse.RawDescriptionHelpFormatter
    bench.epilog = "\n".join(f"{name:10} {line}" for name, line in sorted(names.items()))


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    perform: "Callable[[Settings, argparse.Namespace], int | None]",
    help_line: str,
    *,
    takes_more: bool = False,
) -> argparse.ArgumentParser:
    sentence = help_line[0].upper() + help_line[1:] + "."
    parser = commands.add_parser(name, help=help_line, description=sentence, allow_abbrev=False)
    parser.set_defaults(perform=perform, takes_more=takes_more)
    return parser


def benchmarks() -> dict[str, str]:
    """The benchmarks in bench/ and the first line of each one's docstring."""
    found = {}
    for path in (ROOT / "bench").glob("*.py"):
        if not path.name.startswith("_") and path.stem != "demo":
            docs = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = docs.partition("\n")[0]
    return found


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


# --- Who answers -------------------------------------------------------------------------------


def _demo(settings: "Settings", options: argparse.Namespace) -> int:
    from bench.demo import main as demo

    return demo(settings, contacts=options.contacts, keep=options.keep)


def _test(_settings: "Settings", options: argparse.Namespace) -> int:
    return checks.run_all(options.extra)


def _serve(settings: "Settings", _options: argparse.Namespace) -> int | None:
    from api.server import run

    return run(settings, with_worker=True)


def _api(settings: "Settings", _options: argparse.Namespace) -> int | None:
    from api.server import run

    return run(settings, with_worker=False)


def _worker(settings: "Settings", options: argparse.Namespace) -> int | None:
    from actors import registry
    from runtime.worker import run

    return run(settings, registry, options.families)


def _migrate(settings: "Settings", _options: argparse.Namespace) -> None:
    import asyncio

    from runtime.database import resolve_dsn
    from sql.migrate import migrate

    async def run() -> list[str]:
        return await migrate(await resolve_dsn(settings))

    applied = asyncio.run(run())
    print("\n".join(f"applied {name}" for name in applied) or "nothing to do")


def _token_create(settings: "Settings", options: argparse.Namespace) -> int | None:
    from api.tokens import create_from_cli

    return create_from_cli(settings, account=options.account, role=options.role, name=options.name)


def _db_uri(settings: "Settings", _options: argparse.Namespace) -> None:
    from runtime import embedded_postgres

    if settings.database_url is not None:
        print(settings.database_url)
    else:
        server = embedded_postgres.start(settings.data)
        server.keep_running()
        print(server.dsn)


def _db_psql(settings: "Settings", options: argparse.Namespace) -> int:
    from runtime import embedded_postgres
    from runtime.postgres_cluster import wheel_binaries

    # A server that we start for this lives as long as psql, unless others use it.
    dsn = settings.database_url or embedded_postgres.start(settings.data).dsn
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql's own: it cancels the running query
    return subprocess.call([str(wheel_binaries() / "psql"), dsn, *options.extra])


def _db_stop(settings: "Settings", _options: argparse.Namespace) -> None:
    from runtime import embedded_postgres

    if settings.database_url is not None:
        print("DATABASE_URL is set: that server is not ours to stop")
    else:
        stopped = embedded_postgres.stop(settings.data)
        print("stopped" if stopped else f"no server runs in {settings.data}")


def _settings(settings: "Settings", _options: argparse.Namespace) -> None:
    from runtime.settings import variable_of

    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        shown = "(set)" if name == "database_url" and value else "-" if value is None else value
        print(f"{variable_of(name):42} {shown!s:24} {field.description}")


def _bench(settings: "Settings", options: argparse.Namespace) -> int:
    if options.name == "inward" and not environment.ensure_peers():
        print("callboard: pgqueuer is not installed here and will be left out", file=sys.stderr)
    module = importlib.import_module(f"bench.{options.name}")
    code: int = module.main(settings, json=options.json, small=options.small, argv=options.extra)
    return code
