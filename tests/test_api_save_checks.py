"""What is wrong is said when it is saved, and what others break afterwards is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from runtime.settings import Settings
from tests.api_desk import READY, Caller, Desk, open_desk
from tests.world import World

V1 = "/api/v1"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def caller(desk: Desk) -> Caller:
    return await desk.caller()


def wait_for(related: str) -> dict[str, Any]:
    config = {"event_type": "email_open", "related_action_id": related}
    return {"action_type": "wait_for_event", "action_config": config}


async def test_a_step_to_begin_at_is_one_of_the_campaign_s_workflow(caller: Caller) -> None:
    other, path = await caller.workflow(READY), await caller.workflow()
    (step,) = await caller.chain(other)
    body = {"name": "Spring", "workflow_id": other.rpartition("/")[2]}
    campaign = await caller.post(f"{V1}/campaigns", body)

    def adding(step_id: str) -> dict[str, Any]:
        config = {"campaign_id": campaign["id"], "start_position": "specific_step"}
        return {
            "action_type": "add_to_campaign",
            "action_config": {**config, "step_id": step_id},
        }

    refused = await caller.refused("POST", f"{path}/actions", adding(str(uuid4())))
    assert refused.faults == [("action_config.step_id", "step_unknown")]
    await caller.post(f"{path}/actions", adding(step["id"]))
    await caller.delete(f"{other}/actions/{step['id']}")
    await caller.post(f"{other}/actions", {"action_type": "add_tag", "action_config": READY})
    refused = await caller.refused("POST", f"{path}/activate")
    assert refused.faults[0][1] == "step_unknown"


async def test_an_owner_that_is_given_is_a_user_and_a_nested_field_has_its_place(
    caller: Caller,
) -> None:
    path = await caller.workflow()
    updates = [
        {"field": "first_name", "value": "x", "mode": "set"},
        {"field": "owner_id", "value": str(uuid4()), "mode": "set"},
    ]
    body = {"action_type": "update_contact", "action_config": {"field_updates": updates}}
    refused = await caller.refused("POST", f"{path}/actions", body)
    assert refused.faults == [("action_config.field_updates[1].value", "user_unknown")]
    updates[1] = {
        "field": "last_name",
        "value": "\n {{contact.custom_fields.plam}}",
        "mode": "set",
    }
    await caller.post(f"{V1}/custom-fields", {"key": "plan"})
    refused = await caller.refused("POST", f"{path}/actions", body)
    (fault,) = refused.data["errors"]
    assert fault["path"] == "action_config.field_updates[1].value"
    assert "plan" in fault["message"]
    assert "(line 2, column 4)" in fault["message"]


async def test_a_related_action_comes_before_and_what_a_move_breaks_is_shown(
    caller: Caller,
) -> None:
    path = await caller.workflow(READY)
    mail = await caller.post(f"{path}/actions", {"action_type": "send_email"})
    first = wait_for(mail["id"]) | {"position": 0}
    refused = await caller.refused("POST", f"{path}/actions", first)
    place = ("action_config.related_action_id", "related_action_not_earlier")
    assert refused.faults == [place]
    waiting = await caller.post(f"{path}/actions", wait_for(mail["id"]))
    one = f"{path}/actions/{waiting['id']}"
    refused = await caller.refused("PUT", one, wait_for(mail["id"]) | {"position": 0})
    assert refused.faults == [place]

    async def invalid() -> list[str]:
        listed = {a["id"]: a for a in await caller.chain(path)}
        shown = (await caller.get(one))["configuration_status"]
        assert shown == listed[waiting["id"]]["configuration_status"]
        graph = await caller.get(f"{path}/graph")
        assert shown in [action["configuration_status"] for action in graph["actions"]]
        return [fault["code"] for fault in shown["invalid"]]

    assert await invalid() == []
    ids = [action["id"] for action in await caller.chain(path)]
    await caller.post(f"{path}/actions/reorder", {"action_ids": ids[::-1]})
    assert await invalid() == ["related_action_not_earlier"]
    await caller.delete(f"{path}/actions/{mail['id']}")
    assert await invalid() == ["related_action_unknown"]


async def test_what_a_forced_deletion_breaks_is_shown(caller: Caller) -> None:
    path = await caller.workflow()
    made = await caller.post(f"{V1}/teams", {"name": "Sales"})
    config = {"assignment_type": "round_robin", "team_id": made["id"]}
    body = {"action_type": "assign_to_user", "action_config": config}
    action = await caller.post(f"{path}/actions", body)
    assert action["configuration_status"]["complete"]
    await caller.call("DELETE", f"{V1}/teams/{made['id']}?force=true")
    shown = (await caller.get(f"{path}/actions/{action['id']}"))["configuration_status"]
    assert (shown["complete"], [f["path"] for f in shown["invalid"]]) == (False, ["team_id"])


async def test_a_difference_tells_of_branches(caller: Caller) -> None:
    path = await caller.workflow(READY)
    kept, gone = [
        await caller.post(f"{path}/branches", {"name": name}) for name in ("kept", "gone")
    ]
    await caller.post(f"{path}/activate")
    await caller.post(f"{path}/pause")
    assert not (await caller.get(f"{path}/diff"))["is_different"]
    await caller.call("PATCH", f"{path}/branches/{kept['id']}", {"name": "called so"})
    await caller.delete(f"{path}/branches/{gone['id']}")
    new = await caller.post(f"{path}/branches", {"name": "new"})
    different = await caller.get(f"{path}/diff")
    assert different["is_different"]
    assert {
        (b["branch_id"], b["change"], b["before"], b["after"]) for b in different["branches"]
    } == {
        (kept["id"], "renamed", "kept", "called so"),
        (gone["id"], "removed", "gone", None),
        (new["id"], "added", None, "new"),
    }
    activated = await caller.post(f"{path}/activate")
    assert activated["version"] == 2
    assert (await caller.get(f"{path}/diff"))["branches"] == []


async def test_steering_one_execution_is_in_the_audit_log(caller: Caller, world: World) -> None:
    path = await caller.workflow()
    wait = {"action_type": "wait_for_event", "action_config": {"event_type": "form_submit"}}
    await caller.post(f"{path}/actions", wait)
    await caller.post(f"{path}/activate")
    contact = await caller.post(f"{V1}/contacts", {"first_name": "Ada"})
    enrolled = await caller.post(f"{path}/enroll", {"contact_ids": [contact["id"]]})
    await world.settle()
    one = f"{V1}/executions/{enrolled['outcomes'][0]['execution_id']}"
    for word in ("pause", "resume", "cancel"):
        await caller.post(f"{one}/{word}")
    assert (await caller.refused("POST", f"{one}/cancel")).status == 409
    changes = (await caller.get(f"{V1}/audit", entity_type="execution"))["items"]
    assert [(c["action"], c["before"]["status"], c["after"]["status"]) for c in changes] == [
        ("execution.cancelled", "running", "cancelled"),
        ("execution.resumed", "paused", "running"),
        ("execution.paused", "running", "paused"),
    ]


async def test_a_stale_tag_is_refused_wherever_a_definition_changes(caller: Caller) -> None:
    path = await caller.workflow(READY)
    branch = await caller.post(f"{path}/branches", {"name": "side"})
    mail = {
        "kind": "smtp",
        "name": "Mail",
        "addresses": ["@acme.test"],
        "settings": {"host": "mail.acme.test"},
    }
    made = await caller.post(f"{V1}/integrations", mail)
    integration = f"{V1}/integrations/{made['id']}"
    stale = {"If-Match": '"0-0"'}
    for method, place, body in (
        ("POST", f"{path}/branches", {"name": "x"}),
        ("PATCH", f"{path}/branches/{branch['id']}", {"name": "x"}),
        ("DELETE", f"{path}/branches/{branch['id']}", None),
        ("PUT", f"{path}/settings", {"stop_on_reply": True}),
        ("PATCH", integration, {"name": "x"}),
        ("POST", f"{integration}/disable", None),
        ("DELETE", integration, None),
    ):
        answer = await caller.call(method, place, body, headers=stale)
        assert (answer.status, answer.code) == (412, "precondition_failed"), place
    read = await caller.call("GET", integration)
    fresh = {"If-Match": read.headers["ETag"]}
    assert (await caller.call("PATCH", integration, {"name": "x"}, headers=fresh)).status == 200


async def test_inserts_reorders_and_an_activation_at_once_leave_a_whole_chain(
    caller: Caller,
) -> None:
    path = await caller.workflow(*[READY] * 4)
    ids = [action["id"] for action in await caller.chain(path)]
    insert = {"action_type": "add_tag", "action_config": READY, "position": 1}
    answers = await asyncio.gather(
        *(caller.call("POST", f"{path}/actions", insert) for _ in range(5)),
        *(
            caller.call("POST", f"{path}/actions/reorder", {"action_ids": ids[::-1]})
            for _ in range(3)
        ),
        caller.call("POST", f"{path}/activate"),
        *(caller.call("POST", f"{path}/actions", insert) for _ in range(5)),
    )
    assert {answer.status for answer in answers} <= {200, 201, 409, 422}
    chain = await caller.chain(path)
    made = sum(answer.status == 201 for answer in answers)
    assert [action["position"] for action in chain] == list(range(4 + made))
    assert [a["next_action_id"] for a in chain[:-1]] == [a["id"] for a in chain[1:]]
    version = await caller.get(f"{path}/versions/1")
    assert {a["id"] for a in version["actions"]} <= {a["id"] for a in chain}
    assert (await caller.get(path))["status"] == "active"
