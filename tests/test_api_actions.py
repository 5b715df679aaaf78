"""The six endpoints of the specification: requirement R1."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from runtime.settings import Settings
from tests.api_desk import READY, Caller, Desk, open_desk


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def editor(desk: Desk) -> Caller:
    return await desk.caller(role="editor")


def assert_whole(chain: list[dict[str, Any]]) -> None:
    """Positions count from 0 and links agree with them."""
    ids = [action["id"] for action in chain]
    assert [action["position"] for action in chain] == list(range(len(ids)))
    assert [action["previous_action_id"] for action in chain] == [None, *ids[:-1]][: len(ids)]
    assert [action["next_action_id"] for action in chain] == [*ids[1:], None][: len(ids)]


def names(chain: list[dict[str, Any]]) -> list[str]:
    return [action["action_config"]["tag_name"] for action in chain]


def tag(name: str) -> dict[str, str]:
    return {"tag_name": name}


async def test_add_action_to_workflow(editor: Caller) -> None:
    """R1.1: actions are added to a draft or paused workflow, with their config validated before."""
    path = await editor.workflow(tag("first"))
    [first] = await editor.chain(path)

    added = await editor.call(
        "POST",
        f"{path}/actions",
        {
            "action_type": "add_tag",
            "action_config": {"tag_name": "vip", "tag_color": "#ff0000"},
            "position": 1,
            "previous_action_id": first["id"],
        },
    )

    assert added.status == 201
    assert added.headers["Location"] == f"{path}/actions/{added.data['id']}"
    assert {key: added.data[key] for key in ("action_type", "action_config", "position")} == {
        "action_type": "add_tag",
        "action_config": {"tag_name": "vip", "tag_color": "#ff0000"},
        "position": 1,
    }
    assert added.data["workflow_id"] == path.rpartition("/")[2]
    assert added.data["is_enabled"] is True
    assert added.data["created_at"].endswith("Z")
    assert await editor.get(f"{path}/actions/{added.data['id']}") == added.data

    wrong = await editor.refused(
        "POST", f"{path}/actions", {"action_type": "add_tag", "action_config": {"tag_name": 5}}
    )
    assert (wrong.status, wrong.faults) == (422, [("action_config.tag_name", "string_type")])

    await editor.post(f"{path}/activate")
    refusal = await editor.refused("POST", f"{path}/actions", {"action_type": "add_tag"})
    assert (refusal.status, refusal.code) == (409, "workflow_not_editable")

    await editor.post(f"{path}/pause")
    await editor.post(f"{path}/actions", {"action_type": "add_tag"})
    assert_whole(await editor.chain(path))


async def test_action_creation(editor: Caller) -> None:
    """R1.2: an action made by its type alone has default config and follows the preceding step."""
    path = await editor.workflow(tag("first"))

    made = await editor.post(
        f"{path}/actions", {"action_type": "send_sms", "canvas_position": {"x": 40, "y": 12.5}}
    )

    assert made["action_config"]["respect_quiet_hours"] is True
    assert made["canvas_position"] == {"x": 40, "y": 12.5}
    assert made["configuration_status"]["complete"] is False
    assert set(made["configuration_status"]["missing"]) == {"message", "from_number"}
    assert made["key"] == "send_sms"
    chain = await editor.chain(path)
    assert chain[1]["id"] == made["id"]
    assert_whole(chain)


@pytest.mark.parametrize(
    ("action_type", "config", "path"),
    [
        ("create_contact", {"phone": "12"}, "phone"),
        (
            "update_contact",
            {"field_updates": [{"field": "time_zone", "value": "Mars/X"}]},
            "field_updates[0].value",
        ),
        ("wait_time", {"duration": 10_000, "unit": "weeks"}, "duration"),
        ("add_tag", {"tag_name": "x", "tag_color": "loud"}, "tag_color"),
    ],
)
async def test_a_wrong_value_is_refused_at_once(
    editor: Caller, action_type: str, config: dict[str, Any], path: str
) -> None:
    actions = f"{await editor.workflow()}/actions"
    body = {"action_type": action_type, "action_config": config}
    refusal = await editor.refused("POST", actions, body)
    assert refusal.status == 422
    assert [where for where, _ in refusal.faults] == [f"action_config.{path}"]


async def test_the_detail_of_several_faults_names_their_fields(editor: Caller) -> None:
    refusal = await editor.refused("POST", "/api/v1/workflows", {"trigger": {}})
    assert refusal.data["detail"] == "name, trigger.event_type: Field required."


async def test_action_configuration(editor: Caller) -> None:
    """R1.3: settings are validated, saved, and their status is shown."""
    path = await editor.workflow({})
    [action] = await editor.chain(path)
    assert action["configuration_status"] == {
        "complete": False,
        "missing": ["tag_name"],
        "invalid": [],
    }

    saved = await editor.put(f"{path}/actions/{action['id']}", {"action_config": READY})

    assert saved["action_config"] == READY
    assert saved["configuration_status"] == {"complete": True, "missing": [], "invalid": []}
    assert saved["updated_at"] > action["updated_at"]
    assert await editor.chain(path) == [saved]

    wrong = await editor.refused(
        "PUT", f"{path}/actions/{action['id']}", {"action_config": {"tag_colour": "red"}}
    )
    assert wrong.faults == [("action_config.tag_colour", "unknown_field")]
    assert "Did you mean 'tag_color'?" in wrong.data["errors"][0]["message"]
    assert await editor.chain(path) == [saved]


async def test_every_type_of_the_palette_can_be_made_by_its_type_alone(editor: Caller) -> None:
    path = await editor.workflow()
    palette = (await editor.get("/api/v1/action-types"))["items"]
    for entry in palette:
        made = await editor.post(f"{path}/actions", {"action_type": entry["name"]})
        assert made["action_config"] == entry["default_config"]
    assert_whole(await editor.chain(path))


async def test_an_action_inserted_in_the_middle_moves_the_others_back(editor: Caller) -> None:
    path = await editor.workflow(tag("a"), tag("b"), tag("c"))
    a, *_ = await editor.chain(path)
    for place, name in (({"position": 1}, "x"), ({"previous_action_id": a["id"]}, "y")):
        body = {"action_type": "add_tag", "action_config": tag(name), **place}
        await editor.post(f"{path}/actions", body)
    chain = await editor.chain(path)
    assert names(chain) == ["a", "y", "x", "b", "c"]
    assert_whole(chain)
    assert [action["key"] for action in chain] == [
        "add_tag",
        "add_tag_5",
        "add_tag_4",
        "add_tag_2",
        "add_tag_3",
    ]


WRONG_FIELDS: list[tuple[dict[str, Any], tuple[str, str]]] = [
    ({"position": 3}, ("position", "position_out_of_range")),
    ({"position": -1}, ("position", "greater_than_equal")),
    ({"position": 1.0}, ("position", "int_type")),
    ({"position": 2**40}, ("position", "less_than_equal")),
    ({"previous_action_id": str(uuid4())}, ("previous_action_id", "previous_action_unknown")),
    ({"previous_action_id": "x"}, ("previous_action_id", "uuid_parsing")),
    ({"branch_id": str(uuid4())}, ("branch_id", "branch_unknown")),
    ({"fallback_action_id": str(uuid4())}, ("fallback_action_id", "fallback_unknown")),
    ({"key": "add_tag"}, ("key", "key_taken")),
    ({"key": "Not a key"}, ("key", "string_pattern_mismatch")),
    ({"on_failure": "continu"}, ("on_failure", "literal_error")),
    ({"positon": 1}, ("positon", "unknown_field")),
    ({"action_type": "add_tags"}, ("action_type", "unknown_action_type")),
]


async def test_a_wrong_field_is_named(editor: Caller) -> None:
    path = await editor.workflow(tag("a"), tag("b"))
    for wrong, fault in WRONG_FIELDS:
        body = {"action_type": "add_tag"} | wrong
        refusal = await editor.refused("POST", f"{path}/actions", body)
        assert (refusal.status, refusal.faults, refusal.code) == (422, [fault], fault[1])
    assert names(await editor.chain(path)) == ["a", "b"]


async def test_a_position_that_disagrees_with_the_preceding_action_is_refused(
    editor: Caller,
) -> None:
    path = await editor.workflow(tag("a"), tag("b"))
    a, _ = await editor.chain(path)
    body = {"action_type": "add_tag", "position": 2, "previous_action_id": a["id"]}
    refusal = await editor.refused("POST", f"{path}/actions", body)
    assert refusal.faults == [("position", "position_disagrees")]


async def test_concurrent_inserts_at_one_position_all_succeed(editor: Caller) -> None:
    path = await editor.workflow(tag("a"), tag("b"))
    body = {"action_type": "add_tag", "action_config": READY, "position": 1}
    await asyncio.gather(*(editor.post(f"{path}/actions", body) for _ in range(10)))
    chain = await editor.chain(path)
    assert names(chain) == ["a", *["vip"] * 10, "b"]
    assert_whole(chain)
    assert len({action["key"] for action in chain}) == 12


async def test_what_was_read_before_another_change_is_read_again_before_it_is_written(
    editor: Caller, pool: asyncpg.Pool
) -> None:
    path = await editor.workflow(tag("a"), tag("b"))
    a, b = await editor.chain(path)
    body = {"action_type": "add_tag", "action_config": tag("x"), "previous_action_id": b["id"]}
    async with pool.acquire() as db, db.transaction():
        await db.fetch("SELECT open_draft(account_id, id) FROM workflows")
        inserting = asyncio.create_task(editor.call("POST", f"{path}/actions", body))
        await somebody_waits_for_a_lock(pool)
        await db.execute(
            "UPDATE workflow_actions SET deleted_at = now() WHERE id = $1", UUID(a["id"])
        )
        await db.execute(
            "UPDATE workflow_actions SET position = 0, previous_action_id = NULL WHERE id = $1",
            UUID(b["id"]),
        )
    assert (await inserting).status == 201
    chain = await editor.chain(path)
    assert names(chain) == ["b", "x"]
    assert_whole(chain)
    created = "SELECT count(*) FROM audit_log WHERE action = 'action.created'"
    assert await pool.fetchval(created) == 3


async def test_an_activation_meanwhile_refuses_an_insert(
    editor: Caller, pool: asyncpg.Pool
) -> None:
    path = await editor.workflow(tag("a"))
    body = {"action_type": "add_tag", "action_config": tag("x")}
    async with pool.acquire() as db, db.transaction():
        await db.execute("UPDATE workflows SET status = 'active'")
        inserting = asyncio.create_task(editor.call("POST", f"{path}/actions", body))
        await somebody_waits_for_a_lock(pool)
    refusal = await inserting
    assert (refusal.status, refusal.code) == (409, "workflow_not_editable")
    assert names(await editor.chain(path)) == ["a"]


async def somebody_waits_for_a_lock(pool: asyncpg.Pool) -> None:
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    while not await pool.fetchval(waiting):
        pass


async def test_a_workflow_has_at_most_50_actions(editor: Caller) -> None:
    path = await editor.workflow(*[READY] * 50)
    refusal = await editor.refused("POST", f"{path}/actions", {"action_type": "add_tag"})
    assert (refusal.status, refusal.code) == (409, "too_many_actions")
    assert len(await editor.chain(path)) == 50


async def test_reordering_keeps_configs_and_recalculates_links(editor: Caller) -> None:
    """R1.4."""
    path = await editor.workflow(tag("a"), tag("b"), tag("c"))
    a, b, c = [action["id"] for action in await editor.chain(path)]

    answer = await editor.post(f"{path}/actions/reorder", {"action_ids": [c, a, b]})

    assert answer["items"] == await editor.chain(path)
    assert names(answer["items"]) == ["c", "a", "b"]
    assert_whole(answer["items"])


async def test_a_new_order_is_a_full_permutation(editor: Caller) -> None:
    path = await editor.workflow(tag("a"), tag("b"))
    a, b = [action["id"] for action in await editor.chain(path)]
    for ids in ([a], [a, b, a], [a, b, str(uuid4())]):
        refusal = await editor.refused("POST", f"{path}/actions/reorder", {"action_ids": ids})
        assert refusal.status == 422, ids
    assert names(await editor.chain(path)) == ["a", "b"]


async def test_deleting_an_action_reconnects_its_neighbours(
    editor: Caller, pool: asyncpg.Pool
) -> None:
    """R1.5, softly: history keeps its reference."""
    path = await editor.workflow(tag("a"), tag("b"), tag("c"))
    _, b, _ = await editor.chain(path)

    await editor.delete(f"{path}/actions/{b['id']}")

    chain = await editor.chain(path)
    assert names(chain) == ["a", "c"]
    assert_whole(chain)
    assert (await editor.refused("GET", f"{path}/actions/{b['id']}")).status == 404
    assert (await editor.refused("DELETE", f"{path}/actions/{b['id']}")).status == 404
    [row] = await pool.fetch("select * from workflow_actions where id = $1", UUID(b["id"]))
    assert row["deleted_at"] is not None
    [logged] = await pool.fetch("select * from audit_log where action = 'action.deleted'")
    assert logged["entity_id"] == UUID(b["id"])
    assert logged["before"]["action_config"] == tag("b")
    assert logged["after"] is None
    assert logged["user_id"] is not None


async def test_every_change_is_in_the_audit_log(editor: Caller, pool: asyncpg.Pool) -> None:
    path = await editor.workflow(tag("a"), tag("b"))
    a, b = [action["id"] for action in await editor.chain(path)]
    await editor.put(f"{path}/actions/{a}", {"action_config": tag("z")})
    await editor.post(f"{path}/actions/reorder", {"action_ids": [b, a]})
    await editor.refused("PUT", f"{path}/actions/{a}", {"action_config": {"tag_name": None}})
    log = await pool.fetch("select * from audit_log order by id")
    assert [row["action"] for row in log] == [
        "workflow.created",
        "action.created",
        "action.created",
        "action.updated",
        "actions.reordered",
    ]
    assert log[3]["before"]["action_config"] == tag("a")
    assert log[3]["after"]["action_config"] == tag("z")
    assert log[4]["after"] == {"branch_id": None, "action_ids": [b, a]}


async def test_an_action_can_be_changed_and_moved_in_one_call(editor: Caller) -> None:
    path = await editor.workflow(tag("a"), tag("b"), tag("c"))
    a, b, c = await editor.chain(path)
    changed = await editor.put(
        f"{path}/actions/{a['id']}",
        {
            "position": 2,
            "is_enabled": False,
            "on_failure": "continue",
            "fallback_action_id": c["id"],
            "key": "the_first",
            "canvas_position": {"x": 1, "y": 2},
        },
    )
    assert (changed["position"], changed["previous_action_id"]) == (2, c["id"])
    assert (changed["is_enabled"], changed["on_failure"]) == (False, "continue")
    assert (changed["fallback_action_id"], changed["key"]) == (c["id"], "the_first")
    chain = await editor.chain(path)
    assert names(chain) == ["b", "c", "a"]
    assert_whole(chain)

    cleared = await editor.put(
        f"{path}/actions/{a['id']}", {"fallback_action_id": None, "canvas_position": None}
    )
    assert (cleared["fallback_action_id"], cleared["canvas_position"]) == (None, None)
    assert (cleared["key"], cleared["is_enabled"]) == ("the_first", False)
    refusal = await editor.refused(
        "PUT", f"{path}/actions/{b['id']}", {"previous_action_id": b["id"]}
    )
    assert refusal.faults == [("previous_action_id", "previous_action_unknown")]
    refusal = await editor.refused("PUT", f"{path}/actions/{b['id']}", {"action_type": "add_note"})
    assert refusal.code == "action_type_is_fixed"


async def test_branches_are_chains_of_their_own(editor: Caller) -> None:
    path = await editor.workflow(tag("a"), tag("b"))
    branch = (await editor.post(f"{path}/branches", {"name": "No answer"}))["id"]
    assert [b["id"] for b in (await editor.get(f"{path}/branches"))["items"]] == [branch]
    for name in ("x", "y"):
        body = {"action_type": "add_tag", "action_config": tag(name), "branch_id": branch}
        await editor.post(f"{path}/actions", body)
    x = (await editor.chain(path))[2]["id"]
    between = {"action_type": "add_tag", "action_config": tag("z"), "previous_action_id": x}
    assert (await editor.post(f"{path}/actions", between))["branch_id"] == branch

    chain = await editor.chain(path)
    trunk, side = chain[:2], chain[2:]
    assert (names(trunk), names(side)) == (["a", "b"], ["x", "z", "y"])
    assert_whole(trunk)
    assert_whole(side)

    await editor.put(f"{path}/actions/{x}", {"branch_id": None, "position": 0})
    chain = await editor.chain(path)
    assert names(chain) == ["x", "a", "b", "z", "y"]
    assert_whole(chain[:3])
    assert_whole(chain[3:])
    ids = [action["id"] for action in chain[3:]]
    await editor.post(f"{path}/actions/reorder", {"action_ids": ids[::-1], "branch_id": branch})
    assert names(await editor.chain(path)) == ["x", "a", "b", "y", "z"]
