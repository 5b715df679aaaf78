"""What a config says of the world around it: rows, merge fields, other actions, code.

Checked when an action is saved and once more when its workflow is activated. What is wrong is
refused; what is only missing may come later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import asyncpg

from actors.add_to_campaign import AddToCampaign
from actors.custom_code import CustomCode
from actors.merge_fields import faults_of_merge_fields
from actors.referents import Referent, referents_of
from api.calls import Call
from api.chains import Orders
from api.code import SANDBOX
from api.problems import invalid
from api.uses import missing_rows, queries
from runtime.configuration import Fault, did_you_mean
from runtime.database import Connection
from runtime.definition_checks import (
    RELATED,
    TIMEOUT_BRANCH,
    earlier_ids,
    faults_between,
)
from runtime.registry import ActionType
from sql import load

workflow_queries = load("api_workflows")

Row = Mapping[str, Any]

Reader = Connection | asyncpg.Pool
"""A connection, in a transaction or not; or the pool."""

Starts = list[tuple[str, ActionType, Mapping[str, Any]]]
"""Configs with the paths at which they stand."""

# Which action a wait's event can come from; a form may be linked to by any.
_SENDERS: Final[Mapping[str, frozenset[str]]] = {
    "email_open": frozenset({"send_email"}),
    "email_click": frozenset({"send_email"}),
    "sms_reply": frozenset({"send_sms"}),
    "messenger_reply": frozenset({"send_messenger"}),
}
_WORDS: Final = {"custom_field": "custom field"}


async def faults_of_config(
    call: Call, db: Reader, type_: ActionType, config: Mapping[str, Any], others: Iterable[Row]
) -> list[Fault]:
    """Check a config that is to be saved, beside the live actions of its workflow."""
    prefix, rows = "action_config", list(others)
    steps = {row["key"]: call.services.registry.actions[row["action_type"]] for row in rows}
    return [
        *faults_of_merge_fields(type_, config, prefix, steps),
        *await _row_faults(call, db, [(prefix, referents_of(type_, config))]),
        *_related_faults(config, {row["id"]: row["action_type"] for row in rows}, prefix),
        *await _branch_faults(call, db, config, prefix),
        *await _step_faults(call, db, [(prefix, type_, config)]),
        *await _code_faults(call, type_, config, prefix),
    ]


async def faults_of_graph(
    call: Call, db: Reader, rows: Sequence[Row], branch_ids: Iterable[UUID]
) -> list[Fault]:
    """Check actions {id, action_type, key, config} that are to replace a draft, in their order.

    Paths name them by their number. What an action reads of steps may be of any other of them.
    """
    registry = call.services.registry
    types = {row["id"]: row["action_type"] for row in rows}
    branches, faults, referents = {str(id_) for id_ in branch_ids}, [], []
    starts: Starts = []
    for number, row in enumerate(rows):
        type_, config = registry.actions[row["action_type"]], row["config"]
        prefix = f"actions[{number}].action_config"
        others = [other for other in rows if other is not row]
        steps = {o["key"]: registry.actions[o["action_type"]] for o in others if o["key"]}
        faults += faults_of_merge_fields(type_, config, prefix, steps)
        faults += _related_faults(config, types, prefix)
        faults += await _code_faults(call, type_, config, prefix)
        if config.get(TIMEOUT_BRANCH) and str(config[TIMEOUT_BRANCH]).lower() not in branches:
            faults.append(_no_branch(prefix))
        referents.append((prefix, referents_of(type_, config)))
        starts.append((prefix, type_, config))
    faults += await _row_faults(call, db, referents)
    return [*faults, *await _step_faults(call, db, starts)]


def check_order(rows: Mapping[UUID, Row], orders: Orders, row: Row) -> None:
    """Refuse an action whose related action would not come before it; a 422 Problem.

    Moving or deleting others may bring that about as well: it is shown then (`broken_of`).
    """
    related = row["action_config"].get(RELATED)
    if related is None:
        return
    placed = [
        {**rows[id_], "branch_id": branch_id} for branch_id, ids in orders.items() for id_ in ids
    ]
    if UUID(related) not in earlier_ids(placed)[row["id"]]:
        message = "The related action must come before this one."
        raise invalid(Fault(f"action_config.{RELATED}", "related_action_not_earlier", message))


async def broken_of(
    call: Call, db: Reader, rows: Sequence[asyncpg.Record]
) -> dict[UUID, list[Fault]]:
    """Find what became wrong about saved actions, by action; paths are those within the config.

    Because of others (deleted, moved), or because a row that they name is gone.
    """
    branch_rows = await db.fetch(workflow_queries.branches, call.account_id, call.id("workflow_id"))
    registry = call.services.registry
    referents = [
        (_of(row), referents_of(registry.actions[row["action_type"]], row["action_config"]))
        for row in rows
    ]
    faults = [
        *faults_between([dict(row) for row in rows], {row["id"] for row in branch_rows}),
        *await _row_faults(call, db, referents),
    ]
    found: dict[UUID, list[Fault]] = {}
    for fault in faults:
        action, _, place = fault.path.partition("].")
        own = replace(fault, path=place.removeprefix("action_config."))
        found.setdefault(UUID(action.removeprefix("actions[")), []).append(own)
    return found


def _of(row: asyncpg.Record) -> str:
    return f"actions[{row['id']}].action_config"


def _no_branch(prefix: str) -> Fault:
    message = "There is no such branch in this workflow."
    return Fault(f"{prefix}.{TIMEOUT_BRANCH}", "branch_unknown", message)


async def faults_of_draft(call: Call, db: Reader, rows: Sequence[Row]) -> list[Fault]:
    """Check all actions of a draft that is to be activated; one query for all rows they name."""
    registry = call.services.registry
    earlier = earlier_ids(rows)
    by_id = {row["id"]: row for row in rows}
    faults, referents = [], []
    starts: Starts = []
    for row in rows:
        type_, config = registry.actions[row["action_type"]], row["action_config"]
        prefix = f"actions[{row['id']}].action_config"
        steps = {
            by_id[id_]["key"]: registry.actions[by_id[id_]["action_type"]]
            for id_ in earlier[row["id"]]
        }
        faults += faults_of_merge_fields(type_, config, prefix, steps)
        types = {id_: other["action_type"] for id_, other in by_id.items()}
        # One that is not there at all is found by the checks of the graph.
        related = _related_faults(config, types, prefix)
        faults += [fault for fault in related if fault.code != "related_action_unknown"]
        faults += await _code_faults(call, type_, config, prefix)
        referents.append((prefix, referents_of(type_, config)))
        starts.append((prefix, type_, config))
    faults += await _mail_faults(call, db, referents)
    faults += await _row_faults(call, db, referents)
    return [*faults, *await _step_faults(call, db, starts)]


async def _mail_faults(
    call: Call, db: Reader, referents: Sequence[tuple[str, Sequence[Referent]]]
) -> list[Fault]:
    """Marketing mail needs the account's postal address (15 U.S.C. 7704(a)(5)(A)(iii))."""
    used = [(f"{p}.{one.path}", one) for p, found in referents for one in found]
    places = {path: UUID(one.target) for path, one in used if one.kind == "template"}
    wanted = sorted(set(places.values()))
    if not wanted:
        return []
    rows = await db.fetch(queries.marketing_without_address, call.account_id, wanted)
    concerned = {row["id"] for row in rows}
    message = (
        "Marketing mail carries the account's postal address, and none is set (PATCH /account)."
    )
    return [
        Fault(path, "postal_address_missing", message)
        for path, id_ in places.items()
        if id_ in concerned
    ]


