"""The actions of a workflow: the six endpoints of the specification (R1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web

from actors.sealed_configs import redacted, sealed, with_kept
from api import action_configs, chains, draft_checks, workflows
from api.access import Permission
from api.action_requests import (
    CanvasPosition,
    ChangedAction,
    NewAction,
    NewOrder,
    ShownAction,
)
from api.answers import answer
from api.calls import Call, Route
from api.chains import Row
from api.drafts import Draft, open_draft, read_draft
from api.etags import check_match, tagged
from api.gathered_drafts import DRAFTS, Addition
from api.gathered_drafts import add as add_actions
from api.problems import Problem, conflict, invalid, not_found
from api.shown import Listing
from runtime.configuration import Fault
from runtime.database import Connection
from runtime.definition_checks import RELATED
from runtime.ids import new_id
from runtime.registry import ActionType, Registry
from runtime.secrets import VaultError
from sql import load

queries = load("api_actions")


def show(
    row: Row | asyncpg.Record, registry: Registry, broken: Sequence[Fault] = ()
) -> dict[str, Any]:
    """Show an action, with what its config still lacks, and what of it others broke."""
    shown = dict(row)
    x, y = shown.pop("canvas_x"), shown.pop("canvas_y")
    shown["canvas_position"] = None if x is None else {"x": x, "y": y}
    type_ = registry.actions[row["action_type"]]
    shown["configuration_status"] = action_configs.status(type_, row["action_config"], broken)
    shown["action_config"] = redacted(type_, row["action_config"])
    return shown


async def create(call: Call) -> web.Response:
    """Add an action; those at and behind its place move back by one."""
    new, shown = await call.body(NewAction), None
    config = new.action_config or {}
    if call.attempt is None and config.get(RELATED) is None:
        # Without a lock first: most drafts are changed by one person at a time.
        shown = await _create(call, await read_draft(call), new, call.request.app[DRAFTS].add)
    if shown is None:
        async with call.transaction() as db:
            shown = await _create(call, await open_draft(call, db), new, partial(_add_one, db))
    assert shown is not None, "nobody changes what we have locked"
    location = {"Location": f"{call.request.path}/{shown['id']}"}
    return answer(shown, 201, {**location, **tagged(shown)})


async def _create(
    call: Call, draft: Draft, new: NewAction, add: Callable[[Addition], Awaitable[bool]]
) -> dict[str, Any] | None:
    """Check and write an action; None, and nothing written, if the draft was changed meanwhile."""
    draft.check_match(call)
    type_ = action_configs.action_type(call.services.registry, new.action_type)
    given = action_configs.defaults(type_) if new.action_config is None else new.action_config
    id_ = new_id()
    config = await _ready(call, draft, type_, given, id_)
    row, orders, links = await _placed(draft, new, id_, config)
    draft_checks.check_order({**draft.actions, id_: row}, orders, row)
    shown = show(row, call.services.registry)
    addition = Addition(
        call.account_id,
        draft.revision,
        draft.updated_at,
        row,
        chains.changed(draft.actions.values(), links),
        call.change("action.created", ("action", id_), None, shown),
    )
    return shown if await add(addition) else None


async def _add_one(db: Connection, addition: Addition) -> bool:
    return bool(await add_actions(db, [addition]))


async def _ready(
    call: Call, draft: Draft, type_: ActionType, given: dict[str, Any], action_id: UUID
) -> dict[str, Any]:
    """Check a config and seal its secrets; one that came back as it was shown stays as it stands.

    A 422 Problem says what is wrong with it.
    """
    before = draft.actions.get(action_id)
    config = with_kept(type_, given, before and before["action_config"])
    action_configs.check(type_, config)
    others = [row for row in draft.actions.values() if row["id"] != action_id]
    faults = await draft_checks.faults_of_config(call, draft.db, type_, config, others)
    if faults:
        raise invalid(*faults)
    try:
        return sealed(type_, config, call.services.house.vault, call.account_id, action_id)
    except VaultError as error:
        raise Problem(503, error.code, str(error)) from None


async def _placed(
    draft: Draft, new: NewAction, id_: UUID, config: dict[str, Any]
) -> tuple[Row, chains.Orders, dict[UUID, chains.Link]]:
    """Give the row that a new action is to have, and the orders and links with it in them."""
    draft.check_room()
    draft.check_fallback(new.fallback_action_id)
    await draft.check_branch(new.branch_id)
    orders = chains.place(
        draft.orders,
        id_,
        position=new.position,
        previous_id=new.previous_action_id,
        branch_id=new.branch_id,
    )
    links = chains.links(orders)
    link = links[id_]
    x, y = canvas(new.canvas_position)
    row = {
        "id": id_,
        "workflow_id": draft.workflow_id,
        "action_type": new.action_type,
        "action_config": config,
        "position": link.position,
        "previous_action_id": link.previous_id,
        "next_action_id": link.next_id,
        "branch_id": link.branch_id,
        "is_enabled": new.is_enabled is not False,
        "on_failure": new.on_failure or "fail",
        "fallback_action_id": new.fallback_action_id,
        "key": draft.key_for(new.key, new.action_type),
        "canvas_x": x,
        "canvas_y": y,
        "created_at": draft.now,
        "updated_at": draft.now,
    }
    return row, orders, links


def canvas(position: CanvasPosition | None) -> tuple[float | None, float | None]:
    """Give the columns of a place on the canvas."""
    return (position.x, position.y) if position else (None, None)


async def list_all(call: Call) -> web.Response:
    """List the actions: the trunk, then branch by branch, each in order."""
    workflow = await workflows.find(call, call.pool)
    rows = await call.pool.fetch(queries.actions, call.account_id, workflow["id"])
    return answer({"items": await shown_all(call, rows)}, headers=tagged(workflow))


async def shown_all(call: Call, rows: Sequence[asyncpg.Record]) -> list[dict[str, Any]]:
    """Show all actions of a workflow, each with what became wrong about it."""
    broken = await draft_checks.broken_of(call, call.pool, rows)
    return [show(row, call.services.registry, broken.get(row["id"], ())) for row in rows]


async def read(call: Call) -> web.Response:
    """Read one action."""
    action_id = call.id("action_id")
    rows = await call.pool.fetch(queries.actions, call.account_id, call.id("workflow_id"))
    row = next((row for row in rows if row["id"] == action_id), None)
    if row is None:
        raise not_found("action")
    broken = await draft_checks.broken_of(call, call.pool, rows)
    shown = show(row, call.services.registry, broken.get(action_id, ()))
    return answer(shown, headers=tagged(row))


async def change(call: Call) -> web.Response:
    """Change an action's config and settings, and move it if another place is given."""
    action_id, new = call.id("action_id"), await call.body(ChangedAction)
    registry = call.services.registry
    async with call.transaction() as db:
        draft = await open_draft(call, db)
        before = draft.action(action_id)
        check_match(call.request, before)
        await _change(call, draft, before, new)
        orders = await _moved(draft, before, new)
        await draft.arrange(orders)
        row = await draft.read(action_id)
        if new.action_config is not None:
            draft_checks.check_order({**draft.actions, action_id: row}, orders, row)
        was, after = show(before, registry), show(row, registry)
        await call.record(db, "action.updated", ("action", action_id), was, after)
    return answer(after, headers=tagged(row))


