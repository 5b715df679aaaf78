"""custom_code: scripts as steps, and the route that tries them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiohttp import web

from runtime.settings import Settings
from tests.api_desk import Desk, open_desk
from tests.serving import serving
from tests.stand_ins import WorldWith
from tests.world import World


@pytest.fixture
async def world(world_with: WorldWith) -> AsyncIterator[World]:
    world = await world_with(slots={"code": 1})
    async with world.worker._effects["code"].open():
        yield world


async def run(world: World, code: str, **config: Any) -> tuple[Any, Any]:
    """Run a script as a step; gives the step and its effect."""
    workflow = await world.workflow(("custom_code", {"code": code, **config}))
    contact = await world.contact(first_name="Ada", custom_fields={"n": 2})
    execution = await world.run(workflow, contact)
    (step,) = await world.steps(execution)
    effect = await world.pool.fetchrow("SELECT * FROM effects WHERE execution_id = $1", execution)
    return step, effect


async def test_what_a_script_returns_serves_later_steps(world: World) -> None:
    script = """
    console.log('for', contact.first_name)
    return {twice: contact.custom_fields.n * 2, tag: steps.first.tag_name, of: workflow.name}
    """
    workflow = await world.workflow(
        {"action_type": "add_tag", "key": "first", "action_config": {"tag_name": "One"}},
        {"action_type": "custom_code", "key": "script", "action_config": {"code": script}},
        ("add_tag", {"tag_name": "{{steps.script.output.twice}} {{steps.script.output.tag}}"}),
    )
    contact = await world.contact(first_name="Ada", custom_fields={"n": 2})
    execution = await world.run(workflow, contact)
    assert await world.statuses(execution) == ["completed"] * 3
    step = (await world.steps(execution))[1]
    assert step["result_data"]["output"] == {"twice": 4, "tag": "One", "of": "Welcome"}
    assert step["result_data"]["logs"] == [{"level": "log", "text": "for Ada"}]
    assert await world.pool.fetchval("SELECT count(*) FROM tags WHERE name = '4 One'") == 1


async def test_a_script_s_error_fails_its_step_with_line_and_column(world: World) -> None:
    step, effect = await run(world, "console.log('x');\nnull.y")
    assert (step["status"], step["error_code"]) == ("failed", "script_failed")
    assert step["error_message"].endswith("(reading 'y') (line 2, column 6)")
    # It has run: the effect says so, with what it logged.
    assert effect["status"] == "succeeded"
    assert effect["result"]["logs"] == [{"level": "log", "text": "x"}]
    assert step["retry_count"] == 0


@pytest.mark.parametrize(
    ("code", "config", "error"),
    [
        ("while (true) {}", {"timeout_ms": 50}, "script_timeout"),
        ("const a = []; for (;;) a.push([1])", {"memory_limit_mb": 8}, "script_memory"),
        ("return () => 1", {}, "script_output_unusable"),
    ],
)
async def test_limits_end_as_clear_errors(
    world: World, code: str, config: dict[str, Any], error: str
) -> None:
    step, _ = await run(world, code, **config)
    assert (step["status"], step["error_code"]) == ("failed", error)


async def test_what_cannot_be_stored_is_replaced(world: World) -> None:
    step, _ = await run(world, "return {'a\\0': '\\0b\\ud800'}")
    assert step["status"] == "completed"
    assert step["result_data"]["output"] == {"a\ufffd": "\ufffdb?"}


async def test_a_script_fetches_through_the_guard(world_with: WorldWith) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"method": request.method, "got": await request.text()})

    async with serving(answer) as place, serving(answer) as other:
        world = await world_with(inside_hosts=frozenset({place}), slots={"code": 1})
        async with world.worker._effects["code"].open():
            script = f"""
            const reply = await fetch('http://{place}/', {{method: 'PUT', body: 'data'}})
            const inside = await fetch('http://{other}/').catch(error => error.message)
            const header = await fetch('http://{place}/', {{headers: {{Host: 'x'}}}})
              .catch(error => error.message)
            return [reply.status, await reply.json(), inside, header]
            """
            step, _ = await run(world, script)
    assert step["result_data"]["output"] == [
        200,
        {"method": "PUT", "got": "data"},
        "fetch: the URL leads to an address that is not public",
        "fetch: a header is not permitted",
    ]


async def test_an_account_in_test_mode_fetches_nothing_outside(world: World) -> None:
    await world.pool.execute("UPDATE accounts SET is_test = true")
    step, _ = await run(world, "await fetch('https://example.com/')")
    assert step["error_message"].startswith("TypeError: fetch is not available here")


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def test_a_script_is_tried_out_against_a_contact(desk: Desk) -> None:
    caller = await desk.caller()
    contact = await caller.post("/api/v1/contacts", {"first_name": "Ada", "last_name": "L"})
    body = {
        "code": "console.warn('hi'); return [contact.first_name, steps.a.b, contact.tags]",
        "contact_id": contact["id"],
        "steps": {"a": {"b": 1}},
    }
    tried = await caller.post("/api/v1/code/test", body)
    assert tried["output"] == ["Ada", 1, []]
    assert tried["logs"] == [{"level": "warn", "text": "hi"}]
    assert tried["error"] is None
    assert tried["memory_bytes"] > 0
    tried = await caller.post("/api/v1/code/test", {**body, "code": "x("})
    assert tried["error"] == {
        "code": "script_syntax",
        "message": "SyntaxError: unexpected end of the script",
        "line": 1,
        "column": 3,
    }


async def test_a_trial_is_refused_for_what_is_wrong_with_it(desk: Desk) -> None:
    caller, other = await desk.caller(), await desk.caller("Other")
    contact = UUID((await other.post("/api/v1/contacts", {"first_name": "Eve"}))["id"])
    for contact_id in (contact, uuid4()):
        body = {"code": "return 1", "contact_id": str(contact_id)}
        answer = await caller.refused("POST", "/api/v1/code/test", body)
        assert answer.faults == [("contact_id", "contact_unknown")]
    misspelt = {"code": "return 1", "contact_id": str(contact), "allowed_modules": ["lodahs"]}
    answer = await caller.refused("POST", "/api/v1/code/test", misspelt)
    assert answer.faults == [("allowed_modules[0]", "module_unknown")]
    assert "Did you mean 'lodash'?" in answer.data["detail"]
