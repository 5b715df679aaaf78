"""What Prometheus is told: requests, work, and what stands; nothing of any account."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import pytest

from api import metrics
from runtime.metrics_page import metrics_page
from runtime.settings import Settings
from tests.api_desk import Desk, open_desk
from tests.stand_ins import WorldWith, answer, counterpart
from tests.world import World


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def page(desk: Desk) -> str:
    response = await desk.client.get("/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return await response.text()


def value(text: str, name: str) -> float:
    """The value of a series by its name with labels."""
    match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else 0.0


async def test_requests_are_counted_by_the_template_of_their_route(desk: Desk) -> None:
    caller = await desk.caller()
    workflow = await caller.workflow()
    for _ in range(2):
        await caller.get(workflow)
    await caller.refused("GET", f"/api/v1/workflows/{'x' * 500}")
    await caller.call("GET", "/nowhere")
    await desk.client.request("BREW", "/api/v1/workflows")
    text = await page(desk)
    one = 'callboard_api_requests_total{method="GET",route="/api/v1/workflows/{workflow_id}"'
    assert value(text, one + ',status="200"}') == 2
    assert value(text, one + ',status="404"}') == 1
    assert "unmatched" in text
    assert "BREW" not in text
    assert workflow.rpartition("/")[2] not in text
    seconds = (
        'callboard_api_request_seconds_count{method="GET",route="/api/v1/workflows/{workflow_id}"}'
    )
    assert value(text, seconds) == 3


async def test_what_stands_in_the_database_is_seen(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = await world.workflow(("wait_time", {"duration": 3, "unit": "days"}))
    people = await world.contacts(3)
    await world.enrol(workflow, *people)
    async with open_desk(world.pool, settings) as desk:
        text = await page(desk)
        assert value(text, 'callboard_ready_steps{family="timing"}') == 3
        assert value(text, 'callboard_held_steps{family="timing"}') == 0
        assert value(text, "callboard_workers") == 1
        await world.pool.execute("UPDATE lanes SET is_paused = true")
        # Seen at most once in some seconds, however many ask.
        assert value(await page(desk), 'callboard_ready_steps{family="timing"}') == 3
        monkeypatch.setattr(metrics, "FRESH_SECONDS", 0.0)
        text = await page(desk)
        assert value(text, 'callboard_ready_steps{family="timing"}') == 0
        assert value(text, 'callboard_held_steps{family="timing"}') == 3
        assert value(text, 'callboard_held_lanes{reason="paused"}') == 1
        assert str(world.account_id) not in text


async def test_a_database_that_is_away_takes_no_counts_along(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics.queries, "_texts", {"gauges": "SELECT 1/0"})
    assert "callboard_api_requests_total" in await page(desk)


async def test_a_process_counts_its_batches_steps_and_effects(
    world_with: WorldWith, settings: Settings
) -> None:
    async with counterpart() as side:
        side.script = [answer(404)]
        world = await world_with(side.registry())
        workflow = await world.workflow(
            ("add_tag", {"tag_name": "x"}), ("webhook_call", {"calls": ["a"]})
        )
        async with open_desk(world.pool, settings) as desk:
            before = await page(desk)
            await world.run(workflow, await world.contact())
            after = await page(desk)
    for series, more in (
        ('callboard_steps_total{action_type="add_tag",outcome="completed"}', 1),
        ('callboard_steps_total{action_type="webhook_call",outcome="dispatched"}', 1),
        ('callboard_effects_total{kind="test.call",outcome="refused"}', 1),
        ('callboard_effect_seconds_count{kind="test.call"}', 1),
    ):
        assert value(after, series) - value(before, series) == more, series
    assert value(after, 'callboard_batches_total{family="crm"}') > 0


async def test_a_worker_alone_serves_its_counts_where_the_settings_say(
    settings: Settings, unused_tcp_port: int
) -> None:
    settings_with_port = settings.model_copy(update={"metrics_port": unused_tcp_port})
    async with metrics_page(settings_with_port), aiohttp.ClientSession() as session:
        reply = await session.get(f"http://127.0.0.1:{unused_tcp_port}/metrics")
        assert "callboard_batches_total" in await reply.text()
    async with metrics_page(settings):
        pass


async def test_the_process_is_not_ready_before_its_migrations(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    assert (await desk.client.get("/readyz")).status == 200
    await pool.execute("DELETE FROM schema_migrations WHERE name = '0008_views'")
    response = await desk.client.get("/readyz")
    assert response.status == 503
    problem = await response.json()
    assert problem["code"] == "database_not_migrated"
    assert "0008_views" in problem["detail"]