async def _row_faults(
    call: Call, db: Reader, referents: Sequence[tuple[str, Sequence[Referent]]]
) -> list[Fault]:
    wanted = [one for _, found in referents for one in found]
    missing = {(one.kind, one.target) for one in await missing_rows(db, call.account_id, wanted)}
    if not missing:
        return []
    keys = await _custom_field_keys(db, call.account_id)
    return [
        _row_fault(one, prefix, keys)
        for prefix, found in referents
        for one in found
        if (one.kind, one.target) in missing
    ]


async def _step_faults(call: Call, db: Reader, starts: Starts) -> list[Fault]:
    """Whether actions that begin at a certain step of a campaign name one of its workflow."""
    named = [
        (prefix, UUID(config["campaign_id"]), UUID(config["step_id"]))
        for prefix, type_, config in starts
        if type_.config is AddToCampaign
        and _is_id(config.get("campaign_id"))
        and _is_id(config.get("step_id"))
    ]
    if not named:
        return []
    rows = await db.fetch(
        queries.steps_not_in_campaign,
        call.account_id,
        [campaign for _, campaign, _ in named],
        [step for _, _, step in named],
    )
    message = "The campaign's workflow has no action of this id."
    places = [named[row["place"] - 1][0] for row in rows]
    return [Fault(f"{prefix}.step_id", "step_unknown", message) for prefix in places]


