"""The whole workflow as one JSON graph: read it, or put another one in the place of a draft.

In a graph that is put, ids are references within it: an id that an action or a branch of the
workflow has keeps it, any other names something new. What is left out is deleted. All of it is
checked as one, and written in one transaction, or nothing is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import ConfigDict, Field, StringConstraints

from actors.sealed_configs import sealed, with_kept
from api import action_configs, actions, chains, draft_checks, workflows
from api.access import Permission
from api.action_requests import CanvasPosition, ShownAction
from api.answers import answer
from api.bodies import Body
from api.branches import MOST_BRANCHES, ShownBranch
from api.calls import Call, Route
from api.drafts import MOST_ACTIONS, Draft, open_draft
from api.etags import tagged
from api.fields import Key, Name, Object
from api.problems import Problem, invalid
from api.shown import Shown
from api.workflows import ShownWorkflow
from runtime.configuration import MOST_FAULTS, Fault, faults_of_config
from runtime.definition_checks import RELATED, TIMEOUT_BRANCH
from runtime.ids import new_id
from runtime.secrets import VaultError
from sql import load

queries = load("api_actions")
workflow_queries = load("api_workflows")

Ref = Annotated[str, StringConstraints(min_length=1, max_length=64)]
"""A name within the graph; the id of what is there already, or any other for what is new."""


class GraphPart(Body):
    """What a graph that was read says beyond what can be put; it is passed over."""

    model_config = ConfigDict(extra="ignore")


class GraphBranch(GraphPart):
    """A branch of a graph."""

    id: Ref
    name: Name


class GraphAction(GraphPart):
    """An action of a graph; actions of one branch (null: of the trunk) stand in the list's order.

    A secret of a config that comes back as it was shown stays as it is.
    """

    id: Ref
    action_type: str
    action_config: Object = Field(default_factory=dict)
    branch_id: Ref | None = None
    key: Key | None = None
    is_enabled: bool = True
    on_failure: Literal["fail", "continue"] = "fail"
    fallback_action_id: Ref | None = None
    canvas_position: CanvasPosition | None = None


class NewGraph(GraphPart):
    """A whole draft; one that was read can be put back as it is."""

    branches: Annotated[list[GraphBranch], Field(max_length=MOST_BRANCHES)] = Field(
        default_factory=list
    )
    actions: Annotated[list[GraphAction], Field(max_length=MOST_ACTIONS)]


class ShownEdge(Shown):
    """A way from one action to another: next, fallback or timeout."""

    source: UUID
    target: UUID
    kind: Literal["next", "fallback", "timeout"]


class ShownGraph(Shown):
    """A workflow with its branches, actions and the ways between them."""

    workflow: ShownWorkflow
    branches: list[ShownBranch]
    actions: list[ShownAction]
    edges: list[ShownEdge]


async def read(call: Call) -> web.Response:
    """Read a workflow's draft as one graph."""
    row = await workflows.find(call, call.pool)
    ids = call.account_id, row["id"]
    rows = await call.pool.fetch(queries.actions, *ids)
    branches = await call.pool.fetch(workflow_queries.branches, *ids)
    return await _answer(call, row, branches, rows)


async def _answer(
    call: Call, row: Any, branches: Sequence[Any], rows: Sequence[Any]
) -> web.Response:
    shown = {
        "workflow": workflows.show(row),
        "branches": [dict(branch) for branch in branches],
        "actions": await actions.shown_all(call, rows),
        "edges": list(_edges(rows)),
    }
    return answer(shown, headers=tagged(row))


