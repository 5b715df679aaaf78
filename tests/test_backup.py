"""A dump holds everything, and what is restored from it waits until somebody says go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cli import backup
from cli.backup import dump, hold, restore

from runtime.database import DatabaseError, create_pool
from runtime.settings import Settings
from tests.world import World

TAG = ("add_tag", {"tag_name": "greeted"})
WAIT = ("wait_time", {"duration": 1, "unit": "days"})


async def counts(pool: asyncpg.Pool) -> dict[str, int]:
    tables = (
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return {
        row["relname"]: await pool.fetchval(f"SELECT count(*) FROM {row['relname']}")
        for row in await pool.fetch(tables)
    }


@asynccontextmanager
async def opened(like: World, settings: Settings, dsn: str) -> AsyncIterator[World]:
    """The world of another database, with the same account in it; nothing works there yet."""
    pool, side = await create_pool(dsn, settings), await create_pool(dsn, settings, size=2)
    world = World(pool, side, settings, like.registry)
    world.account_id, world.user_id = like.account_id, like.user_id
    try:
        yield world
    finally:
        pool.terminate()
        side.terminate()


async def test_what_is_restored_is_complete_and_held_until_it_is_activated(
    world: World, empty_dsn: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workflow = await world.workflow(TAG, WAIT, TAG, trigger={"event_type": "form_submit"})
    asleep = await world.run(workflow, await world.contact())
    (about_to,) = await world.enrol(workflow, await world.contact())
    assert about_to.execution_id is not None
    file = str(tmp_path / "callboard.dump")
    Path(file).write_bytes(b"an older one")
    assert await asyncio.to_thread(dump, world.settings, file) == 0
    assert Path(file).stat().st_mode & 0o077 == 0
    before = await counts(world.pool)

    settings = world.settings.model_copy(update={"database_url": empty_dsn})
    assert await asyncio.to_thread(restore, settings, file) == 0
    assert "Every workflow is paused. 0 effects have no end" in capfd.readouterr().out
    async with opened(world, settings, empty_dsn) as restored:
        assert {**before, "workflow_triggers": 0} == await counts(restored.pool)
        restored.worker = await restored.new_worker()
        await restored.advance(days=2)
        runs = [asleep, about_to.execution_id]
        assert [(await restored.execution(run))["status"] for run in runs] == ["running"] * 2
        assert await restored.pool.fetchval("SELECT count(*) FROM contact_tags") == 1
        await restored.activate(workflow)
        await restored.settle()
        await restored.advance(days=2)
        assert [(await restored.execution(run))["status"] for run in runs] == ["completed"] * 2
        await asyncio.to_thread(hold, settings)
        assert await restored.pool.fetchval("SELECT status FROM workflows") == "paused"
    assert await asyncio.to_thread(restore, settings, file) == 2
    assert "not empty" in capfd.readouterr().err


async def test_a_file_that_is_no_dump_leaves_nothing_behind(
    settings: Settings, empty_dsn: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.dump"
    broken.write_bytes(b"PGDMP and then nothing")
    other = settings.model_copy(update={"database_url": empty_dsn})
    assert await asyncio.to_thread(restore, other, str(broken)) != 0
    connection: Any = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("SELECT to_regclass('schema_migrations')") is None
    await connection.close()
    assert await asyncio.to_thread(dump, settings, str(tmp_path / "no" / "folder")) != 0
    kept = tmp_path / "kept.dump"
    kept.write_bytes(b"the last good one")
    gone = settings.model_copy(update={"database_url": f"{empty_dsn}&dbname=nowhere"})
    with suppress(DatabaseError):
        assert await asyncio.to_thread(dump, gone, str(kept)) != 0
    assert kept.read_bytes() == b"the last good one"


async def test_what_cannot_be_held_is_not_restored(
    world: World, empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database with active workflows in it would be started, and write to everybody again."""
    file = str(tmp_path / "callboard.dump")
    assert await asyncio.to_thread(dump, world.settings, file) == 0
    monkeypatch.setattr(backup.queries, "pause_everything", "SELECT 1 / 0", raising=False)
    settings = world.settings.model_copy(update={"database_url": empty_dsn})
    assert await asyncio.to_thread(restore, settings, file) != 0
    connection: Any = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("SELECT to_regclass('schema_migrations')") is None
    await connection.close()
