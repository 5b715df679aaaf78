"""The bounded cache of compiled versions: what keeps definitions out of the hot path."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from runtime.definitions import CompiledAction, CompiledVersion
from runtime.lanes import get_or_create_lanes
from runtime.registry import Registry
from runtime.stage import Account
from runtime.templates import compile_value
from sql import load

queries = load("versions")

CAPACITY: Final = 1_000
# A version never changes, but its account's time zone, currency and name may.
FRESH_SECONDS: Final = 60.0


class Versions:
    """Gives compiled versions by id; reads each at most once a minute.

    `registry` says which types exist. Reads on a connection of the pool, never inside the
    transaction of a batch, so that lanes made here are there for everybody at once.
    """

    def __init__(self, pool: asyncpg.Pool, registry: Registry) -> None:
        self._pool = pool
        self._registry = registry
        self._cache: OrderedDict[UUID, tuple[float, CompiledVersion]] = OrderedDict()

    async def get(self, version_id: UUID) -> CompiledVersion:
        """Give one version; LookupError if there is none of this id."""
        return (await self.get_many([version_id]))[version_id]

    async def get_many(self, version_ids: Iterable[UUID]) -> Mapping[UUID, CompiledVersion]:
        """Give versions by id; LookupError if one does not exist."""
        found: dict[UUID, CompiledVersion] = {}
        for version_id in set(version_ids):
            if (version := self._cached(version_id)) is None:
                version = await self._read(version_id)
                self._keep(version)
            found[version_id] = version
        return found

    async def active(self, account_id: UUID, workflow_id: UUID) -> CompiledVersion | None:
        """Give the version that new runs of a workflow take; None unless the workflow is active."""
        version_id = await self._pool.fetchval(queries.active_version, account_id, workflow_id)
        return await self.get(version_id) if version_id else None

    def _cached(self, version_id: UUID) -> CompiledVersion | None:
        entry = self._cache.get(version_id)
        if entry is None or time.monotonic() - entry[0] > FRESH_SECONDS:
            return None
        self._cache.move_to_end(version_id)
        return entry[1]

    def _keep(self, version: CompiledVersion) -> None:
        self._cache[version.id] = (time.monotonic(), version)
        self._cache.move_to_end(version.id)
        while len(self._cache) > CAPACITY:
            self._cache.popitem(last=False)

    async def _read(self, version_id: UUID) -> CompiledVersion:
        async with self._pool.acquire() as db:
            head = await db.fetchrow(queries.version, version_id)
            if head is None:
                raise LookupError(f"no workflow version {version_id}")
            rows = await db.fetch(queries.version_actions, version_id)
            families = {self._registry.actions[row["action_type"]].family for row in rows}
            lanes = await get_or_create_lanes(
                db, [(f, head["account_id"], head["workflow_id"], None) for f in sorted(families)]
            )
        actions = {
            row["action_id"]: self._compile(row, head["account_id"], head["workflow_id"], lanes)
            for row in rows
        }
        return CompiledVersion(
            id=version_id,
            account=account_of(head),
            workflow_id=head["workflow_id"],
            workflow_name=head["workflow_name"],
            actions=actions,
            heads=_heads(actions.values()),
        )

    def _compile(
        self,
        row: asyncpg.Record,
        account_id: UUID,
        workflow_id: UUID,
        lanes: Mapping[tuple[str, UUID, UUID | None, UUID | None], int],
    ) -> CompiledAction:
        type_ = self._registry.actions[row["action_type"]]
        config = type_.config.model_validate_json(orjson.dumps(row["action_config"]))
        rendered = config.model_dump(exclude=set(type_.verbatim))
        return CompiledAction(
            id=row["action_id"],
            type=type_,
            config=config,
            values=compile_value(rendered),
            key=row["key"] or row["action_type"],
            position=row["position"],
            branch_id=row["branch_id"],
            next_id=row["next_action_id"],
            is_enabled=row["is_enabled"],
            on_failure=row["on_failure"],
            fallback_id=row["fallback_action_id"],
            lane_id=lanes[type_.family, account_id, workflow_id, None],
        )


def account_of(row: asyncpg.Record) -> Account:
    """Build an Account from a row that has the account's columns, prefixed with account_."""
    return Account(
        id=row["account_id"],
        name=row["account_name"],
        time_zone=row["account_time_zone"],
        currency=row["account_currency"],
        country=row["account_country"],
        is_test=row["account_is_test"],
    )


def _heads(actions: Iterable[CompiledAction]) -> dict[UUID | None, UUID]:
    heads: dict[UUID | None, UUID] = {}
    for action in sorted(actions, key=lambda a: a.position):
        heads.setdefault(action.branch_id, action.id)
    return heads