async def _change(call: Call, draft: Draft, before: Row, new: ChangedAction) -> None:
    if new.action_type not in {None, before["action_type"]}:
        message = "An action keeps its type; delete it and add another one."
        raise conflict("action_type_is_fixed", message)
    config = before["action_config"]
    if new.action_config is not None:
        type_ = call.services.registry.actions[before["action_type"]]
        config = await _ready(call, draft, type_, new.action_config, before["id"])
    draft.check_fallback(new.fallback_action_id, before["id"])
    old_canvas = (before["canvas_x"], before["canvas_y"])
    await draft.db.execute(
        queries.change_action,
        draft.account_id,
        before["id"],
        config,
        before["is_enabled"] if new.is_enabled is None else new.is_enabled,
        new.on_failure or before["on_failure"],
        new.fallback_action_id
        if "fallback_action_id" in new.says
        else before["fallback_action_id"],
        draft.key_for(new.key or before["key"], before["action_type"], before["id"]),
        *(canvas(new.canvas_position) if "canvas_position" in new.says else old_canvas),
        draft.now,
    )


async def _moved(draft: Draft, before: Row, new: ChangedAction) -> chains.Orders:
    branch_id: UUID | None = new.branch_id if "branch_id" in new.says else before["branch_id"]
    says_where = new.position is not None or new.previous_action_id is not None
    if not says_where and branch_id == before["branch_id"]:
        return draft.orders
    await draft.check_branch(branch_id)
    return chains.place(
        chains.without(draft.orders, before["id"]),
        before["id"],
        position=new.position,
        previous_id=new.previous_action_id,
        branch_id=branch_id if new.previous_action_id is None else new.branch_id,
    )


