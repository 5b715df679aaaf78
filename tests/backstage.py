"""A stage without the engine: one performance, on items built here, in one transaction."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import orjson

from runtime.claims import queries as claims
from runtime.clock import current_instant
from runtime.definitions import CompiledAction, CompiledVersion
from runtime.executions import Enrolment, Entry, enrol
from runtime.outcomes import Outcome
from runtime.performing import template_context
from runtime.registry import ActionType, Registry
from runtime.stage import Item, Stage
from runtime.templates import compile_value
from runtime.versions import Versions

Config = Mapping[str, Any]


@dataclass
class Backstage:
    """Makes what an account needs, and performs actions of its workflows."""

    pool: asyncpg.Pool
    registry: Registry

    def __post_init__(self) -> None:
        self.versions = Versions(self.pool, self.registry)

    async def account(self, time_zone: str = "UTC") -> UUID:
        account_id: UUID = await self.one(
            "insert into accounts (name, time_zone) values ('Acme', $1) returning id", time_zone
        )
        return account_id

    async def users(self, account_id: UUID, n: int, **columns: Any) -> list[UUID]:
        """New users in the order of their ids."""
        names = ["account_id", "email", *columns]
        marks = ", ".join(f"${i + 1}" for i in range(len(names)))
        return sorted(
            [
                await self.one(
                    f"insert into users ({', '.join(names)}) values ({marks}) returning id",
                    account_id,
                    f"{uuid4().hex}@acme.test",
                    *columns.values(),
                )
                for _ in range(n)
            ]
        )

    async def contacts(self, account_id: UUID, n: int = 1, **columns: Any) -> list[UUID]:
        names = ["account_id", *columns]
        marks = ", ".join(f"${i + 1}" for i in range(len(names)))
        return [
            await self.one(
                f"insert into contacts ({', '.join(names)}) values ({marks}) returning id",
                account_id,
                *columns.values(),
            )
            for _ in range(n)
        ]

    async def workflow(self, account_id: UUID, *actions: tuple[str, Config]) -> CompiledVersion:
        """Make an active workflow of these actions."""
        workflow_id = await self.one(
            "insert into workflows (account_id, name) values ($1, 'W') returning id", account_id
        )
        version_id = await self.one(
            """
            insert into workflow_versions (account_id, workflow_id, number, activated_at)
            values ($1, $2, 1, now()) returning id
            """,
            account_id,
            workflow_id,
        )
        following: UUID | None = None
        for position, (type_, config) in reversed(list(enumerate(actions))):
            action_id = await self.one(
                """
                insert into workflow_actions (account_id, workflow_id, action_type, position)
                values ($1, $2, $3, $4) returning id
                """,
                account_id,
                workflow_id,
                type_,
                position,
            )
            await self.pool.execute(
                """
                insert into workflow_version_actions
                    (version_id, action_id, account_id, action_type, action_config, position,
                     next_action_id, is_enabled, on_failure)
                values ($1, $2, $3, $4, $5, $6, $7, true, 'fail')
                """,
                version_id,
                action_id,
                account_id,
                type_,
                config,
                position,
                following,
            )
            following = action_id
        await self.pool.execute(
            "update workflows set status = 'active', active_version_id = $2 where id = $1",
            workflow_id,
            version_id,
        )
        return await self.versions.get(version_id)

    async def enrol(
        self, version: CompiledVersion, contact_ids: Sequence[UUID], entry: Entry | None = None
    ) -> list[Enrolment]:
        async with self.pool.acquire() as db, db.transaction():
            return await enrol(db, await current_instant(db), version, contact_ids, entry)

    async def one(self, sql: str, *args: Any) -> Any:
        return await self.pool.fetchval(sql, *args)

    async def until_somebody_waits_for_a_lock(self) -> None:
        """Return as soon as a transaction of this database stands before another's lock."""
        waiting = (
            "select exists (select from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock')"
        )
        while not await self.one(waiting):
            pass

    @asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        """A transaction; committed unless the block raises."""
        async with self.pool.acquire() as db, db.transaction():
            yield Stage(db, await current_instant(db), self.pool.fetch, self.versions.active)

    async def perform(
        self,
        version: CompiledVersion,
        contact_ids: Sequence[UUID],
        executions: Sequence[Enrolment] = (),
    ) -> "Performed":
        """Perform the first action of a version for contacts, and commit."""
        async with self.stage() as stage:
            items = await self.items(stage, version, contact_ids, executions)
            return await performed(stage, items)

    async def statements_of(
        self, version: CompiledVersion, contact_ids: Sequence[UUID]
    ) -> list[str]:
        """Perform the first action of a version; gives the named statements that it made."""
        made: list[str] = []
        async with self.stage() as stage:
            items = await self.items(stage, version, contact_ids)
            with stage.db.query_logger(lambda record: made.append(record.query)):
                await performed(stage, items)
        return [query for query in made if query.startswith("/*")]

    async def items(
        self,
        stage: Stage,
        version: CompiledVersion,
        contact_ids: Sequence[UUID],
        executions: Sequence[Enrolment] = (),
    ) -> list[Item]:
        """Items of the version's first action, with their contacts locked."""
        action = version.actions[version.heads[None]]
        rows = await stage.db.fetch(claims.lock_contacts, list(contact_ids))
        contacts = {row["id"]: dict(row) for row in rows}
        ids = {e.contact_id: e.execution_id for e in executions}
        items = [
            Item(
                step_id=uuid4(),
                execution_id=ids.get(contact_id) or uuid4(),
                version=version,
                action=action,
                contact=contacts[contact_id],
                sequence=0,
                phase="perform",
                context={},
                results={},
            )
            for contact_id in contact_ids
        ]
        for item in items:
            item.values = cast("dict[str, Any]", action.values.render(template_context(item)))
        return items


@dataclass
class Performed:
    outcomes: Sequence[Outcome]
    items: list[Item]
    stage: Stage


async def performed(stage: Stage, items: list[Item]) -> Performed:
    performance = items[0].action.type.perform
    assert performance is not None
    return Performed(await performance(stage, items), items, stage)


def timing_item(
    type_: ActionType,
    config: Config,
    contact: Mapping[str, Any] | None = None,
    *,
    version: CompiledVersion,
) -> Item:
    """One item of an action that needs no database."""
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
    return Item(
        step_id=uuid4(),
        execution_id=uuid4(),
        version=version,
        action=action,
        contact={"id": uuid4(), "time_zone": None, "custom_fields": {}, **(contact or {})},
        sequence=0,
        phase="perform",
        context={},
        results={},
    )


def at(text: str) -> datetime:
    """An instant from ISO 8601 with its zone."""
    instant = datetime.fromisoformat(text)
    assert instant.tzinfo is not None
    return instant
