"""Workflows as wholes over the API: graphs, versions, differences, loops, changes, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from runtime.settings import Settings
from tests.api_desk import READY, Caller, Desk, open_desk

V1 = "/api/v1"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def caller(desk: Desk) -> Caller:
    return await desk.caller()


def node(id_: str, type_: str = "add_tag", **more: Any) -> dict[str, Any]:
    config = more.pop("config", {"tag_name": id_})
    return {"id": id_, "action_type": type_, "action_config": config, **more}


WAIT = {
    "event_type": "form_submit",
    "timeout_duration": 1,
    "timeout_unit": "days",
    "timeout_action": "branch",
    "timeout_branch_id": "late",
    "related_action_id": "a",
}


async def test_a_whole_graph_is_put_and_read(caller: Caller) -> None:
    path = await caller.workflow(READY)
    graph = {
        "branches": [{"id": "late", "name": "Too late"}],
        "actions": [
            node("a", canvas_position={"x": 1.5, "y": 2}, fallback_action_id="c"),
            node("b", "wait_for_event", config=WAIT),
            node("c", "add_note", config={"content": "{{steps.add_tag.tag_name}}"}),
            node("d", branch_id="late"),
        ],
    }
    put = await caller.put(f"{path}/graph", graph)
    read = await caller.get(f"{path}/graph")
    assert put == read
    again = await caller.put(f"{path}/graph", read)
    assert [one["id"] for one in again["actions"]] == [one["id"] for one in read["actions"]]
    a, b, c, d = put["actions"]
    [late] = put["branches"]
    assert [(one["position"], one["branch_id"]) for one in put["actions"]] == [
        (0, None), (1, None), (2, None), (0, late["id"]),
    ]  # fmt: skip
    assert b["action_config"]["timeout_branch_id"] == late["id"]
    assert b["action_config"]["related_action_id"] == a["id"]
    assert {(e["source"], e["target"], e["kind"]) for e in put["edges"]} == {
        (a["id"], b["id"], "next"), (b["id"], c["id"], "next"), (a["id"], c["id"], "fallback"),
        (b["id"], d["id"], "timeout"),
    }  # fmt: skip
    activated = await caller.post(f"{path}/activate")
    assert (activated["version"], activated["warnings"]) == (1, [])


async def test_what_comes_back_keeps_its_id_and_what_is_left_out_is_deleted(
    caller: Caller,
) -> None:
    path = await caller.workflow(READY, READY)
    seen = await caller.call("GET", f"{path}/graph")
    first, second = seen.data["actions"]
    body = {"actions": [node("new"), node(second["id"], config=READY)]}
    put = await caller.call(
        "PUT", f"{path}/graph", body, headers={"If-Match": seen.headers["ETag"]}
    )
    new, kept = put.data["actions"]
    assert (kept["id"], kept["key"], kept["position"]) == (second["id"], second["key"], 1)
    assert new["id"] != first["id"]
    assert (await caller.refused("GET", f"{path}/actions/{first['id']}")).status == 404
    stale = await caller.call(
        "PUT", f"{path}/graph", body, headers={"If-Match": seen.headers["ETag"]}
    )
    assert stale.status == 412


@pytest.mark.parametrize(
    ("actions", "path", "code"),
    [
        ([node("a"), node("a")], "actions[1].id", "id_repeated"),
        ([node("a", branch_id="x")], "actions[0].branch_id", "branch_unknown"),
        ([node("a", fallback_action_id="a")], "actions[0].fallback_action_id", "fallback_unknown"),
        ([node("a", key="k"), node("b", key="k")], "actions[0].key", "key_taken"),
        ([node("a", "add_tga")], "actions[0].action_type", "unknown_action_type"),
        ([node("a", config={"tag": 1})], "actions[0].action_config.tag", "unknown_field"),
        (
            [node("a", "add_note", config={"content": "{{contact.frist_name}}"})],
            "actions[0].action_config.content",
            "merge_field_unknown",
        ),
        (
            [node("b", "wait_for_event", config={**WAIT, "related_action_id": "b"}), node("a")],
            "actions[0].action_config.timeout_branch_id",
            "uuid_parsing",
        ),
    ],
)
async def test_a_wrong_graph_is_refused_as_a_whole(
    caller: Caller, actions: list[dict[str, Any]], path: str, code: str
) -> None:
    workflow = await caller.workflow(READY)
    before = await caller.get(f"{workflow}/graph")
    refused = await caller.refused("PUT", f"{workflow}/graph", {"actions": actions})
    assert (path, code) in refused.faults
    assert await caller.get(f"{workflow}/graph") == before


async def test_an_id_of_another_workflow_is_a_new_name_here(caller: Caller, desk: Desk) -> None:
    other = await desk.caller("Other")
    theirs = await other.workflow(READY)
    [foreign] = await other.chain(theirs)
    path = await caller.workflow()
    put = await caller.put(f"{path}/graph", {"actions": [node(foreign["id"])]})
    assert put["actions"][0]["id"] != foreign["id"]
    assert await other.chain(theirs) == [foreign]


async def test_two_inserts_at_one_position_both_succeed_and_the_chain_stays_whole(
    caller: Caller,
) -> None:
    path = await caller.workflow(READY, READY)
    body = {"action_type": "add_tag", "action_config": READY, "position": 1}
    made = await asyncio.gather(*(caller.post(f"{path}/actions", body) for _ in range(6)))
    chain = await caller.chain(path)
    assert {one["id"] for one in made} < {one["id"] for one in chain}
    assert_whole(chain)


def assert_whole(chain: list[dict[str, Any]]) -> None:
    """Positions without gaps, links that lead from each to the next and back."""
    ids = [one["id"] for one in chain]
    assert [one["position"] for one in chain] == list(range(len(chain)))
    assert [one["previous_action_id"] for one in chain] == [None, *ids[:-1]][: len(ids)]
    assert [one["next_action_id"] for one in chain] == [*ids[1:], None][: len(ids)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "move", "disable", "reverse"]), st.integers(0, 9)
    ),
    max_size=8,
)


@limits(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_whatever_is_done_to_a_chain_it_stays_whole(caller: Caller, steps: Any) -> None:
    path = await caller.workflow(READY)
    for step, number in steps:
        chain = await caller.chain(path)
        one = chain[number % len(chain)] if chain else None
        match step:
            case "insert":
                place = number % (len(chain) + 1)
                body = {"action_type": "add_tag", "action_config": READY, "position": place}
                await caller.post(f"{path}/actions", body)
            case "delete" if one:
                await caller.delete(f"{path}/actions/{one['id']}")
            case "move" if one:
                place = (number * 7) % len(chain)
                await caller.put(f"{path}/actions/{one['id']}", {"position": place})
            case "disable" if one:
                await caller.put(f"{path}/actions/{one['id']}", {"is_enabled": False})
            case "reverse":
                order = {"action_ids": [each["id"] for each in reversed(chain)]}
                await caller.post(f"{path}/actions/reorder", order)
        assert_whole(await caller.chain(path))


async def test_a_difference_says_what_changes_and_where_runs_stand(caller: Caller) -> None:
    wait = {"duration": 3, "unit": "days"}
    path = await caller.workflow()
    put = await caller.put(
        f"{path}/graph",
        {"actions": [node("w", "wait_time", config=wait), node("b"), node("c")]},
    )
    first, second, third = put["actions"]
    nothing = await caller.get(f"{path}/diff")
    assert (nothing["from_version"], [a["change"] for a in nothing["actions"]]) == (
        None, ["added"] * 3,
    )  # fmt: skip
    await caller.post(f"{path}/activate")
    contact = await caller.post(f"{V1}/contacts", {"first_name": "Ada"})
    await caller.post(f"{path}/enroll", {"contact_ids": [contact["id"]]})
    await caller.post(f"{path}/pause")
    await caller.put(f"{path}/actions/{second['id']}", {"action_config": {"tag_name": "z"}})
    await caller.delete(f"{path}/actions/{third['id']}")
    await caller.post(f"{path}/actions", {"action_type": "add_tag", "position": 0})
    different = await caller.get(f"{path}/diff")
    assert different["from_version"] == 1
    assert [(a["action_key"], a["change"]) for a in different["actions"]] == [
        (different["actions"][0]["action_key"], "added"),
        ("wait_time", "moved"), ("add_tag", "changed"), ("add_tag_2", "removed"),
    ]  # fmt: skip
    changed = different["actions"][2]["fields"][0]
    assert (changed["before"], changed["after"]) == ({"tag_name": "b"}, {"tag_name": "z"})
    [standing] = different["standing"]
    assert (standing["version"], standing["action_id"], standing["executions"]) == (
        1, first["id"], 1,
    )  # fmt: skip
    [version] = (await caller.get(f"{path}/versions"))["items"]
    assert (version["number"], version["is_in_force"], version["live_executions"]) == (1, True, 1)
    kept = await caller.get(f"{path}/versions/1")
    assert [a["id"] for a in kept["actions"]] == [first["id"], second["id"], third["id"]]
    assert (await caller.refused("GET", f"{path}/versions/2")).code == "version_not_found"
    assert (await caller.refused("GET", f"{path}/versions/x")).code == "version_not_found"


async def listening(caller: Caller, name: str, event: str, *actions: Any, **trigger: Any) -> str:
    made = await caller.post(
        f"{V1}/workflows", {"name": name, "trigger": {"event_type": event, **trigger}}
    )
    path = f"{V1}/workflows/{made['id']}"
    for type_, config in actions:
        body = {"action_type": type_, "action_config": config}
        await caller.post(f"{path}/actions", body)
    return path


NOTE = ("add_note", {"content": "x"})
TASK = ("create_task", {"title": "x"})


async def test_workflows_that_start_each_other_for_ever_are_not_activated(caller: Caller) -> None:
    one = await listening(caller, "One", "task_created", NOTE)
    two = await listening(caller, "Two", "note_added", TASK)
    await caller.post(f"{one}/activate")
    refused = await caller.refused("POST", f"{two}/activate")
    assert refused.faults == [("trigger", "workflow_loop")]
    assert "Two → One → Two" in refused.data["detail"]
    own = await listening(caller, "Own", "note_added", NOTE)
    assert (await caller.refused("POST", f"{own}/activate")).code == "workflow_loop"
    late = await listening(caller, "Late", "contact_created", NOTE)
    await caller.post(f"{late}/activate")
    trigger = {"trigger": {"event_type": "note_added"}}
    assert (await caller.refused("PATCH", late, trigger)).code == "workflow_loop"


async def test_what_may_go_round_is_told(caller: Caller) -> None:
    tag = ("add_tag", {"tag_name": "A"})
    equal = {"field": "payload.tag_name", "operator": "equals", "value": "a"}
    may = await listening(caller, "May", "tag_added", tag)
    never = await listening(caller, "Never", "tag_added", tag, conditions=[{**equal, "value": "B"}])
    waits = await listening(
        caller, "Waits", "note_added", ("wait_time", {"duration": 1, "unit": "days"}), NOTE
    )
    told = await caller.post(f"{may}/activate")
    assert [warning["code"] for warning in told["warnings"]] == ["workflow_may_loop"]
    assert (await caller.post(f"{never}/activate"))["warnings"] == []
    assert (await caller.post(f"{waits}/activate"))["warnings"][0]["code"] == "workflow_may_loop"


async def test_a_workflow_is_renamed_and_listens_to_another_trigger_at_once(
    caller: Caller, pool: asyncpg.Pool
) -> None:
    path = await listening(caller, "One", "tag_added", NOTE)
    await caller.post(f"{path}/activate")
    change = {
        "name": "Two",
        "trigger": {"event_type": "contact_created"},
    }
    changed = await caller.call("PATCH", path, change)
    assert changed.data["name"] == "Two"
    assert await pool.fetchval("SELECT event_type FROM workflow_triggers") == "contact_created"
    await caller.call("PATCH", path, {"trigger": None})
    assert await pool.fetchval("SELECT count(*) FROM workflow_triggers") == 0
    assert (await caller.get(f"{V1}/workflows", sort="name", search="tw"))["items"][0][
        "name"
    ] == "Two"


async def test_a_workflow_is_deleted_once_nothing_depends_on_it(caller: Caller) -> None:
    path = await caller.workflow(READY)
    await caller.post(f"{path}/activate")
    contact = await caller.post(f"{V1}/contacts", {"first_name": "Ada"})
    enrolled = await caller.post(f"{path}/enroll", {"contact_ids": [contact["id"]]})
    execution = enrolled["outcomes"][0]["execution_id"]
    workflow_id = path.rpartition("/")[2]
    campaign = await caller.post(f"{V1}/campaigns", {"name": "C", "workflow_id": workflow_id})
    assert (await caller.refused("DELETE", path)).code == "in_use"
    await caller.delete(f"{V1}/campaigns/{campaign['id']}")
    assert (await caller.refused("DELETE", path)).code == "workflow_has_live_executions"
    deleted = await caller.call("DELETE", f"{path}?force=true")
    assert deleted.data == {"cancelled_execution_ids": [execution]}
    assert (await caller.refused("GET", path)).status == 404
    assert (await caller.get(f"{V1}/executions/{execution}"))["status"] == "cancelled"


async def test_branches_are_renamed_and_deleted_when_nothing_leads_there(caller: Caller) -> None:
    path = await caller.workflow(READY)
    branch = await caller.post(f"{path}/branches", {"name": "b"})
    one = f"{path}/branches/{branch['id']}"
    assert (await caller.call("PATCH", one, {"name": "c"})).data["name"] == "c"
    action = await caller.post(
        f"{path}/actions", {"action_type": "add_tag", "branch_id": branch["id"]}
    )
    assert (await caller.refused("DELETE", one)).code == "branch_not_empty"
    await caller.delete(f"{path}/actions/{action['id']}")
    wait = await caller.post(
        f"{path}/actions",
        {
            "action_type": "wait_for_event",
            "action_config": {
                "event_type": "form_submit", "timeout_duration": 1, "timeout_unit": "days",
                "timeout_action": "branch", "timeout_branch_id": branch["id"],
            },
        },
    )  # fmt: skip
    assert (await caller.refused("DELETE", one)).code == "in_use"
    await caller.delete(f"{path}/actions/{wait['id']}")
    await caller.delete(one)
    assert (await caller.get(f"{path}/branches"))["items"] == []
    gone = {"action_type": "add_tag", "branch_id": branch["id"]}
    assert (await caller.refused("POST", f"{path}/actions", gone)).code == "branch_unknown"


async def test_every_change_of_a_definition_stands_in_the_audit_log(caller: Caller) -> None:
    path = await caller.workflow(READY)
    await caller.call("PATCH", path, {"name": "x"})
    await caller.put(f"{path}/graph", {"actions": [node("a")]})
    await caller.delete(path)
    items = (await caller.get(f"{V1}/audit"))["items"]
    kinds = [entry["action"] for entry in items]
    assert kinds[:3] == ["workflow.deleted", "workflow.graph_replaced", "workflow.changed"]
