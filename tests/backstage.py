"""A stage without the engine: one performance, in one transaction, on accounts made here.

Performances run as the engine runs them: on locked contacts, with rendered values. `perform` takes
an action and makes a version of it alone; `perform_first` takes a stored version's first action.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

import actors
from runtime.claims import queries as claims
from runtime.clock import current_instant
from runtime.definitions import CompiledAction, CompiledVersion
from runtime.executions import Enrolment, Entry, enrol
from runtime.outcomes import Done, Failed, Outcome, Skipped
from runtime.performing import template_context
from runtime.registry import ActionType
from runtime.stage import Account, Event, FieldChange, Item, Stage
from runtime.templates import compile_value
from runtime.versions import Versions

Config = Mapping[str, Any]


@dataclass
class Performed:
    """What became of a batch: its outcomes in order, what it emitted, and what it logged."""

    stage: Stage
    items: list[Item]
    outcomes: list[Outcome] = field(default_factory=list)
    statements: int = 0
    """How many statements the performance made in the batch's transaction."""

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """The results of steps that were all completed."""
        assert all(isinstance(outcome, Done) for outcome in self.outcomes), self.outcomes
        return [outcome.result for outcome in self.outcomes if isinstance(outcome, Done)]

    @property
    def result(self) -> Mapping[str, Any]:
        """The result of the only step."""
        (result,) = self.results
        return result

    @property
    def reasons(self) -> list[str | None]:
        """For each step: the code of its failure, its reason for skipping, or None."""
        return [
            o.failure.code if isinstance(o, Failed) else getattr(o, "reason", None)
            for o in self.outcomes
        ]

    @property
    def reason(self) -> str | None:
        """Why the only step did not complete."""
        (reason,) = self.reasons
        return reason

    @property
    def message(self) -> str:
        """What the only step's failure tells people."""
        (outcome,) = self.outcomes
        assert isinstance(outcome, Failed)
        return outcome.failure.message

    @property
    def events(self) -> list[Event]:
        return self.stage.events

    @property
    def changes(self) -> list[FieldChange]:
        return self.stage.changes


class Backstage:
    """Makes what actions act upon, and performs actions."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.versions = Versions(pool, actors.registry)

    async def one(self, sql: str, *args: Any) -> Any:
        return await self.pool.fetchval(sql, *args)

    async def add(self, table: str, **columns: Any) -> UUID:
        """Insert a row and give its id."""
        names, marks = ", ".join(columns), ", ".join(f"${n + 1}" for n in range(len(columns)))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING id"
        row_id: UUID = await self.one(statement, *columns.values())
        return row_id

    async def account(self, country: str = "US", time_zone: str = "UTC") -> Account:
        row_id = await self.add("accounts", name="Acme", country=country, time_zone=time_zone)
        return Account(row_id, "Acme", time_zone, "USD", country, is_test=False)

    async def user(self, account: Account, **columns: Any) -> UUID:
        email = f"{uuid4().hex}@example.com"
        return await self.add("users", account_id=account.id, email=email, **columns)

    async def users(self, account: Account, n: int, **columns: Any) -> list[UUID]:
        """New users in the order of their ids."""
        return sorted([await self.user(account, **columns) for _ in range(n)])

    async def custom_field(
        self, account: Account, key: str, field_type: str = "text", options: Sequence[str] = ()
    ) -> UUID:
        return await self.add(
            "custom_fields", account_id=account.id, key=key, field_type=field_type,
            options=list(options),
        )  # fmt: skip

    async def contact(self, account: Account, **columns: Any) -> UUID:
        for kind in ("email", "phone"):
            if kind in columns:
                columns.setdefault(f"{kind}_normalized", columns[kind].lower())
        return await self.add("contacts", account_id=account.id, **columns)

    async def contacts(self, account: Account, n: int = 1, **columns: Any) -> list[UUID]:
        return [await self.contact(account, **columns) for _ in range(n)]

    async def rows(self, table: str, account: Account) -> list[asyncpg.Record]:
        """All rows that a table has of the account."""
        return await self.pool.fetch(f"SELECT * FROM {table} WHERE account_id = $1", account.id)

    async def row(self, table: str, row_id: UUID | str) -> asyncpg.Record:
        row = await self.pool.fetchrow(f"SELECT * FROM {table} WHERE id = $1", UUID(str(row_id)))
        assert row is not None
        return row

    async def workflow(self, account: Account, *actions: tuple[str, Config]) -> CompiledVersion:
        """Make an active workflow of these actions."""
        workflow_id = await self.add("workflows", account_id=account.id, name="Welcome")
        version_id = await self.one(
            "INSERT INTO workflow_versions (account_id, workflow_id, number, activated_at)"
            " VALUES ($1, $2, 1, now()) RETURNING id",
            account.id,
            workflow_id,
        )
        following: UUID | None = None
        for position, (type_, config) in reversed(list(enumerate(actions))):
            action = {"account_id": account.id, "action_type": type_, "position": position}
            action_id = await self.add("workflow_actions", workflow_id=workflow_id, **action)
            await self.pool.execute(
                "INSERT INTO workflow_version_actions (version_id, action_id, account_id,"
                " action_type, position, action_config, next_action_id, is_enabled, on_failure)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, true, 'fail')",
                version_id,
                action_id,
                *action.values(),
                config,
                following,
            )
            following = action_id
        await self.pool.execute(
            "UPDATE workflows SET status = 'active', active_version_id = $2 WHERE id = $1",
            workflow_id,
            version_id,
        )
        return await self.versions.get(version_id)

    async def enrol(
        self, version: CompiledVersion, contact_ids: Sequence[UUID], entry: Entry | None = None
    ) -> list[Enrolment]:
        async with self.pool.acquire() as db, db.transaction():
            return await enrol(db, await current_instant(db), version, contact_ids, entry)

    async def until_somebody_waits_for_a_lock(self) -> None:
        """Return as soon as a transaction of this database stands before another's lock."""
        waiting = (
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        )
        while not await self.one(waiting):
            pass

    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        """A transaction; committed unless the block raises."""
        async with self.pool.acquire() as db, db.transaction():
            yield Stage(db, await current_instant(db), self.pool.fetch, self.versions.active)

    async def perform(
        self, action: ActionType, *steps: tuple[Account, UUID, Config], **context: Any
    ) -> Performed:
        """Perform a step for each (account, contact, config) in one batch, and commit it."""
        async with self.performing(action, *steps, **context) as performed:
            return performed

    @asynccontextmanager
    async def performing(
        self, action: ActionType, *steps: tuple[Account, UUID, Config], **context: Any
    ) -> AsyncIterator[Performed]:
        """Perform a batch; its transaction is committed when the block ends."""
        async with self.stage() as stage:
            contacts = await _locked(stage, [contact_id for _, contact_id, _ in steps])
            items = [
                _item(_version(account, action, config), contacts[contact_id], context)
                for account, contact_id, config in steps
            ]
            yield await performed(stage, items)

    async def perform_first(
        self, version: CompiledVersion, contact_ids: Sequence[UUID]
    ) -> Performed:
        """Perform the first action of a version for contacts, and commit."""
        async with self.stage() as stage:
            return await performed(stage, await self.items(stage, version, contact_ids))

    async def items(
        self,
        stage: Stage,
        version: CompiledVersion,
        contact_ids: Sequence[UUID],
        executions: Sequence[Enrolment] = (),
    ) -> list[Item]:
        """Items of the version's first action, with their contacts locked."""
        contacts = await _locked(stage, contact_ids)
        items = [_item(version, contacts[contact_id], {}) for contact_id in contact_ids]
        ids = {e.contact_id: e.execution_id for e in executions}
        for item in items:
            item.execution_id = ids.get(item.contact_id) or item.execution_id
        return items