async def delete(call: Call) -> web.Response:
    """Delete an action softly and link its neighbours to each other."""
    action_id = call.id("action_id")
    async with call.transaction() as db:
        draft = await open_draft(call, db)
        row = draft.action(action_id)
        check_match(call.request, row)
        before = show(row, call.services.registry)
        await db.execute(queries.delete_action, call.account_id, action_id, draft.now)
        await draft.arrange(chains.without(draft.orders, action_id))
        await call.record(db, "action.deleted", ("action", action_id), before, None)
    return web.Response(status=204)


async def reorder(call: Call) -> web.Response:
    """Put the actions of one chain into a new order; configs stay as they are."""
    new = await call.body(NewOrder)
    async with call.transaction() as db:
        draft = await open_draft(call, db)
        draft.check_match(call)
        await draft.check_branch(new.branch_id)
        await draft.arrange(chains.reordered(draft.orders, new.branch_id, new.action_ids))
        was, entity = draft.orders.get(new.branch_id, []), ("workflow", draft.workflow_id)
        before, after = (
            {"branch_id": new.branch_id, "action_ids": ids} for ids in (was, new.action_ids)
        )
        await call.record(db, "actions.reordered", entity, before, after)
        rows = await db.fetch(queries.actions, call.account_id, draft.workflow_id)
    chain = [row for row in rows if row["branch_id"] == new.branch_id]
    return answer({"items": [show(row, call.services.registry) for row in chain]})


_ALL: Final = "/api/v1/workflows/{workflow_id}/actions"
_ONE: Final = f"{_ALL}/{{action_id}}"

ROUTES: Final = (
    Route(
        "POST",
        _ALL,
        create,
        Permission.EDIT_WORKFLOWS,
        NewAction,
        answers={201: ShownAction},
        problems=frozenset({409}),
    ),
    Route("GET", _ALL, list_all, Permission.READ, answers={200: Listing[ShownAction]}),
    Route(
        "POST",
        f"{_ALL}/reorder",
        reorder,
        Permission.EDIT_WORKFLOWS,
        NewOrder,
        answers={200: Listing[ShownAction]},
        problems=frozenset({409}),
    ),
    Route("GET", _ONE, read, Permission.READ, answers={200: ShownAction}),
    Route(
        "PUT",
        _ONE,
        change,
        Permission.EDIT_WORKFLOWS,
        ChangedAction,
        answers={200: ShownAction},
        problems=frozenset({409}),
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        Permission.EDIT_WORKFLOWS,
        answers={204: None},
        problems=frozenset({409}),
    ),
)
