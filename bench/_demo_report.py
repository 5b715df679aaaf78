"""What the demo shows at its end, and what it insists on."""

from __future__ import annotations

import asyncpg
from rich.console import Console
from rich.table import Table

from bench._demo_account import Account, queries

TO_TRY = (
    "SELECT * FROM workers_alive;",
    (
        "SELECT at, what, detail FROM contact_timeline WHERE contact_id ="
        " (SELECT min(contact_id::text)::uuid FROM workflow_executions) ORDER BY at;"
    ),
    "SELECT action_type, status, count(*), avg(duration_ms) FROM action_log GROUP BY 1, 2;",
)


async def show(console: Console, pool: asyncpg.Pool, seconds: float) -> None:
    """Show the table by action type, the throughput and three queries to try."""
    table = Table(title="What became of the actions", title_justify="left")
    table.add_column("action type")
    for name in ("count", "failed", "skipped", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    steps = 0
    for row in await pool.fetch(queries.by_type):
        steps += row["steps"]
        table.add_row(
            row["action_type"],
            f"{row['steps']:,}",
            str(row["failed"]),
            f"{row['skipped']:,}",
            f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}",
        )
    console.print(table)
    console.print(
        "Times are those of an action's batch: up to 500 contacts are done in one go.\n"
        "Skipped: the campaign's wait of 30 days, which remove_from_campaign cut short.",
        markup=False,
    )
    console.print(
        f"{steps:,} actions in {seconds:.1f} s: {steps / seconds:,.0f} actions per second"
    )
    console.print(
        "\nThree queries to try while `run.py demo --keep` runs, by the command it prints:"
    )
    for query in TO_TRY:
        console.print(f"  {query}", markup=False, soft_wrap=True)


async def check(pool: asyncpg.Pool, account: Account) -> list[str]:
    """Compare what the account holds with what it should hold; gives what is wrong."""
    contacts = len(account.contact_ids)
    found = await pool.fetchrow(queries.totals, account.workflow_id, account.campaign_workflow_id)
    assert found is not None
    expected = {
        "completed": contacts,
        "cancelled": contacts,
        "failed": 0,
        "notes": contacts,
        "tasks": contacts,
        "moves": contacts,
        "notifications": contacts,
        "removed": contacts,
        "touched": contacts,
        "offices": account.companies,
        "timed_out": contacts // 2,
        "widest_gap": min(1, contacts % 3),
    }
    complaints = [
        f"{name} is {found[name]}, not {wanted}"
        for name, wanted in expected.items()
        if found[name] != wanted
    ]
    for row in await pool.fetch(queries.by_type):
        # The campaign's wait is cut short by remove_from_campaign, for everybody.
        skipped = contacts if row["action_type"] == "wait_time" else 0
        if (row["failed"], row["skipped"]) != (0, skipped):
            complaints.append(
                f"{row['action_type']}: {row['failed']} failed, {row['skipped']} skipped"
            )
    return complaints
