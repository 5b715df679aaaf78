"""All contacts that carry a tag enter a workflow by one operation; who does not is told why."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from actors import enroll_by_tag
from runtime.settings import Settings
from tests.api_desk import READY, Caller, open_desk
from tests.world import World


async def tagged(world: World, count: int) -> tuple[str, list[UUID]]:
    """A tag, and contacts that carry it."""
    tag = await world._add("tags", account_id=world.account_id, name="vip")
    people = await world.contacts(count)
    await world.pool.execute(
        "INSERT INTO contact_tags (account_id, contact_id, tag_id, added_at)"
        " SELECT $1, unnest($2::uuid[]), $3, now()",
        world.account_id,
        people,
        tag,
    )
    return str(tag), people


async def active(editor: Caller) -> str:
    path = await editor.workflow(READY)
    await editor.post(f"{path}/activate")
    return path


async def test_each_of_them_is_enrolled_once_and_refusals_are_written_down(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enroll_by_tag, "PORTION", 2)
    tag, people = await tagged(world, 5)
    await world.contact()  # without the tag
    async with open_desk(world.pool, settings) as desk:
        editor = await desk.caller("Acme", "editor")
        path = await active(editor)
        await editor.post(f"{path}/enroll", {"contact_ids": [str(people[1])]})
        begun = await editor.call("POST", f"{path}/enroll-by-tag", {"tag_id": tag})
        assert begun.status == 202
        await world.worker.run_operations()
        shown = await editor.get(begun.headers["Location"])
        assert (shown["status"], shown["total"], shown["done"], shown["failed"]) == (
            "completed", 5, 4, 1,
        )  # fmt: skip
        assert shown["result"] == {"enrolled": 4, "skipped": {"already_enrolled": 1}}
        [error] = (await editor.get(f"{begun.headers['Location']}/errors"))["items"]
        assert (error["item_id"], error["code"]) == (str(people[1]), "already_enrolled")

        await world.settle()
        done = await editor.get("/api/v1/executions", status="completed")
        assert {run["contact_id"] for run in done["items"]} == set(map(str, people))

        refusals = await editor.get(f"{path}/refusals")
        assert [(r["contact_id"], r["reason"]) for r in refusals["items"]] == [
            (str(people[1]), "already_enrolled")
        ]
        assert refusals["next_before"] is None
        other = await editor.get(f"{path}/refusals", contact_id=str(people[0]))
        assert other["items"] == []


async def test_a_filter_narrows_who_is_meant(world: World, settings: Settings) -> None:
    tag, people = await tagged(world, 3)
    await world.pool.execute(
        "UPDATE contacts SET owner_id = $2 WHERE id = $1", people[0], world.user_id
    )
    async with open_desk(world.pool, settings) as desk:
        editor = await desk.caller("Acme", "editor")
        path = await active(editor)
        for chosen, count in (
            ({"owner_id": str(world.user_id)}, 1),
            ({"has_phone": True}, 0),
            ({"has_email": True, "created_since": "2020-01-01T00:00:00Z"}, 2),
            ({"created_before": "2020-01-01T00:00:00Z"}, 0),
        ):
            body: dict[str, Any] = {"tag_id": tag, "filter": chosen}
            begun = await editor.post(f"{path}/enroll-by-tag", body)
            await world.worker.run_operations()
            shown = await editor.get(f"/api/v1/operations/{begun['id']}")
            assert shown["result"].get("enrolled", 0) == count, chosen
        for wrong in ({"tag_id": str(uuid4())}, {"tag_id": tag, "filter": {"ownerid": None}}):
            assert (await editor.refused("POST", f"{path}/enroll-by-tag", wrong)).status == 422


ARCHIVE = "UPDATE workflows SET active_version_id = NULL, status = 'archived'"


@pytest.mark.parametrize(
    ("meanwhile", "code"),
    [("DELETE FROM tags", "tag_gone"), (ARCHIVE, "workflow_not_active")],
)
async def test_it_ends_when_tag_or_workflow_are_gone(
    world: World, settings: Settings, meanwhile: str, code: str
) -> None:
    tag, _ = await tagged(world, 3)
    async with open_desk(world.pool, settings) as desk:
        editor = await desk.caller("Acme", "editor")
        path = await active(editor)
        begun = await editor.post(f"{path}/enroll-by-tag", {"tag_id": tag})
        await world.pool.execute(meanwhile)
        await world.worker.run_operations()
        shown = await editor.get(f"/api/v1/operations/{begun['id']}")
        assert (shown["status"], shown["error_code"]) == ("failed", code)
