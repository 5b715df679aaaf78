"""The hot queries keep to their indexes when history has grown large."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from runtime.clock import current_instant
from runtime.database import Connection
from sql import load
from tests.world import World

LARGE = (
    "workflow_action_executions",
    "workflow_executions",
    "effects",
    "domain_events",
    "workflow_action_attempts",
)
STEPS = 60_000


@pytest.fixture
async def history(world: World) -> World:
    """An account with 60,000 finished, 20,000 sleeping and 500 ready steps, and as many effects."""
    workflow = await world.workflow(("add_tag", {"tag_name": "New"}))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    async with world.pool.acquire() as db, db.transaction():
        # Rows of history only: what they refer to exists, the checks would take a minute.
        await db.execute("SET LOCAL session_replication_role = replica")
        for table in ("workflow_action_executions", "workflow_executions", "domain_events"):
            await _copies(db, table, STEPS)
        await db.execute(
            "UPDATE workflow_action_executions SET status = 'scheduled',"
            " scheduled_at = now() + random() * interval '300 days'"
            " WHERE id IN (SELECT id FROM workflow_action_executions LIMIT 20000)"
        )
        await db.execute(
            "UPDATE workflow_action_executions SET status = 'pending'"
            " WHERE id IN (SELECT id FROM workflow_action_executions"
            " WHERE status = 'completed' LIMIT 500)"
        )
        await db.execute(
            "INSERT INTO effects (account_id, step_id, execution_id, contact_id, kind, family,"
            " lane_id, status, idempotency_key, created_at)"
            " SELECT $1, s.id, $2, gen_random_uuid(), 'test', 'webhook', 1,"
            " CASE WHEN random() < 0.01 THEN 'pending' ELSE 'succeeded' END, s.id::text, now()"
            " FROM workflow_action_executions s",
            world.account_id,
            execution,
        )
    for table in LARGE:
        await world.pool.execute(f"ANALYZE {table}")
    return world


async def _copies(db: Connection, table: str, count: int) -> None:
    """Copy the table's first row so many times, each for a contact of its own."""
    names = [
        row["attname"]
        for row in await db.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass"
            " AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'contact_id')",
            table,
        )
    ]
    columns = ", ".join(names)
    await db.execute(
        f"INSERT INTO {table} (contact_id, {columns})"
        f" SELECT gen_random_uuid(), {columns}"
        f" FROM (SELECT * FROM {table} LIMIT 1) one, generate_series(1, {count})"
    )


async def _tables_read_whole(world: World, query: str, *arguments: Any) -> set[str]:
    (plan,) = await world.pool.fetch(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
    found: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE:
            found.add(node["Relation Name"])
        for below in node.get("Plans", ()):
            walk(below)

    for top in plan[0]:
        walk(top["Plan"])
    return found


async def test_no_hot_query_reads_a_large_table_whole(history: World) -> None:
    now = await current_instant(history.pool)
    some: UUID = await history.pool.fetchval("SELECT id FROM workflow_action_executions LIMIT 1")
    claims, wakeups = load("claims"), load("wakeups")
    effects, events, sweep = load("effects"), load("events"), load("sweep")
    queries: dict[str, tuple[Any, ...]] = {
        claims.claim_steps: ("crm", 500, 0, 256),
        claims.claim_these_steps: ([some],),
        claims.results_of_executions: ([some],),
        claims.effects_of_steps: ([some],),
        wakeups.wake_steps: (now, 2_000),
        wakeups.time_out_waits: (now, 2_000),
        wakeups.wake_effects: (now, 2_000),
        wakeups.due_buckets: (now, now + timedelta(seconds=90), timedelta(milliseconds=250)),
        effects.lock_ready_effects: ("webhook", 500, 0, 256, ["test"]),
        effects.has_isolated_effect: ("webhook", ["test"]),
        effects.lock_executions: ([some],),
        effects.settle_steps: ([some], now),
        events.claim_events: (500, now),
        events.end_waits: ([1, 2, 3], now),
        sweep.ready_families: (["crm", "webhook"],),
        sweep.unsettled_steps: (some, 2_000),
        sweep.overdue: (["expiry"],),
        sweep.has_undispatched_events: (),
        load("executions").cancel_steps: ([some], "a reason", now),
        load("executions").cancel_effects: ([some], "a reason", now),
    }
    read_whole = {
        query[:40]: tables
        for query, arguments in queries.items()
        if (tables := await _tables_read_whole(history, query, *arguments))
    }
    assert read_whole == {}


async def test_one_contact_s_timeline_reads_only_that_contact(history: World) -> None:
    contact = await history.pool.fetchval("SELECT contact_id FROM domain_events LIMIT 1")
    query = "SELECT * FROM contact_timeline WHERE contact_id = $1 ORDER BY at"
    assert await _tables_read_whole(history, query, contact) == set()
