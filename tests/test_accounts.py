"""Accounts are apart in the database itself: no reference from one to another can be stored."""

from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.world import World


@pytest.fixture
async def two(world: World) -> dict[str, UUID]:
    """What stands in the first account, and the id of the second."""
    workflow = await world.workflow(("add_tag", {"tag_name": "New"}))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    row = await world.pool.fetchrow("SELECT * FROM workflow_action_executions")
    version = await world.pool.fetchval("SELECT id FROM workflow_versions")
    integration = await world.pool.fetchval(
        "INSERT INTO integrations (account_id, kind, name) VALUES ($1, 'smtp', 'Mail')"
        " RETURNING id",
        world.account_id,
    )
    assert row is not None
    await world.pool.execute("DELETE FROM contact_tags")
    return {
        "workflow": workflow,
        "contact": contact,
        "execution": execution,
        "action": row["action_id"],
        "version": version,
        "integration": integration,
        "user": world.user_id,
        "tag": await world.pool.fetchval("SELECT id FROM tags"),
        "other": await world.account("Other"),
    }


REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "an execution of another's version": (
        "workflow_executions",
        {"workflow_id": "workflow", "version_id": "version", "contact_id": "contact"},
    ),
    "a step of another's execution": (
        "workflow_action_executions",
        {"workflow_execution_id": "execution", "action_id": "action", "contact_id": "contact"},
    ),
    "an effect by another's integration": ("effects", {"integration_id": "integration"}),
    "an effect for another's contact": ("effects", {"contact_id": "contact"}),
    "an action in another's workflow": ("workflow_actions", {"workflow_id": "workflow"}),
    "another's tag": ("contact_tags", {"contact_id": "contact", "tag_id": "tag"}),
    "a note about another's contact": ("notes", {"contact_id": "contact"}),
    "a task for another's user": ("tasks", {"contact_id": "contact", "assignee_id": "user"}),
    "another's contact as a lane's workflow": ("lanes", {"workflow_id": "workflow"}),
}
NEEDED: dict[str, dict[str, Any]] = {
    "workflow_action_executions": {"family": "crm", "lane_id": 1},
    "effects": {"kind": "k", "family": "crm", "lane_id": 1, "idempotency_key": "k"},
    "workflow_actions": {"action_type": "add_tag", "position": 5},
    "notes": {"content": "x"},
    "tasks": {"title": "x"},
    "lanes": {"family": "webhook"},
}
STAMPED = {
    "workflow_executions": "started_at",
    "effects": "created_at",
    "contact_tags": "added_at",
}


@pytest.mark.parametrize("what", REFERENCES)
async def test_a_reference_across_accounts_cannot_be_stored(
    world: World, two: dict[str, UUID], what: str
) -> None:
    table, references = REFERENCES[what]
    row = {name: two[of] for name, of in references.items()}
    row |= {"account_id": two["other"], **NEEDED.get(table, {})}
    if table in STAMPED:
        row[STAMPED[table]] = await world.pool.fetchval("SELECT now()")
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await world._add(table, **row)


async def test_every_table_of_ours_has_an_account_or_belongs_to_one_that_has(world: World) -> None:
    rows = await world.pool.fetch(
        "SELECT t.table_name FROM information_schema.tables t"
        " WHERE t.table_schema = current_schema() AND t.table_type = 'BASE TABLE'"
        " AND t.table_name NOT LIKE 'procrastinate%' AND NOT EXISTS ("
        "   SELECT FROM information_schema.columns c WHERE c.table_schema = t.table_schema"
        "   AND c.table_name = t.table_name AND c.column_name = 'account_id')"
    )
    # Of the server as a whole, or keyed by an integration, which belongs to one account.
    assert {row["table_name"] for row in rows} == {
        "accounts",
        "batches_in_hand",
        "clock",
        "link_keys",
        "rate_limits",
        "schema_migrations",
        "workers",
    }
