"""Workflows from draft to archive, over the API."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from runtime.settings import Settings
from tests.api_desk import READY, Caller, Desk, open_desk

TRIGGER = {
    "event_type": "form_submit",
    "conditions": [{"field": "payload.form", "operator": "equals", "value": "signup"}],
}


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def editor(desk: Desk) -> Caller:
    return await desk.caller(role="editor")


async def faults(editor: Caller, path: str) -> list[tuple[str, str]]:
    refusal = await editor.refused("POST", f"{path}/activate")
    assert refusal.status == 422
    assert (await editor.get(path))["status"] == "draft"
    return [(fault.partition("].")[2] or fault, code) for fault, code in refusal.faults]


async def add(editor: Caller, path: str, action_type: str, **more: Any) -> str:
    made = await editor.post(f"{path}/actions", {"action_type": action_type, **more})
    action_id: str = made["id"]
    return action_id


async def test_a_new_workflow_is_a_draft(editor: Caller) -> None:
    body = {"name": " Welcome ", "trigger": TRIGGER}
    made = await editor.call("POST", "/api/v1/workflows", body)
    assert made.status == 201
    assert (made.data["name"], made.data["status"]) == ("Welcome", "draft")
    assert made.data["trigger"] == TRIGGER
    assert await editor.get(made.headers["Location"]) == made.data


async def test_a_wrong_trigger_is_named(editor: Caller) -> None:
    condition = {"field": "payload.form", "operator": "equal", "value": 1}
    trigger = {"event_type": "Form Submit", "conditions": [condition, {"field": "secret"}]}
    refusal = await editor.refused("POST", "/api/v1/workflows", {"name": "x", "trigger": trigger})
    assert refusal.faults == [
        ("trigger.event_type", "string_pattern_mismatch"),
        ("trigger.conditions[0].operator", "literal_error"),
        ("trigger.conditions[1].field", "string_pattern_mismatch"),
        ("trigger.conditions[1].operator", "missing"),
    ]
    assert "Did you mean 'equals'?" in refusal.data["errors"][1]["message"]


async def test_the_list_is_paged_newest_first(editor: Caller) -> None:
    paths = [await editor.workflow(name=f"W{n}") for n in range(5)]
    seen, cursor = [], None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = await editor.get("/api/v1/workflows", **query)
        seen += [workflow["name"] for workflow in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
        await editor.workflow(name="later")  # what comes meanwhile moves nothing
    assert seen == ["W4", "W3", "W2", "W1", "W0"]
    await editor.post(f"{paths[0]}/archive")
    archived = await editor.get("/api/v1/workflows", status="archived")
    assert [workflow["name"] for workflow in archived["items"]] == ["W0"]


async def test_activating_makes_an_immutable_version(editor: Caller, pool: asyncpg.Pool) -> None:
    path = await editor.workflow(READY, {"tag_name": "second"})
    branch = (await editor.post(f"{path}/branches", {"name": "b"}))["id"]
    await add(editor, path, "add_tag", action_config=READY, branch_id=branch)

    active = await editor.post(f"{path}/activate")

    assert (active["status"], active["version"]) == ("active", 1)
    rows = await pool.fetch(
        "select * from workflow_version_actions order by branch_id nulls first, position"
    )
    first, second, side = rows
    assert first["next_action_id"] == second["action_id"]
    assert (second["next_action_id"], side["next_action_id"]) == (None, None)
    assert first["action_config"] == READY
    lanes = await pool.fetch("select family, is_paused from lanes")
    assert [tuple(lane) for lane in lanes] == [("crm", False)]


async def test_a_paused_workflow_goes_on_and_a_changed_one_becomes_a_new_version(
    desk: Desk, editor: Caller, pool: asyncpg.Pool
) -> None:
    path = await editor.workflow(READY)
    await editor.post(f"{path}/activate")

    assert (await editor.post(f"{path}/pause"))["status"] == "paused"
    assert await pool.fetchval("select is_paused from lanes")
    desk.rung.clear()
    assert (await editor.post(f"{path}/activate"))["version"] == 1
    assert desk.rung == ["crm"]
    assert not await pool.fetchval("select is_paused from lanes")

    await editor.post(f"{path}/pause")
    await add(editor, path, "add_tag", action_config=READY)
    assert (await editor.post(f"{path}/activate"))["version"] == 2
    assert (await editor.post(f"{path}/activate"))["version"] == 2
    changes = await pool.fetch("select action from audit_log where action like 'workflow.%'")
    assert [row["action"] for row in changes] == [
        "workflow.created",
        "workflow.activated",
        "workflow.paused",
        "workflow.activated",
        "workflow.paused",
        "workflow.activated",
    ]


async def test_only_an_active_workflow_listens(editor: Caller, pool: asyncpg.Pool) -> None:
    made = await editor.post("/api/v1/workflows", {"name": "x", "trigger": TRIGGER})
    path = f"/api/v1/workflows/{made['id']}"
    await add(editor, path, "add_tag", action_config=READY)

    async def listening() -> list[dict[str, Any]]:
        return [dict(row) for row in await pool.fetch("select * from workflow_triggers")]

    for step, listens in (("activate", True), ("pause", False), ("activate", True)):
        await editor.post(f"{path}/{step}")
        assert bool(await listening()) is listens, step
    [trigger] = await listening()
    assert trigger["workflow_id"] == UUID(made["id"])
    assert (trigger["event_type"], trigger["conditions"]) == ("form_submit", TRIGGER["conditions"])
    await editor.post(f"{path}/archive")
    assert await listening() == []


async def test_an_archived_workflow_stays_archived(editor: Caller) -> None:
    path = await editor.workflow(READY)
    assert (await editor.post(f"{path}/archive"))["status"] == "archived"
    for way, code in (("activate", "workflow_archived"), ("pause", "workflow_not_active")):
        refusal = await editor.refused("POST", f"{path}/{way}")
        assert (refusal.status, refusal.code) == (409, code)
    refusal = await editor.refused("POST", f"{path}/branches", {"name": "x"})
    assert refusal.code == "workflow_not_editable"


async def test_an_empty_workflow_cannot_be_activated(editor: Caller) -> None:
    path = await editor.workflow()
    assert await faults(editor, path) == [("actions", "workflow_has_no_actions")]


async def test_an_incomplete_action_is_named(editor: Caller) -> None:
    path = await editor.workflow(READY, {})
    _, incomplete = await editor.chain(path)
    refusal = await editor.refused("POST", f"{path}/activate")
    where = f"actions[{incomplete['id']}].action_config.tag_name"
    assert (refusal.code, refusal.faults) == ("missing", [(where, "missing")])


async def test_a_type_whose_performance_has_not_landed_is_refused_clearly(
    editor: Caller,
) -> None:
    path = await editor.workflow(READY)
    palette = (await editor.get("/api/v1/action-types"))["items"]
    for entry in palette:
        if not entry["is_available"]:
            await add(editor, path, entry["name"])
            refusal = await editor.refused("POST", f"{path}/activate")
            assert (refusal.status, refusal.code) == (422, "action_type_not_available")
            assert entry["name"] in refusal.data["detail"]
            break


async def test_references_must_lead_to_things_of_the_workflow(editor: Caller) -> None:
    path = await editor.workflow(READY, READY)
    first, second = [action["id"] for action in await editor.chain(path)]
    await editor.put(f"{path}/actions/{first}", {"fallback_action_id": second})
    await editor.delete(f"{path}/actions/{second}")
    empty = (await editor.post(f"{path}/branches", {"name": "empty"}))["id"]
    wait = {
        "event_type": "form_submit",
        "timeout_duration": 1,
        "timeout_unit": "days",
        "timeout_action": "branch",
    }
    third = await add(editor, path, "add_note", action_config={"content": "x"})
    config = wait | {"timeout_branch_id": empty, "related_action_id": third}
    await add(editor, path, "wait_for_event", action_config=config)
    for branch, related in ((str(uuid4()), first), (empty, str(uuid4()))):
        config = wait | {"timeout_branch_id": branch, "related_action_id": related}
        body = {"action_type": "wait_for_event", "action_config": config}
        refused = await editor.refused("POST", f"{path}/actions", body)
        assert refused.code in {"branch_unknown", "related_action_unknown"}
    await editor.delete(f"{path}/actions/{third}")
    assert await faults(editor, path) == [
        ("fallback_action_id", "fallback_unknown"),
        ("action_config.related_action_id", "related_action_unknown"),
        ("action_config.timeout_branch_id", "branch_empty"),
    ]


async def test_a_related_action_comes_before(editor: Caller) -> None:
    path = await editor.workflow(READY)
    wait = await add(
        editor, path, "wait_for_event", action_config={"event_type": "form_submit"}, position=0
    )
    first, later = [action["id"] for action in await editor.chain(path)]
    assert first == wait
    config = {"event_type": "form_submit", "related_action_id": wait}
    body = {"action_config": config}
    refused = await editor.refused("PUT", f"{path}/actions/{wait}", body)
    assert refused.code == "related_action_unknown"
    config = {"event_type": "form_submit", "related_action_id": later}
    expected = [("action_config.related_action_id", "related_action_not_earlier")]
    one = f"{path}/actions/{wait}"
    assert (await editor.refused("PUT", one, {"action_config": config})).faults == expected
    await editor.put(one, {"position": 1, "action_config": config})
    await editor.put(one, {"position": 0})
    assert await faults(editor, path) == expected
    await editor.put(one, {"position": 1})
    await editor.post(f"{path}/activate")


async def test_fallbacks_and_branches_do_not_lead_back(editor: Caller) -> None:
    path = await editor.workflow(READY, READY)
    first, second = [action["id"] for action in await editor.chain(path)]
    await editor.put(f"{path}/actions/{second}", {"fallback_action_id": first})
    assert await faults(editor, path) == [("fallback_action_id", "fallback_loop")]
    await editor.put(f"{path}/actions/{second}", {"fallback_action_id": None})

    branch = (await editor.post(f"{path}/branches", {"name": "b"}))["id"]
    config = {
        "event_type": "form_submit",
        "timeout_duration": 1,
        "timeout_unit": "days",
        "timeout_action": "branch",
        "timeout_branch_id": branch,
    }
    wait = await add(editor, path, "wait_for_event", action_config=config, branch_id=branch)
    assert await faults(editor, path) == [("action_config.timeout_branch_id", "branch_loop")]
    await editor.delete(f"{path}/actions/{wait}")

    # Two actions may share a detour: who went there comes back to where they left.
    detour = await add(editor, path, "add_tag", action_config=READY, branch_id=branch)
    for action in (first, second):
        await editor.put(f"{path}/actions/{action}", {"fallback_action_id": detour})
    await editor.post(f"{path}/activate")


async def test_activation_and_a_change_of_the_draft_wait_for_each_other(
    editor: Caller, pool: asyncpg.Pool
) -> None:
    path = await editor.workflow(READY)
    body = {"action_type": "add_tag", "action_config": READY}
    answers = await asyncio.gather(
        editor.call("POST", f"{path}/activate"),
        *(editor.call("POST", f"{path}/actions", body) for _ in range(5)),
    )
    added = sum(answer.status == 201 for answer in answers[1:])
    assert {answer.status for answer in answers[1:]} <= {201, 409}
    kept = await pool.fetchval("select count(*) from workflow_version_actions")
    assert answers[0].status == 200
    assert kept == 1 + added