def _is_id(value: Any) -> bool:
    try:
        return bool(isinstance(value, str) and UUID(value))
    except ValueError:
        return False


async def _custom_field_keys(db: Reader, account_id: UUID) -> list[str]:
    return [row["key"] for row in await db.fetch(queries.custom_field_keys, account_id)]


def _row_fault(referent: Referent, prefix: str, keys: Collection[str]) -> Fault:
    word = _WORDS.get(referent.kind, referent.kind)
    message = f"There is no such {word}, or it was deleted."
    if referent.kind == "custom_field":
        hint = did_you_mean(referent.target, keys)
        message = f"There is no custom field {referent.target[:64]}.{hint}"
    if referent.place is not None:
        message += " (line {}, column {})".format(*referent.place)
    return Fault(f"{prefix}.{referent.path}", f"{referent.kind}_unknown", message)


def _related_faults(
    config: Mapping[str, Any], types: Mapping[UUID, str], prefix: str
) -> list[Fault]:
    """Whether the action that a wait relates to can send what it waits for.

    Whether it comes before the wait is a matter of the whole graph: see definition_checks.
    """
    related, event = config.get(RELATED), config.get("event_type")
    if not isinstance(related, str) or not isinstance(event, str):
        return []
    path, senders = f"{prefix}.{RELATED}", _SENDERS.get(event)
    found = next((type_ for id_, type_ in types.items() if str(id_) == related.lower()), None)
    if found is None:
        message = "The related action is none of this workflow, or was deleted."
        return [Fault(path, "related_action_unknown", message)]
    if senders is not None and found not in senders:
        message = f"{event} comes from {' or '.join(sorted(senders))}, not from {found}."
        return [Fault(path, "related_action_unfit", message)]
    return []


async def _branch_faults(
    call: Call, db: Reader, config: Mapping[str, Any], prefix: str
) -> list[Fault]:
    try:
        branch_id = UUID(config.get(TIMEOUT_BRANCH) or "")
    except ValueError:
        return []
    ids = call.account_id, call.id("workflow_id"), branch_id
    if await db.fetchval(workflow_queries.has_branch, *ids):
        return []
    return [_no_branch(prefix)]


async def _code_faults(
    call: Call, type_: ActionType, config: Mapping[str, Any], prefix: str
) -> list[Fault]:
    code = config.get("code")
    if type_.config is not CustomCode or not isinstance(code, str):
        return []
    error = await call.request.app[SANDBOX].javascript.check(code)
    if error is None:
        return []
    place = f" (line {error.line}, column {error.column})" if error.line else ""
    return [Fault(f"{prefix}.code", error.code, f"{error.message}{place}")]
