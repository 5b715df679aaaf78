"""A small CRM for tests of performances: accounts, people, contacts, and actions upon them.

Performances run as the engine runs them: on locked contacts, with rendered values, inside one
transaction that `perform` commits and `performing` leaves open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import orjson

from runtime.claims import queries as claims
from runtime.clock import current_instant
from runtime.definitions import CompiledAction, CompiledVersion
from runtime.outcomes import Done, Failed, Outcome, Skipped
from runtime.performing import template_context
from runtime.registry import ActionType
from runtime.stage import Account, Event, FieldChange, Item, Stage
from runtime.templates import compile_value


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


class Crm:
    """Makes what actions act upon, and performs actions."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    async def add(self, table: str, **columns: Any) -> UUID:
        """Insert a row and give its id."""
        names, marks = ", ".join(columns), ", ".join(f"${n + 1}" for n in range(len(columns)))
        statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) RETURNING id"
        row_id: UUID = await self.pool.fetchval(statement, *columns.values())
        return row_id

    async def account(self, country: str = "US", time_zone: str = "UTC") -> Account:
        row_id = await self.add("accounts", name="Acme", country=country, time_zone=time_zone)
        return Account(row_id, "Acme", time_zone, "USD", country, is_test=False)

    async def user(self, account: Account, name: str = "Ulla") -> UUID:
        email = f"{uuid4().hex}@example.com"
        return await self.add("users", account_id=account.id, email=email, name=name)

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

    async def rows(self, table: str, account: Account) -> list[asyncpg.Record]:
        """All rows that a table has of the account."""
        return await self.pool.fetch(f"SELECT * FROM {table} WHERE account_id = $1", account.id)

    async def row(self, table: str, row_id: UUID | str) -> asyncpg.Record:
        row = await self.pool.fetchrow(f"SELECT * FROM {table} WHERE id = $1", UUID(str(row_id)))
        assert row is not None
        return row

    async def until_somebody_waits_for_a_lock(self) -> None:
        """Return as soon as a transaction of this database stands before another's lock."""
        waiting = (
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock')"
        )
        while not await self.pool.fetchval(waiting):
            pass

    async def perform(
        self, action: ActionType, *steps: tuple[Account, UUID, Mapping[str, Any]], **context: Any
    ) -> Performed:
        """Perform a step for each (account, contact, config) in one batch, and commit it."""
        async with self.performing(action, *steps, **context) as performed:
            return performed

    @asynccontextmanager
    async def performing(
        self, action: ActionType, *steps: tuple[Account, UUID, Mapping[str, Any]], **context: Any
    ) -> AsyncIterator[Performed]:
        """Perform a batch; its transaction is committed when the block ends."""
        async with self.pool.acquire() as db, db.transaction():
            now = await current_instant(self.pool)
            stage = Stage(cast("asyncpg.Connection", db), now, self.pool.fetch, _no_version)
            contacts = {
                row["id"]: dict(row)
                for row in await db.fetch(claims.lock_contacts, [s[1] for s in steps])
            }
            items = [
                _item(action, account, contacts[contact_id], config, context)
                for account, contact_id, config in steps
            ]
            performed = Performed(stage, items)
            assert action.perform is not None

            def count(record: Any) -> None:
                # Named ones only: asyncpg asks for types of its own accord.
                performed.statements += record.query.startswith("/*")

            with db.query_logger(count):
                performed.outcomes += await action.perform(stage, items)
            assert all(isinstance(o, Done | Skipped | Failed) for o in performed.outcomes)
            orjson.dumps(performed.results if performed.reasons == [None] else None)
            yield performed


async def _no_version(account_id: UUID, workflow_id: UUID) -> None:
    return None


def _item(
    action: ActionType,
    account: Account,
    contact: dict[str, Any],
    config: Mapping[str, Any],
    context: Mapping[str, Any],
) -> Item:
    model = action.config.model_validate_json(orjson.dumps(config))
    compiled = CompiledAction(
        id=uuid4(),
        type=action,
        config=model,
        values=compile_value(model.model_dump()),
        key=action.name,
        position=0,
        branch_id=None,
        next_id=None,
        is_enabled=True,
        on_failure="fail",
        fallback_id=None,
        lane_id=0,
    )
    version = CompiledVersion(
        id=uuid4(),
        account=account,
        workflow_id=uuid4(),
        workflow_name="Welcome",
        actions={compiled.id: compiled},
        heads={None: compiled.id},
    )
    item = Item(
        step_id=uuid4(),
        execution_id=uuid4(),
        version=version,
        action=compiled,
        contact=contact,
        sequence=0,
        phase="perform",
        context=context,
        results={},
    )
    item.values = compiled.values.render(template_context(item))  # type: ignore[assignment]
    return item
