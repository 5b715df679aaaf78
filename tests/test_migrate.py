"""Migrations apply once, in order, whoever starts; named queries come from their files."""

import asyncio
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest
from cli.environment import ROOT

from sql import MIGRATIONS, QUERIES, Queries, load
from sql.migrate import MigrationError, migrate

OWN = ["0001_procrastinate", *sorted(path.stem for path in MIGRATIONS.glob("*.sql"))]

# What Procrastinate's schema consists of, as text: columns, indexes, functions, triggers, types.
_PROCRASTINATES_OBJECTS = """
    select 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
      from information_schema.columns where table_name like 'procrastinate%'
    union all
    select 'index ' || indexdef from pg_indexes where tablename like 'procrastinate%'
    union all
    select 'function ' || pg_get_functiondef(oid) from pg_proc where proname like 'procrastinate%'
    union all
    select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger where tgname like 'procrastinate%'
    union all
    select 'label ' || enumtypid::regtype || ' ' || enumlabel from pg_enum
     where enumtypid::regtype::text like 'procrastinate%'
    order by 1
"""


async def _column(dsn: str, query: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one small migration."""
    (tmp_path / "0002_things.sql").write_text("create table things (id int);")
    return tmp_path


async def test_racing_migrations_apply_each_file_once(empty_dsn: str) -> None:
    results = await asyncio.gather(*(migrate(empty_dsn) for _ in range(4)))
    assert sorted(results, key=len) == [[], [], [], OWN]
    recorded = "select name from schema_migrations order by applied_at"
    assert await _column(empty_dsn, recorded) == OWN


async def test_a_second_run_applies_only_what_is_new(empty_dsn: str, folder: Path) -> None:
    assert await migrate(empty_dsn, folder) == ["0001_procrastinate", "0002_things"]
    (folder / "0003_more.sql").write_text(
        "create function f() returns int language plpgsql as $$ begin return 1; end $$;"
        "select f(); -- several statements; and semicolons within them"
    )
    assert await migrate(empty_dsn, folder) == ["0003_more"]


async def test_an_applied_file_that_changed_is_refused(empty_dsn: str, folder: Path) -> None:
    await migrate(empty_dsn, folder)
    (folder / "0002_things.sql").write_text("create table other_things (id int);")
    with pytest.raises(MigrationError, match=r"0002_things\.sql was changed"):
        await migrate(empty_dsn, folder)


async def test_line_endings_are_no_change(empty_dsn: str, folder: Path) -> None:
    (folder / "0003_two_lines.sql").write_bytes(b"select 1;\nselect 2;\n")
    await migrate(empty_dsn, folder)
    (folder / "0003_two_lines.sql").write_bytes(b"select 1;\r\nselect 2;\r\n")
    assert await migrate(empty_dsn, folder) == []


async def test_a_database_that_is_newer_than_the_code_is_refused(
    empty_dsn: str, folder: Path
) -> None:
    await migrate(empty_dsn, folder)
    (folder / "0002_things.sql").unlink()
    with pytest.raises(MigrationError, match="has the migration 0002_things, this code does not"):
        await migrate(empty_dsn, folder)


async def test_a_failing_migration_leaves_nothing_behind(empty_dsn: str, folder: Path) -> None:
    (folder / "0003_bad.sql").write_text("create table half (id int); select 1/0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_dsn, folder)
    assert await _column(empty_dsn, "select to_regclass('half')::text") == [None]
    (folder / "0003_bad.sql").write_text("create table half (id int);")
    assert await migrate(empty_dsn, folder) == ["0003_bad"]


async def test_everything_goes_where_search_path_points(empty_dsn: str) -> None:
    await _column(empty_dsn, "create schema cell")
    assert await migrate(f"{empty_dsn}&search_path=cell") == OWN
    objects = "select relname from pg_class where relnamespace = 'public'::regnamespace"
    assert await _column(empty_dsn, objects) == []


async def test_procrastinates_schema_is_the_packaged_one(dsn: str, empty_dsn: str) -> None:
    packaged = files("procrastinate").joinpath("sql", "schema.sql").read_text()
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(packaged)
    await connection.close()
    ours = await _column(dsn, _PROCRASTINATES_OBJECTS)
    assert len(ours) > 50
    assert ours == await _column(empty_dsn, _PROCRASTINATES_OBJECTS)
    note = "select note from schema_migrations where name = '0001_procrastinate'"
    assert await _column(dsn, note) == [f"procrastinate {version('procrastinate')}"]


def test_procrastinate_brings_no_migration_that_we_do_not_know() -> None:
    """A newer file here means: databases made earlier need it as a migration of ours."""
    folder = files("procrastinate").joinpath("sql", "migrations")
    packaged = [path.name for path in folder.iterdir() if path.name.endswith(".sql")]
    assert max(packaged).startswith("03.04.00")


async def test_procrastinates_schema_that_was_there_is_kept(empty_dsn: str, folder: Path) -> None:
    packaged = files("procrastinate").joinpath("sql", "schema.sql").read_text()
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(packaged)
    await connection.close()
    assert await migrate(empty_dsn, folder) == ["0001_procrastinate", "0002_things"]


def test_named_queries_are_read_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "claims.sql"
    path.write_text(
        "-- What claims do.\n\n"
        "-- name: claim_steps\n-- Claims.\n\nselect 1 -- one\n  , 2;\n\n"
        "-- name: nothing\nselect ';'\n"
    )
    claims = Queries(path)
    assert claims.claim_steps == "/* claims.claim_steps */ select 1 -- one\n  , 2"
    assert claims.nothing == "/* claims.nothing */ select ';'"
    assert "claim_steps" in dir(claims)
    with pytest.raises(AttributeError, match=r"claims\.sql has no query 'claim_step' .*nothing"):
        _ = claims.claim_step


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select 1;\n-- name: a\nselect 2", "before the first"),
        ("-- name: a b\nselect 2", "'a b' is no name"),
        ("-- name: a\nselect 1;\n-- name: a\nselect 2", "two queries are named a"),
    ],
)
def test_a_malformed_file_of_queries_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "bad.sql").write_text(text)
    with pytest.raises(ValueError, match=f"bad.sql: .*{complaint}"):
        Queries(tmp_path / "bad.sql")


@pytest.mark.parametrize("path", sorted(QUERIES.glob("*.sql")), ids=lambda path: path.stem)
def test_every_file_of_queries_loads(path: Path) -> None:
    assert load(path.stem) is load(path.stem)


def test_the_folder_http_does_not_hide_the_standard_library() -> None:
    assert not (ROOT / "http" / "__init__.py").exists()
    subprocess.run([sys.executable, "-c", "import http.client, aiohttp"], cwd=ROOT, check=True)
