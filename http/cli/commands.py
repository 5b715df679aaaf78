"""The command line of run.py: what can be asked for, and which part of Callboard answers.

Imports nothing but the standard library until the environment is there, so that `--help` works on
a bare machine. Every command imports its part by itself.
"""

import argparse
import importlib
import json
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from cli import checks, environment
from cli.arguments import (
    SIZES,
    Parser,
    benchmarks,
    families,
    family_names,
    key_name,
    positive,
    words,
)

if TYPE_CHECKING:
    from runtime.settings import Settings

USAGE_ERROR = 2

_EPILOG = """\
Settings are environment variables: DATABASE_URL (PostgreSQL 16 or newer; without it an embedded
server is started), CALLBOARD_DATA (its folder), CALLBOARD_API_PORT, CALLBOARD_LOG_LEVEL, ...;
`run.py settings` lists them all. The first start installs what is needed into .venv.
"""


class UsageError(Exception):
    """What was asked for makes no sense here; the text says why."""


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; gives the exit code (2: wrong usage or setting)."""
    options, extra = build_parser().parse_known_args(argv)
    if extra and not options.takes_more:
        options.parser.refuse(extra)
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
    from runtime.tracing import TracingError
    from sql.migrate import MigrationError

    perform: Callable[[Settings, argparse.Namespace], int | None] = options.perform
    try:
        return perform(load_settings(), options) or 0
    except (
        DatabaseError,
        EmbeddedPostgresError,
        MigrationError,
        SettingsError,
        TracingError,
        UsageError,
    ) as error:
        return _complain(error)
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception) -> int:
    print(f"callboard: {error}", file=sys.stderr)
    return USAGE_ERROR


# --- What can be asked for ---------------------------------------------------------------------


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="run.py",
        description="Callboard runs the action steps of CRM and marketing workflows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = _add(commands, "demo", _demo, "run a sample workflow for many contacts and show it")
    demo.add_argument("--contacts", type=positive, default=1000, metavar="N", help="default: 1000")
    demo.add_argument("--keep", action="store_true", help="leave everything running at the end")

    _add(
        commands, "test", _test, "lint, types, import contract, tests and coverage", takes_more=True
    ).epilog = "Further arguments go to pytest, which then runs alone: run.py test -k migrate -x"

    _add(commands, "serve", _serve, "API and worker in one process; Ctrl-C ends both")
    _add(commands, "api", _api, "the HTTP API alone; start workers beside it")
    worker = _add(commands, "worker", _worker, "a worker alone; start as many as you like")
    worker.add_argument(
        "--families",
        type=family_names,
        metavar="A,B",
        help=f"perform only these (default: all that anything runs in): {', '.join(families())}",
    )
    _add(commands, "migrate", _migrate, "bring the database's schema up to date")

    token = commands.add_parser("token", help="access to the API", description="Access to the API.")
    tokens = token.add_subparsers(required=True, metavar="COMMAND")
    create = _add(tokens, "create", _token_create, "make a bearer token and print it once")
    create.add_argument("--account", default="default", metavar="NAME", help="made if it is new")
    create.add_argument("--role", choices=("admin", "editor", "viewer"), default="admin")
    create.add_argument("--user", metavar="EMAIL", help="of this user instead, with its role")
    create.add_argument("--name", default="command line", help="tells tokens apart later")
    create.add_argument("--expires-in-days", type=positive, metavar="N", help="default: never")
    create.add_argument(
        "--scopes", type=words, metavar="A,B", help="permissions it is narrowed to (default: all)"
    )
    listing = _add(tokens, "list", _token_list, "list the tokens of an account")
    listing.add_argument("--account", default="default", metavar="NAME")
    revoke = _add(tokens, "revoke", _token_revoke, "end a token at once")
    revoke.add_argument("id", type=UUID, help="as `token list` shows it")

    db = commands.add_parser("db", help="the database", description="The database.")
    dbs = db.add_subparsers(required=True, metavar="COMMAND")
    _add(dbs, "uri", _db_uri, "print the address; an embedded server is started and left running")
    _add(dbs, "psql", _db_psql, "open psql; further arguments go to it", takes_more=True)
    _add(dbs, "stop", _db_stop, "stop the embedded server, whoever uses it")
    dump = _add(dbs, "dump", _db_dump, "write the database into a file (pg_dump)")
    dump.add_argument("file", metavar="FILE")
    restore = _add(dbs, "restore", _db_restore, "fill an empty database from it, all paused")
    restore.add_argument("file", metavar="FILE")
    _add(dbs, "hold", _db_hold, "pause all workflows, before workers see a restored database")

    secrets = commands.add_parser(
        "secrets", help="keys that seal secrets", description="Keys that seal secrets."
    )
    keys = secrets.add_subparsers(required=True, metavar="COMMAND")
    new_key = _add(keys, "new-key", _secrets_new_key, "print a new key for CALLBOARD_SECRET_KEYS")
    new_key.add_argument("--name", type=key_name, metavar="NAME", help="default: today's date")
    _add(keys, "rotate", _secrets_rotate, "seal anew with the first key what others have sealed")

    _add(commands, "settings", _settings, "list all settings, their variables and values")
    _add_bench(commands)
    return parser


def _add_bench(commands: "argparse._SubParsersAction[Parser]") -> None:
    bench = commands.add_parser("bench", help="measure something", description="Measure something.")
    names = bench.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, line in benchmarks().items():
        one = _add(names, name, _bench, line.rstrip(".").replace("%", "%%"))
        one.add_argument("--json", action="store_true", help="print one JSON line at the end")
        one.add_argument("--small", action="store_true", help="a small size: does it still run?")
        one.set_defaults(size=None)
        if name in SIZES:
            option, what = SIZES[name]
            one.add_argument(option, dest="size", type=positive, metavar="N", help=what)


def _add(
    commands: "argparse._SubParsersAction[Parser]",
    name: str,
    perform: "Callable[[Settings, argparse.Namespace], int | None]",
    help_line: str,
    *,
    takes_more: bool = False,
) -> Parser:
    sentence = help_line[0].upper() + help_line[1:] + "."
    parser = commands.add_parser(name, help=help_line, description=sentence)
    parser.set_defaults(parser=parser, perform=perform, takes_more=takes_more)
    return parser


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

    idle = [family for family in options.families or () if family not in registry.families()]
    if idle:
        at_work = ", ".join(registry.families())
        raise UsageError(f"nothing runs yet in the family {idle[0]}, only in: {at_work}")
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
    from api.token_commands import create_from_cli

    return create_from_cli(
        settings,
        account=options.account,
        role=options.role,
        name=options.name,
        email=options.user,
        days=options.expires_in_days,
        scopes=options.scopes,
    )


def _token_list(settings: "Settings", options: argparse.Namespace) -> int | None:
    from api.token_commands import list_from_cli

    return list_from_cli(settings, options.account)


def _token_revoke(settings: "Settings", options: argparse.Namespace) -> int | None:
    from api.token_commands import revoke_from_cli

    return revoke_from_cli(settings, options.id)


def _db_uri(settings: "Settings", _options: argparse.Namespace) -> None:
    from runtime import embedded_postgres

    if settings.database_url is not None:
        print(settings.database_url)
    else:
        server = embedded_postgres.start(settings.data)
        server.keep_running()
        print(server.dsn)


def _db_psql(settings: "Settings", options: argparse.Namespace) -> int:
    from cli.psql import run

    return run(settings, options.extra)


def _db_dump(settings: "Settings", options: argparse.Namespace) -> int:
    from cli.backup import dump

    return dump(settings, options.file)


def _db_restore(settings: "Settings", options: argparse.Namespace) -> int:
    from cli.backup import restore

    return restore(settings, options.file)


def _db_hold(settings: "Settings", _options: argparse.Namespace) -> None:
    from cli.backup import hold

    hold(settings)


def _db_stop(settings: "Settings", _options: argparse.Namespace) -> None:
    from runtime import embedded_postgres

    if settings.database_url is not None:
        print("DATABASE_URL is set: that server is not ours to stop")
    else:
        stopped = embedded_postgres.stop(settings.data)
        print("stopped" if stopped else f"no server runs in {settings.data}")


def _secrets_new_key(_settings: "Settings", options: argparse.Namespace) -> None:
    import datetime

    from runtime.secret_keys import new_key

    print(new_key(options.name or f"{datetime.datetime.now(datetime.UTC):k%Y-%m-%d}"))


def _secrets_rotate(settings: "Settings", _options: argparse.Namespace) -> None:
    from actors.secret_rotation import rotate
    from runtime.secrets import VaultError

    try:
        print(f"sealed anew: {rotate(settings)}")
    except VaultError as error:
        raise UsageError(str(error)) from None


def _settings(settings: "Settings", _options: argparse.Namespace) -> None:
    from runtime.settings import variable_of

    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        shown = "(set)" if name == "database_url" and value else _as_written(value)
        print(f"{variable_of(name):42} {shown:32} {field.description}")


def _as_written(value: object) -> str:
    """A setting's value as its variable takes it."""
    if isinstance(value, dict):
        return json.dumps(value)
    return "-" if value is None else str(value)


def _bench(settings: "Settings", options: argparse.Namespace) -> int:
    if options.name == "inward" and not environment.ensure_peers():
        print("callboard: pgqueuer is not installed here and will be left out", file=sys.stderr)
    module = importlib.import_module(f"bench.{options.name}")
    argv = [] if options.size is None else [SIZES[options.name][0], str(options.size)]
    code: int = module.main(settings, json=options.json, small=options.small, argv=argv)
    return code
