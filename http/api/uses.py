"""Where-used: which actions refer to a row, in drafts and in the versions that contacts run.

Looked up when it is asked for, from the configs themselves: an index of its own would be one more
thing that can be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from actors.referents import Referent, referents_of
from api.parameters import Parameters
from api.problems import Problem
from api.shown import Shown
from runtime.configuration import MOST_FAULTS, Fault
from runtime.database import Connection
from runtime.registry import ActionType, Registry
from sql import load

queries = load("api_references")

ANY_CONFIG: Final = frozenset({"custom_field"})
"""Kinds that merge fields name: any action may refer to them."""

SENDERS: Final = ("send_email", "send_sms", "send_voicemail", "send_messenger", "make_call")
SENDING: Final = ("from_email", "from_number", "page_id")
"""The actions that send by an integration, and the fields that say by which."""

# What an action makes if it is not there.
_MADE: Final = frozenset({"tag"})

Use = dict[str, Any]


class Force(Parameters):
    """Whether to delete in spite of what would be lost."""

    force: bool = False


class ShownUse(Shown):
    """A place in an action that refers to something; `in_force`: in a version that contacts run."""

    workflow_id: UUID
    workflow_name: str
    action_id: UUID
    action_key: str | None
    action_type: str
    path: str
    in_draft: bool
    in_force: bool


class ShownDeletion(Shown):
    """What was deleted although actions refer to it: these do, and fail when they are performed."""

    references: list[ShownUse]


async def find_uses(
    db: Connection | asyncpg.Pool, registry: Registry, account_id: UUID, kind: str, target: str
) -> list[Use]:
    """Find all places that refer to a row, by workflow and action."""
    types = [type_.name for type_ in registry.actions.values() if _may_refer(type_, kind)]

    def places(row: asyncpg.Record) -> list[str]:
        found = referents_of(registry.actions[row["action_type"]], row["action_config"])
        return [one.path for one in found if (one.kind, one.target) == (kind, target)]

    return await _find(db, account_id, types, places)


async def find_senders(
    db: Connection | asyncpg.Pool, account_id: UUID, integration_id: UUID, addresses: Sequence[str]
) -> list[Use]:
    """Find all places that name an integration: by its id, an address, or a domain of it."""
    own = {*addresses, str(integration_id)}

    def places(row: asyncpg.Record) -> list[str]:
        config = row["action_config"]
        return [field for field in SENDING if own & _names(config.get(field))]

    return await _find(db, account_id, SENDERS, places)


def _names(value: Any) -> set[str]:
    text = value.lower() if isinstance(value, str) else ""
    return {text, f"@{text.rpartition('@')[2]}"} if "@" in text else {text}


async def _find(
    db: Connection | asyncpg.Pool,
    account_id: UUID,
    types: Sequence[str],
    places: Callable[[asyncpg.Record], Sequence[str]],
) -> list[Use]:
    uses: dict[tuple[UUID, str], Use] = {}
    for row in await db.fetch(queries.actions_of_types, account_id, types):
        for path in places(row):
            use = uses.setdefault((row["action_id"], path), _use(row, path))
            use["in_draft" if row["version_id"] is None else "in_force"] = True
    return sorted(uses.values(), key=lambda use: (use["workflow_name"], use["action_key"] or ""))


def _may_refer(type_: ActionType, kind: str) -> bool:
    return kind in ANY_CONFIG or callable(type_.refers) or kind in type_.refers.values()


def _use(row: asyncpg.Record, place: str) -> Use:
    names = ("workflow_id", "workflow_name", "action_id", "action_key", "action_type")
    path = f"action_config.{place}"
    return {**{n: row[n] for n in names}, "path": path, "in_draft": False, "in_force": False}


def in_use(what: str, uses: Sequence[Mapping[str, Any]]) -> Problem:
    """Build the answer for a deletion that actions stand against; `force` deletes all the same."""
    faults = [
        Fault(
            f"workflows[{use['workflow_id']}].actions[{use['action_id']}].{use['path']}",
            "in_use",
            f"The action {use['action_key']} of the workflow {use['workflow_name']} refers to it.",
        )
        for use in uses[:MOST_FAULTS]
    ]
    detail = (
        f"{len(uses)} places in actions refer to this {what}. With force=true it is deleted all "
        "the same, and those actions fail."
    )
    return Problem(409, "in_use", detail, errors=faults)


async def missing_rows(
    db: Connection | asyncpg.Pool, account_id: UUID, referents: Sequence[Referent]
) -> list[Referent]:
    """Find those that lead to no row of the account, in one query for any number."""
    wanted = sorted({(one.kind, one.target) for one in referents if one.kind not in _MADE})
    if not wanted:
        return []
    rows = await db.fetch(queries.missing, account_id, *map(list, zip(*wanted, strict=True)))
    absent = {(row["kind"], row["target"]) for row in rows}
    return [one for one in referents if (one.kind, one.target) in absent]