def _edges(rows: Sequence[Any]) -> Iterable[dict[str, Any]]:
    heads = {row["branch_id"]: row["id"] for row in reversed(rows)}
    there = {row["id"] for row in rows}
    for row in rows:
        branch = row["action_config"].get(TIMEOUT_BRANCH)
        targets = {
            "next": row["next_action_id"],
            "fallback": row["fallback_action_id"],
            "timeout": heads.get(_uuid(branch)) if branch else None,
        }
        for kind, target in targets.items():
            if target in there:
                yield {"source": row["id"], "target": target, "kind": kind}


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text)
    except (TypeError, ValueError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class _Plan:
    """A graph with the ids that its references stand for."""

    graph: NewGraph
    branch_ids: Mapping[str, UUID]
    action_ids: Mapping[str, UUID]
    keys: Mapping[UUID, str]
    configs: Mapping[UUID, dict[str, Any]]

    @property
    def orders(self) -> chains.Orders:
        """The order of each chain."""
        orders: dict[UUID | None, list[UUID]] = defaultdict(list)
        for action in self.graph.actions:
            orders[self.branch_of(action)].append(self.action_ids[action.id])
        return dict(orders)

    def branch_of(self, action: GraphAction) -> UUID | None:
        return None if action.branch_id is None else self.branch_ids[action.branch_id]

    def fallback_of(self, action: GraphAction) -> UUID | None:
        name = action.fallback_action_id
        return None if name is None else self.action_ids[name]


async def replace(call: Call) -> web.Response:
    """Put a graph in the place of the draft; a 422 Problem names everything that is wrong in it."""
    graph = await call.body(NewGraph)
    registry = call.services.registry
    async with call.transaction() as db:
        draft = await open_draft(call, db)
        draft.check_match(call)
        ids = call.account_id, draft.workflow_id
        branches = await db.fetch(workflow_queries.branches, *ids)
        before = [actions.show(row, registry) for row in draft.actions.values()]
        plan = _plan(graph, draft, {row["id"]: row["name"] for row in branches})
        await _check(call, draft, plan)
        await _write(call, draft, plan, {row["id"]: row["name"] for row in branches})
        row = await workflows.find(call, db)
        rows = await db.fetch(queries.actions, *ids)
        after = [actions.show(action, registry) for action in rows]
        entity = ("workflow", draft.workflow_id)
        await call.record(db, "workflow.graph_replaced", entity, before, after)
        branches = await db.fetch(workflow_queries.branches, *ids)
    return await _answer(call, row, branches, rows)


def _plan(graph: NewGraph, draft: Draft, branches: Mapping[UUID, str]) -> _Plan:
    faults = [
        *_repeated("branches", [branch.id for branch in graph.branches]),
        *_repeated("actions", [action.id for action in graph.actions]),
    ]
    branch_ids = _ids((branch.id for branch in graph.branches), branches)
    action_ids = _ids((action.id for action in graph.actions), draft.actions)
    for number, action in enumerate(graph.actions):
        path = f"actions[{number}]"
        if action.branch_id is not None and action.branch_id not in branch_ids:
            message = "The graph has no such branch."
            faults.append(Fault(f"{path}.branch_id", "branch_unknown", message))
        target = action.fallback_action_id
        if target is not None and (target not in action_ids or target == action.id):
            message = "The fallback must be another action of the graph."
            faults.append(Fault(f"{path}.fallback_action_id", "fallback_unknown", message))
    keys = [action.key for action in graph.actions if action.key is not None]
    faults += [
        Fault(f"actions[{number}].key", "key_taken", "Another action of the graph has this key.")
        for number, action in enumerate(graph.actions)
        if action.key is not None and keys.count(action.key) > 1
    ]
    if faults:
        raise invalid(*faults[:MOST_FAULTS])
    configs = {
        action_ids[action.id]: _mapped(action.action_config, branch_ids, action_ids)
        for action in graph.actions
    }
    return _Plan(graph, branch_ids, action_ids, _keys(graph, draft, action_ids), configs)


def _keys(graph: NewGraph, draft: Draft, action_ids: Mapping[str, UUID]) -> dict[UUID, str]:
    """Give each action its key: the one that it says, the one that it has, or a derived one."""
    keys = {action_ids[action.id]: action.key for action in graph.actions if action.key}
    for action in graph.actions:
        id_ = action_ids[action.id]
        if id_ not in keys:
            taken = set(keys.values())
            standing = draft.actions.get(id_, {}).get("key")
            if standing is None or standing in taken:
                standing = action_configs.free_key(action.action_type, taken)
            keys[id_] = standing
    return keys


def _repeated(where: str, names: Sequence[str]) -> list[Fault]:
    return [
        Fault(f"{where}[{number}].id", "id_repeated", "Another one of the graph has this id.")
        for number, name in enumerate(names)
        if name in names[:number]
    ]


def _ids(names: Iterable[str], known: Mapping[UUID, Any]) -> dict[str, UUID]:
    by_text = {str(id_): id_ for id_ in known}
    return {name: by_text.get(name.lower()) or new_id() for name in names}


def _mapped(
    config: Mapping[str, Any], branch_ids: Mapping[str, UUID], action_ids: Mapping[str, UUID]
) -> dict[str, Any]:
    """Put ids in the place of references; one that is unknown is left for the checks to name."""
    made = dict(config)
    for field, ids in ((TIMEOUT_BRANCH, branch_ids), (RELATED, action_ids)):
        if isinstance(made.get(field), str) and made[field] in ids:
            made[field] = str(ids[made[field]])
    return made


async def _check(call: Call, draft: Draft, plan: _Plan) -> None:
    """Check each action beside all others of the graph; seals secrets in the plan's configs."""
    registry, faults, rows = call.services.registry, list[Fault](), []
    for number, action in enumerate(plan.graph.actions):
        id_, path = plan.action_ids[action.id], f"actions[{number}].action_config"
        try:
            type_ = action_configs.action_type(registry, action.action_type)
        except Problem as problem:
            place = f"actions[{number}].action_type"
            faults += [Fault(place, one.code, one.message) for one in problem.errors]
            continue
        before = draft.actions.get(id_)
        if before is not None and before["action_type"] != type_.name:
            message = "An action keeps its type; give the new one another id."
            faults.append(Fault(f"actions[{number}].id", "action_type_is_fixed", message))
            continue
        config = with_kept(type_, plan.configs[id_], before and before["action_config"])
        wrong = faults_of_config(type_.config, config, path)
        faults += [fault for fault in wrong if action_configs.is_wrong(fault)]
        plan.configs[id_].clear()
        plan.configs[id_].update(config)
        rows.append({"id": id_, "action_type": type_.name, "key": plan.keys[id_], "config": config})
    if not faults:
        faults = await draft_checks.faults_of_graph(call, draft.db, rows, plan.branch_ids.values())
    if faults:
        raise invalid(*faults[:MOST_FAULTS])
    _seal(call, rows, plan)


def _seal(call: Call, rows: Sequence[Mapping[str, Any]], plan: _Plan) -> None:
    vault = call.services.house.vault
    for row in rows:
        type_ = call.services.registry.actions[row["action_type"]]
        try:
            kept = sealed(type_, row["config"], vault, call.account_id, row["id"])
        except VaultError as error:
            raise Problem(503, error.code, str(error)) from None
        plan.configs[row["id"]].update(kept)


async def _write(call: Call, draft: Draft, plan: _Plan, branches: Mapping[UUID, str]) -> None:
    db, ids = draft.db, (draft.account_id, draft.workflow_id)
    for branch in plan.graph.branches:
        id_ = plan.branch_ids[branch.id]
        if id_ not in branches:
            await db.execute(workflow_queries.add_branch, id_, *ids, branch.name, draft.now)
        elif branches[id_] != branch.name:
            await db.execute(workflow_queries.rename_branch, *ids, id_, branch.name)
    links = chains.links(plan.orders)
    for action in plan.graph.actions:
        await _write_action(call, draft, plan, action, links[plan.action_ids[action.id]])
    # Fallbacks and links lead to actions that must be there first.
    await _link(draft, plan, links)
    for id_ in draft.actions.keys() - set(plan.action_ids.values()):
        await db.execute(queries.delete_action, draft.account_id, id_, draft.now)
    for id_ in branches.keys() - set(plan.branch_ids.values()):
        await db.execute(workflow_queries.delete_branch, *ids, id_, draft.now)


async def _write_action(
    call: Call, draft: Draft, plan: _Plan, action: GraphAction, link: chains.Link
) -> None:
    x, y = actions.canvas(action.canvas_position)
    config = plan.configs[link.id]
    if link.id in draft.actions:
        values = config, action.is_enabled, action.on_failure, None, plan.keys[link.id], x, y
        arguments = draft.account_id, link.id, *values, draft.now
        await draft.db.execute(queries.change_action, *arguments)
        return
    await draft.db.execute(
        queries.add_action,
        link.id,
        draft.account_id,
        draft.workflow_id,
        action.action_type,
        config,
        link.position,
        None,
        None,
        link.branch_id,
        action.is_enabled,
        action.on_failure,
        None,
        plan.keys[link.id],
        x,
        y,
        draft.now,
        call.caller.user_id,
    )


async def _link(draft: Draft, plan: _Plan, links: Mapping[UUID, chains.Link]) -> None:
    ordered = list(links.values())
    await draft.db.execute(
        queries.link_actions,
        draft.account_id,
        [link.id for link in ordered],
        [link.branch_id for link in ordered],
        [link.position for link in ordered],
        [link.previous_id for link in ordered],
        [link.next_id for link in ordered],
        draft.now,
    )
    fallbacks = {
        plan.action_ids[action.id]: plan.fallback_of(action) for action in plan.graph.actions
    }
    await draft.db.execute(
        queries.set_fallbacks, draft.account_id, list(fallbacks), list(fallbacks.values())
    )


_PATH: Final = "/api/v1/workflows/{workflow_id}/graph"

ROUTES: Final = (
    Route("GET", _PATH, read, Permission.READ, answers={200: ShownGraph}),
    Route(
        "PUT",
        _PATH,
        replace,
        Permission.EDIT_WORKFLOWS,
        NewGraph,
        answers={200: ShownGraph},
        problems=frozenset({409}),
    ),
)
