"""A small world for tests of the engine: accounts, workflows, and an engine that runs until idle.

The real worker parts run in this process, driven by hand instead of by tickets, on a clock that
the test moves: nothing here waits for a duration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

import actors
from runtime import clock
from runtime.activation import activate
from runtime.bells import Bells
from runtime.events import IncomingEvent, take_in
from runtime.executions import Enrolment, Entry, enrol
from runtime.registry import Registry
from runtime.settings import Settings
from runtime.worker import Worker
from runtime.workers import register


@dataclass
class World:
    """One database with an engine in it; `account_id` and `user_id` are made at the start."""

    pool: asyncpg.Pool
    side: asyncpg.Pool
    settings: Settings
    registry: Registry = field(default_factory=lambda: actors.registry)
    account_id: UUID = field(init=False)
    user_id: UUID = field(init=False)
    worker: Worker = field(init=False)

    async def begin(self) -> World:
        """Make the account, its user, and a worker that is registered for a hundred years."""
        self.account_id = await self.account("Acme")
        self.user_id = await self.user("ada@acme.test")
        self.worker = await self.new_worker()
        return self

    async def new_worker(self) -> Worker:
        """Make a further worker with an identity of its own; nothing of it runs by itself."""
        worker = Worker(self.pool, self.side, self.registry, self.settings)
        await register(self.pool, worker.id, worker.families, timedelta(days=36_500))
        return worker

    async def account(self, name: str, **columns: Any) -> UUID:
        """Make an account."""
        return await self._add("accounts", name=name, **columns)

    async def user(self, email: str, **columns: Any) -> UUID:
        """Make a user of the account (or of `account_id`)."""
        return await self._add("users", account_id=self._own(columns), email=email, **columns)

    async def contact(self, **columns: Any) -> UUID:
        """Make a contact; its e-mail and phone are taken as normalised."""
        for name in ("email", "phone"):
            if name in columns:
                columns.setdefault(f"{name}_normalized", columns[name])
        return await self._add("contacts", account_id=self._own(columns), **columns)

    async def contacts(self, count: int) -> list[UUID]:
        """Make many contacts named P0, P1, …, in that order."""
        rows = await self.pool.fetch(
            "INSERT INTO contacts (account_id, first_name, email, email_normalized)"
            " SELECT $1, 'P' || n, 'p' || n || '@x.test', 'p' || n || '@x.test'"
            " FROM generate_series(0, $2 - 1) n RETURNING id",
            self.account_id,
            count,
        )
        return [row["id"] for row in rows]

    def _own(self, columns: dict[str, Any]) -> UUID:
        account: UUID = columns.pop("account_id", None) or self.account_id
        return account

    async def _add(self, table: str, **columns: Any) -> UUID:
        names = ", ".join(columns)
        marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        row_id: UUID = await self.pool.fetchval(
            f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING *", *columns.values()
        )
        return row_id

    async def workflow(
        self,
        *actions: tuple[str, Mapping[str, Any]] | Mapping[str, Any],
        trigger: Mapping[str, Any] | None = None,
        name: str = "Welcome",
    ) -> UUID:
        """Make and activate a workflow.

        An action is (type, config), or a mapping with action_type, action_config and any other
        column of workflow_actions; `branch` names a branch that is made when first named, and
        `fallback` the index of the fallback action.
        """
        workflow_id = await self._add(
            "workflows", account_id=self.account_id, name=name, trigger=trigger
        )
        await self.add_actions(workflow_id, *actions)
        await self.activate(workflow_id)
        return workflow_id

    async def add_actions(
        self, workflow_id: UUID, *actions: tuple[str, Mapping[str, Any]] | Mapping[str, Any]
    ) -> list[UUID]:
        """Add actions to a draft, each at the end of its branch."""
        branches: dict[str, UUID] = {}
        positions: dict[str | None, int] = {}
        ids: list[UUID] = []
        fallbacks: dict[UUID, int] = {}
        for number, action in enumerate(actions):
            row = dict(action) if isinstance(action, Mapping) else _row(action)
            branch = row.pop("branch", None)
            fallback = row.pop("fallback", None)
            for named in _branches_named(row["action_config"], branch) - set(branches):
                branches[named] = await self._add(
                    "workflow_branches",
                    account_id=self.account_id,
                    workflow_id=workflow_id,
                    name=named,
                )
            position = positions.get(branch, 0)
            positions[branch] = position + 1
            row.setdefault("key", f"{row['action_type']}_{number}")
            row["action_config"] = {
                key: str(branches[value.removeprefix("branch:")])
                if isinstance(value, str) and value.startswith("branch:")
                else value
                for key, value in row["action_config"].items()
            }
            ids.append(
                await self._add(
                    "workflow_actions",
                    account_id=self.account_id,
                    workflow_id=workflow_id,
                    position=position,
                    branch_id=branches.get(branch) if branch else None,
                    **row,
                )
            )
            if fallback is not None:
                fallbacks[ids[-1]] = fallback
        for action_id, index in fallbacks.items():
            await self.pool.execute(
                "UPDATE workflow_actions SET fallback_action_id = $2 WHERE id = $1",
                action_id,
                ids[index],
            )
        return ids

    async def branch(self, workflow_id: UUID, name: str) -> UUID:
        """Give a branch of a workflow by its name."""
        branch_id: UUID = await self.pool.fetchval(
            "SELECT id FROM workflow_branches WHERE workflow_id = $1 AND name = $2",
            workflow_id,
            name,
        )
        return branch_id

    async def activate(self, workflow_id: UUID) -> None:
        """Activate a workflow as its user."""
        async with self.pool.acquire() as db, db.transaction():
            now = await clock.current_instant(db)
            await activate(db, now, self.registry, self.account_id, workflow_id, self.user_id)

    async def enrol(self, workflow_id: UUID, *contact_ids: UUID, **entry: Any) -> list[Enrolment]:
        """Enrol contacts in the workflow's active version."""
        version = await self.worker.versions.active(self.account_id, workflow_id)
        assert version is not None
        async with self.pool.acquire() as db, db.transaction():
            now = await clock.current_instant(db)
            return await enrol(db, now, version, contact_ids, Entry(**entry))

    async def run(self, workflow_id: UUID, contact_id: UUID, **entry: Any) -> UUID:
        """Enrol one contact, run the engine until it is idle, give the execution."""
        (enrolment,) = await self.enrol(workflow_id, contact_id, **entry)
        assert enrolment.execution_id is not None, enrolment.reason
        await self.settle()
        return enrolment.execution_id

    async def settle(self, worker: Worker | None = None) -> None:
        """Run the engine until nothing is ready at this instant of the clock."""
        worker = worker or self.worker
        while await self._round(worker):
            pass

    async def _round(self, worker: Worker) -> int:
        await worker.wake()
        await worker.hand_on_events()
        return await worker.run_operations() + await worker.work_once()

    async def advance(self, **by: float) -> datetime:
        """Move the clock (timedelta's arguments) and run what has fallen due by it."""
        now = await clock.advance(self.pool, timedelta(**by))
        await self.settle()
        return now

    async def event(self, event_type: str, contact_id: UUID, **fields: Any) -> int | None:
        """Take in an event from outside and run the engine."""
        async with self.pool.acquire() as db, db.transaction():
            (event_id,), _ = await take_in(
                db, [IncomingEvent(self.account_id, event_type, contact_id, **fields)]
            )
        await self.settle()
        return event_id

    async def steps(self, execution_id: UUID) -> list[asyncpg.Record]:
        """Give the steps of an execution in order, with their action's type."""
        rows = await self.pool.fetch(
            "SELECT s.*, a.action_type, a.key, a.branch_id"
            " FROM workflow_action_executions s JOIN workflow_actions a ON a.id = s.action_id"
            " WHERE s.workflow_execution_id = $1 ORDER BY s.sequence, s.id",
            execution_id,
        )
        for row in rows:
            self._check_result(row)
        return rows

    def _check_result(self, row: asyncpg.Record) -> None:
        """Hold a result to what its type says that it gives; types of a test's own say nothing."""
        type_ = self.registry.actions[row["action_type"]]
        if row["status"] == "completed" and type_ is actors.registry.actions[type_.name]:
            assert set(row["result_data"]) <= set(type_.gives), (type_.name, row["result_data"])

    async def statuses(self, execution_id: UUID) -> list[str]:
        """Give the statuses of an execution's steps in order."""
        return [row["status"] for row in await self.steps(execution_id)]

    async def execution(self, execution_id: UUID) -> asyncpg.Record:
        """Give an execution's row."""
        row = await self.pool.fetchrow(
            "SELECT * FROM workflow_executions WHERE id = $1", execution_id
        )
        assert row is not None
        return row

    async def ring(self, bells: Bells) -> None:
        """Ring, as the API does."""
        await self.worker.bell.ring(bells)


def _branches_named(config: Mapping[str, Any], branch: str | None) -> set[str]:
    values = [value for value in config.values() if isinstance(value, str)]
    named = {value.removeprefix("branch:") for value in values if value.startswith("branch:")}
    return named | ({branch} if branch is not None else set())


def _row(action: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"action_type": action[0], "action_config": dict(action[1])}