async def performed(stage: Stage, items: list[Item]) -> Performed:
    """Perform the items, all of one type, on a stage."""
    done = Performed(stage, items)
    performance = items[0].action.type.perform
    assert performance is not None

    def count(record: Any) -> None:
        # Named ones only: asyncpg asks for types of its own accord.
        done.statements += record.query.startswith("/*")

    with stage.db.query_logger(count):
        done.outcomes += await performance(stage, items)
    assert all(isinstance(outcome, Done | Skipped | Failed) for outcome in done.outcomes)
    gives = items[0].action.type.gives
    assert all(o.result.keys() <= gives.keys() for o in done.outcomes if isinstance(o, Done))
    orjson.dumps([outcome.result for outcome in done.outcomes if isinstance(outcome, Done)])
    return done


def timing_item(
    type_: ActionType,
    config: Config,
    contact: Mapping[str, Any] | None = None,
    *,
    account: Account,
) -> Item:
    """One item of an action that needs no database."""
    nobody: dict[str, Any] = {"id": uuid4(), "time_zone": None, "custom_fields": {}}
    return _item(_version(account, type_, config), {**nobody, **(contact or {})}, {})


def at(text: str) -> datetime:
    """An instant from ISO 8601 with its zone."""
    instant = datetime.fromisoformat(text)
    assert instant.tzinfo is not None
    return instant


async def _locked(stage: Stage, contact_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    rows = await stage.db.fetch(claims.lock_contacts, list(contact_ids))
    return {row["id"]: dict(row) for row in rows}


def _version(account: Account, type_: ActionType, config: Config) -> CompiledVersion:
    model = type_.config.model_validate_json(orjson.dumps(config))
    action = CompiledAction(
        id=uuid4(),
        type=type_,
        config=model,
        values=compile_value(model.model_dump()),
        key=type_.name,
        position=0,
        branch_id=None,
        next_id=None,
        is_enabled=True,
        on_failure="fail",
        fallback_id=None,
        lane_id=1,
    )
    return CompiledVersion(
        id=uuid4(),
        account=account,
        workflow_id=uuid4(),
        workflow_name="Welcome",
        actions={action.id: action},
        heads={None: action.id},
    )


def _item(version: CompiledVersion, contact: dict[str, Any], context: Mapping[str, Any]) -> Item:
    """An item of the version's first action, with rendered values."""
    action = version.actions[version.heads[None]]
    item = Item(
        step_id=uuid4(),
        execution_id=uuid4(),
        version=version,
        action=action,
        contact=contact,
        sequence=0,
        phase="perform",
        context=context,
        results={},
    )
    item.values = action.values.render(template_context(item))  # type: ignore[assignment]
    return item
