"""Enrolling, executions and events over the API, with the engine behind it."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from runtime.settings import Settings
from tests.api_desk import READY, Caller, Desk, open_desk
from tests.world import World

WAIT = {"event_type": "form_submit"}


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def editor(desk: Desk) -> Caller:
    return await desk.caller(role="editor")


async def contacts(editor: Caller, count: int) -> list[str]:
    body = {"contacts": [{"first_name": f"P{n}"} for n in range(count)]}
    made = await editor.post("/api/v1/contacts/bulk", body)
    return [outcome["contact_id"] for outcome in made["outcomes"]]


async def waiting(editor: Caller, world: World) -> tuple[str, str]:
    """A run that waits for an event: the contact and the execution."""
    path = await editor.workflow(READY)
    await editor.post(f"{path}/actions", {"action_type": "wait_for_event", "action_config": WAIT})
    await editor.post(f"{path}/activate")
    [contact] = await contacts(editor, 1)
    enrolled = await editor.post(f"{path}/enroll", {"contact_ids": [contact]})
    await world.settle()
    return contact, enrolled["outcomes"][0]["execution_id"]


async def test_enrolled_contacts_run_through_the_workflow(
    desk: Desk, editor: Caller, world: World
) -> None:
    path = await editor.workflow(READY)
    await editor.post(f"{path}/activate")
    known, stranger = await contacts(editor, 2), str(uuid4())
    desk.rung.clear()

    body: dict[str, Any] = {"contact_ids": [*known, stranger, known[0]], "context": {"from": "me"}}
    enrolled = await editor.post(f"{path}/enroll", body)

    assert (enrolled["enrolled"], enrolled["skipped"]) == (2, 1)
    outcomes = {outcome["contact_id"]: outcome for outcome in enrolled["outcomes"]}
    assert [outcomes[contact]["outcome"] for contact in known] == ["enrolled"] * 2
    assert outcomes[stranger] == {
        "contact_id": stranger,
        "outcome": "skipped",
        "reason": "no_such_contact",
    }
    assert desk.rung == ["crm"]
    again = await editor.post(f"{path}/enroll", {"contact_ids": known[:1]})
    assert again["outcomes"][0]["reason"] == "already_enrolled"
    other = await editor.post(f"{path}/enroll", {"contact_ids": known[:1], "entry_key": "two"})
    assert other["enrolled"] == 1

    await world.settle()

    execution_id = outcomes[known[0]]["execution_id"]
    execution = await editor.get(f"/api/v1/executions/{execution_id}")
    assert (execution["status"], execution["version"]) == ("completed", 1)
    assert execution["context"] == {"from": "me"}
    [step] = execution["steps"]
    assert (step["action_type"], step["status"]) == ("add_tag", "completed")
    assert step["result_data"]["tag_name"] == "vip"
    [attempt] = step["attempts"]
    assert (attempt["outcome"], attempt["error_code"]) == ("completed", None)
    assert attempt["duration_seconds"] >= 0


@pytest.mark.parametrize("state", ["draft", "paused", "archived"])
async def test_only_an_active_workflow_lets_contacts_in(editor: Caller, state: str) -> None:
    path = await editor.workflow(READY)
    if state != "draft":
        await editor.post(f"{path}/activate")
        await editor.post(f"{path}/{state.removesuffix('d')}")
    refusal = await editor.refused("POST", f"{path}/enroll", {"contact_ids": [str(uuid4())]})
    assert (refusal.status, refusal.code) == (409, "workflow_not_active")
    assert state in refusal.data["detail"]


async def test_at_most_10_000_contacts_are_enrolled_in_a_call(
    editor: Caller, pool: asyncpg.Pool
) -> None:
    path = await editor.workflow(READY)
    await editor.post(f"{path}/activate")
    ids = await contacts(editor, 10_000)
    enrolled = await editor.post(f"{path}/enroll", {"contact_ids": ids})
    assert enrolled["enrolled"] == 10_000
    assert await pool.fetchval("select count(*) from workflow_action_executions") == 10_000
    for wrong, code in (([*ids, str(uuid4())], "too_long"), ([], "too_short")):
        refusal = await editor.refused("POST", f"{path}/enroll", {"contact_ids": wrong})
        assert refusal.faults == [("contact_ids", code)]


async def test_executions_are_listed_newest_first_and_filtered(
    editor: Caller, world: World
) -> None:
    ids, paths = await contacts(editor, 3), [await editor.workflow(READY) for _ in range(2)]
    begun = []
    for path in paths:
        await editor.post(f"{path}/activate")
        for contact in ids:
            run = await editor.post(f"{path}/enroll", {"contact_ids": [contact]})
            begun.append(run["outcomes"][0]["execution_id"])

    async def listed(**query: str) -> list[str]:
        seen: list[str] = []
        page = await editor.get("/api/v1/executions", limit="2", **query)
        while True:
            seen += [execution["id"] for execution in page["items"]]
            if page["next_cursor"] is None:
                return seen
            cursor = page["next_cursor"]
            page = await editor.get("/api/v1/executions", limit="2", cursor=cursor, **query)

    newest = begun[::-1]
    assert await listed() == newest
    workflow = paths[0].rpartition("/")[2]
    assert await listed(workflow_id=workflow) == newest[3:]
    assert await listed(contact_id=ids[0]) == [begun[3], begun[0]]
    assert await listed(contact_id=ids[0], workflow_id=workflow) == [begun[0]]
    assert await listed(status="completed") == []
    await world.settle()
    assert await listed(status="completed") == newest


async def test_a_cancelled_execution_ends_and_says_why(editor: Caller, world: World) -> None:
    _, execution = await waiting(editor, world)
    path = f"/api/v1/executions/{execution}"
    ended = await editor.post(f"{path}/cancel", {"reason": "asked to stop"})
    assert (ended["status"], ended["end_reason"]) == ("cancelled", "asked to stop")
    assert [(s["status"], s["skip_reason"]) for s in ended["steps"]] == [
        ("completed", None),
        ("skipped", "cancelled"),
    ]
    for way, code in (
        ("cancel", "execution_has_ended"),
        ("pause", "execution_not_running"),
        ("resume", "execution_not_paused"),
    ):
        refusal = await editor.refused("POST", f"{path}/{way}")
        assert (refusal.status, refusal.code) == (409, code)


async def test_a_paused_execution_goes_on_when_it_is_resumed(editor: Caller, world: World) -> None:
    path = await editor.workflow(READY)
    await editor.post(f"{path}/activate")
    [contact] = await contacts(editor, 1)
    run = await editor.post(f"{path}/enroll", {"contact_ids": [contact]})
    path = f"/api/v1/executions/{run['outcomes'][0]['execution_id']}"

    assert (await editor.post(f"{path}/pause"))["status"] == "paused"
    await world.settle()
    assert [step["status"] for step in (await editor.get(path))["steps"]] == ["pending"]
    assert (await editor.post(f"{path}/resume"))["status"] == "running"
    await world.settle()
    assert (await editor.get(path))["status"] == "completed"


async def test_a_paused_workflow_keeps_its_steps_until_it_goes_on(
    editor: Caller, world: World
) -> None:
    path = await editor.workflow(READY)
    await editor.post(f"{path}/activate")
    [contact] = await contacts(editor, 1)
    run = await editor.post(f"{path}/enroll", {"contact_ids": [contact]})
    execution = f"/api/v1/executions/{run['outcomes'][0]['execution_id']}"
    await editor.post(f"{path}/pause")
    await world.settle()
    assert (await editor.get(execution))["status"] == "running"
    await editor.post(f"{path}/activate")
    await world.settle()
    assert (await editor.get(execution))["status"] == "completed"


async def test_an_event_ends_a_wait_once(desk: Desk, editor: Caller, world: World) -> None:
    contact, execution = await waiting(editor, world)
    desk.rung.clear()
    body = {"event_type": "form_submit", "contact_id": contact, "dedupe_key": "form-1"}
    first = await editor.call("POST", "/api/v1/events", body)
    assert (first.status, first.data["is_new"]) == (202, True)
    assert desk.rung == ["timing"]
    again = await editor.call("POST", "/api/v1/events", body)
    assert (again.status, again.data["is_new"]) == (200, False)
    await world.settle()
    assert (await editor.get(f"/api/v1/executions/{execution}"))["status"] == "completed"


async def test_an_event_starts_the_workflows_that_listen(editor: Caller, world: World) -> None:
    trigger = {
        "event_type": "form_submit",
        "conditions": [{"field": "payload.form", "operator": "equals", "value": "signup"}],
    }
    made = await editor.post("/api/v1/workflows", {"name": "x", "trigger": trigger})
    path = f"/api/v1/workflows/{made['id']}"
    await editor.post(f"{path}/actions", {"action_type": "add_tag", "action_config": READY})
    await editor.post(f"{path}/activate")
    for contact, form in zip(await contacts(editor, 2), ("signup", "other"), strict=True):
        event = {"event_type": "form_submit", "contact_id": contact, "payload": {"form": form}}
        await editor.post("/api/v1/events", event)
    await world.settle()
    page = await editor.get("/api/v1/executions", workflow_id=made["id"])
    assert [execution["status"] for execution in page["items"]] == ["completed"]


async def test_many_events_are_taken_in_and_each_is_answered_for(
    editor: Caller, world: World
) -> None:
    contact, execution = await waiting(editor, world)
    event = {"event_type": "form_submit", "contact_id": contact}
    events = [
        {**event, "dedupe_key": "one"},
        {**event, "contact_id": str(uuid4())},
        {**event, "dedupe_key": "one"},
        event,
    ]
    said = await editor.post("/api/v1/events/bulk", {"events": events})
    assert [o["outcome"] for o in said["outcomes"]] == [
        "taken_in", "refused", "duplicate", "taken_in",
    ]  # fmt: skip
    assert (said["taken_in"], said["duplicate"], said["refused"]) == (2, 1, 1)
    assert said["outcomes"][1]["reason"] == "contact_unknown"
    await world.settle()
    ended = await editor.get(f"/api/v1/executions/{execution}")
    assert ended["status"] == "completed"
    again = await editor.post("/api/v1/events/bulk", {"events": events[:1]})
    assert again["outcomes"][0]["outcome"] == "duplicate"

    for key, status in (("one", 200), ("two", 202)):
        answer = await editor.call("POST", "/api/v1/events", {**event, "dedupe_key": key})
        assert (answer.status, answer.data["is_new"]) == (status, status == 202)
