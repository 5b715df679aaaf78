"""Where-used, rows that a config names, entity tags, and secrets of configs, over the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from actors import registry
from actors.referents import referents_of
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk

V1 = "/api/v1"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def caller(desk: Desk) -> Caller:
    return await desk.caller()


def found(name: str, config: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(r.kind, r.target, r.path) for r in referents_of(registry.actions[name], config)}


def test_a_config_names_rows_by_id_name_and_key() -> None:
    user, team = str(uuid4()), str(uuid4())
    assert found("assign_to_user", {"user_id": user.upper(), "team_id": team}) == {
        ("user", user, "user_id"), ("team", team, "team_id"),
    }  # fmt: skip
    assert found("add_tag", {"tag_name": " VIP "}) == {("tag", "vip", "tag_name")}
    assert found("add_tag", {"tag_name": "{{contact.first_name}}"}) == set()
    updates = [{"field": "first_name", "value": "x"}, {"field": "custom_fields.n", "value": 1}]
    assert found("update_contact", {"field_updates": updates}) == {
        ("custom_field", "n", "field_updates[1].field")
    }
    assert found("create_contact", {"custom_fields": {"a": 1}}) == {
        ("custom_field", "a", "custom_fields.a")
    }
    assert found("add_note", {"content": "{{ contact.custom_fields.b | upper }}"}) == {
        ("custom_field", "b", "content")
    }
    assert found("create_task", {"title": "x", "assignee_id": "{{contact.owner_id}}"}) == set()
    recipients = {"recipient_type": "team", "recipient_ids": [team]}
    assert found("send_notification", recipients) == {("team", team, "recipient_ids[0]")}


async def test_a_tag_says_where_it_is_used_and_is_deleted_by_force_only(caller: Caller) -> None:
    tag = await caller.post(f"{V1}/tags", {"name": "VIP"})
    path = await caller.workflow({"tag_name": "vip"}, {"tag_name": "other"})
    await caller.post(f"{path}/activate")
    one = f"{V1}/tags/{tag['id']}"
    [use] = (await caller.get(f"{one}/references"))["items"]
    assert (use["workflow_name"], use["action_key"], use["path"]) == (
        "Welcome", "add_tag", "action_config.tag_name",
    )  # fmt: skip
    assert (use["in_draft"], use["in_force"]) == (True, True)
    refused = await caller.refused("DELETE", one)
    assert (refused.status, refused.code) == (409, "in_use")
    assert use["action_id"] in refused.faults[0][0]
    deleted = await caller.call("DELETE", f"{one}?force=true")
    assert (deleted.status, deleted.data) == (200, {"references": [use]})
    unused = await caller.post(f"{V1}/tags", {"name": "unused"})
    assert (await caller.call("DELETE", f"{V1}/tags/{unused['id']}")).status == 204


async def test_what_only_the_version_in_force_uses_is_used(caller: Caller) -> None:
    tag = await caller.post(f"{V1}/tags", {"name": "VIP"})
    path = await caller.workflow({"tag_name": "VIP"})
    await caller.post(f"{path}/activate")
    await caller.post(f"{path}/pause")
    [action] = await caller.chain(path)
    changed = {"action_config": {"tag_name": "x"}}
    await caller.put(f"{path}/actions/{action['id']}", changed)
    [use] = (await caller.get(f"{V1}/tags/{tag['id']}/references"))["items"]
    assert (use["in_draft"], use["in_force"]) == (False, True)
    await caller.post(f"{path}/activate")
    assert (await caller.get(f"{V1}/tags/{tag['id']}/references"))["items"] == []


async def test_what_an_older_version_uses_that_contacts_still_run_is_used(caller: Caller) -> None:
    tag = await caller.post(f"{V1}/tags", {"name": "VIP"})
    path = await caller.workflow({"tag_name": "VIP"})
    await caller.post(f"{path}/activate")
    contact = await caller.post(f"{V1}/contacts", {"first_name": "Ada"})
    await caller.post(f"{path}/enroll", {"contact_ids": [contact["id"]]})
    await caller.post(f"{path}/pause")
    [action] = await caller.chain(path)
    changed = {"action_config": {"tag_name": "x"}}
    await caller.put(f"{path}/actions/{action['id']}", changed)
    await caller.post(f"{path}/activate")
    [use] = (await caller.get(f"{V1}/tags/{tag['id']}/references"))["items"]
    assert (use["in_draft"], use["in_force"]) == (False, True)


async def test_rows_that_do_not_exist_are_refused_when_a_config_is_saved(caller: Caller) -> None:
    pipeline = await caller.post(f"{V1}/pipelines", {"name": "P", "stages": ["S"]})
    stage = pipeline["stages"][0]["id"]
    path = await caller.workflow()
    for config, fault in (
        ({"pipeline_id": pipeline["id"], "stage_id": str(uuid4())}, "stage_unknown"),
        ({"pipeline_id": str(uuid4()), "stage_id": stage}, "pipeline_unknown"),
    ):
        body = {"action_type": "move_pipeline_stage", "action_config": config}
        refused = await caller.refused("POST", f"{path}/actions", body)
        assert [code for _, code in refused.faults] == [fault]
    config = {"pipeline_id": pipeline["id"], "stage_id": stage}
    body = {"action_type": "move_pipeline_stage", "action_config": config}
    await caller.post(f"{path}/actions", body)
    stage_path = f"{V1}/pipelines/{pipeline['id']}/stages/{stage}"
    assert len((await caller.get(f"{stage_path}/references"))["items"]) == 1
    assert (await caller.refused("DELETE", stage_path)).code == "in_use"
    assert (await caller.call("DELETE", f"{stage_path}?force=true")).status == 200
    refused = await caller.refused("POST", f"{path}/activate")
    assert [code for _, code in refused.faults] == ["stage_unknown"]


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("Dear {{contact.frist_name}}", "merge_field_unknown", "Did you mean 'first_name'?"),
        ("a\n {{ contcat.email }}", "merge_field_unknown", "(line 2, column 5)"),
        ("{{account.nam}}", "merge_field_unknown", "Did you mean 'name'?"),
        ("{{contact.owner.mail}}", "merge_field_unknown", "Did you mean 'email'?"),
        ("{{steps.ad_tag.tag_name}}", "merge_field_unknown", "Did you mean 'add_tag'?"),
        ("{{steps.add_tag.tag_nam}}", "merge_field_unknown", "Did you mean 'tag_name'?"),
        ("{{contact.custom_fields.compnay}}", "custom_field_unknown", "Did you mean 'company'?"),
    ],
)
async def test_merge_fields_that_lead_nowhere_are_refused(
    caller: Caller, text: str, code: str, hint: str
) -> None:
    await caller.post(f"{V1}/custom-fields", {"key": "company"})
    path = await caller.workflow({"tag_name": "x"})
    body = {"action_type": "add_note", "action_config": {"content": text}}
    refused = await caller.refused("POST", f"{path}/actions", body)
    assert refused.faults == [("action_config.content", code)]
    assert hint in refused.data["detail"]


async def test_results_are_read_of_earlier_actions_only(caller: Caller) -> None:
    path = await caller.workflow({"tag_name": "x"})
    config = {"content": "{{steps.add_tag.tag_name}} {{trigger.event.payload.any.thing}}"}
    note = await caller.post(
        f"{path}/actions", {"action_type": "add_note", "action_config": config, "position": 0}
    )
    refused = await caller.refused("POST", f"{path}/activate")
    assert [code for _, code in refused.faults] == ["merge_field_unknown"]
    await caller.put(f"{path}/actions/{note['id']}", {"position": 1})
    await caller.post(f"{path}/activate")


async def test_a_script_s_syntax_is_checked_when_it_is_saved(caller: Caller) -> None:
    path = await caller.workflow()
    body = {"action_type": "custom_code", "action_config": {"code": "return 1;\nlet y = ;"}}
    refused = await caller.refused("POST", f"{path}/actions", body)
    assert refused.faults == [("action_config.code", "script_syntax")]
    assert "(line 2, column 9)" in refused.data["detail"]


async def test_a_change_may_be_bound_to_what_was_seen(caller: Caller) -> None:
    path = await caller.workflow({"tag_name": "a"})
    [action] = await caller.chain(path)
    one = f"{path}/actions/{action['id']}"
    seen = (await caller.call("GET", one)).headers["ETag"]
    change = {"action_config": {"tag_name": "b"}}
    for match, status in (
        ('"other"', 412), (f"W/{seen}", 412), ("nonsense", 400), (f'"x,y", ,{seen},', 200),
        (seen, 412),
        ("*", 200),
    ):  # fmt: skip
        answer = await caller.call("PUT", one, change, headers={"If-Match": match})
        assert answer.status == status, match
    fresh = (await caller.call("GET", one)).headers["ETag"]
    assert answer.headers["ETag"] == fresh != seen
    stale = await caller.call("DELETE", one, headers={"If-Match": seen})
    assert (stale.status, stale.code, stale.headers["ETag"]) == (412, "precondition_failed", fresh)
    assert (await caller.call("DELETE", one, headers={"If-Match": fresh})).status == 204


async def test_resources_of_the_crm_have_entity_tags_too(caller: Caller) -> None:
    made = await caller.call("POST", f"{V1}/tags", {"name": "a"})
    one, seen = f"{V1}/tags/{made.data['id']}", made.headers["ETag"]
    changed = await caller.call("PATCH", one, {"name": "b"}, headers={"If-Match": seen})
    assert (changed.status, changed.headers["ETag"] != seen) == (200, True)
    assert (
        await caller.call("PATCH", one, {"name": "c"}, headers={"If-Match": seen})
    ).status == 412
    assert (await caller.call("DELETE", one, headers={"If-Match": seen})).status == 412


async def test_credentials_are_sealed_when_saved_and_never_shown(
    caller: Caller, pool: asyncpg.Pool
) -> None:
    path = await caller.workflow()
    config = {
        "url": "https://example.com/",
        "method": "POST",
        "auth_type": "bearer",
        "auth_config": {"token": "hunter2"},
    }
    body = {"action_type": "webhook_call", "action_config": config}
    made = await caller.post(f"{path}/actions", body)
    shown = {**config, "auth_config": {"sealed": True}}
    assert {k: made["action_config"][k] for k in shown} == shown
    one = f"{path}/actions/{made['id']}"
    stored = "SELECT action_config->'auth_config'->>'sealed' FROM workflow_actions"
    first = await pool.fetchval(stored)
    assert first.startswith("cbs1.")
    again = await caller.put(one, {"action_config": {**made["action_config"], "method": "PUT"}})
    assert again["action_config"]["auth_config"] == {"sealed": True}
    assert await pool.fetchval(stored) == first
    await caller.put(one, {"action_config": {**config, "auth_config": {"token": "new"}}})
    assert await pool.fetchval(stored) != first
    forged = {**config, "auth_config": {"sealed": first}}
    await caller.post(f"{path}/actions", {**body, "action_config": forged})
    rows = await pool.fetch(
        "SELECT a::text AS row FROM audit_log a UNION ALL SELECT w::text FROM workflow_actions w"
    )
    assert not [row["row"] for row in rows if "hunter2" in row["row"]]
    assert (await caller.chain(path))[1]["configuration_status"]["missing"] == ["auth_config"]
