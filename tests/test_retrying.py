"""A failed execution goes on from its failed step; nothing that may have gone out goes twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from runtime import executions
from runtime.clock import current_instant
from runtime.failures import Failure, Kind
from runtime.outcomes import Done, Failed, Outcome
from runtime.registry import Registry
from runtime.retrying import Retried, retry
from runtime.settings import Settings
from runtime.stage import Item
from tests.api_desk import open_desk
from tests.stand_ins import (
    Counterpart,
    WorldWith,
    acting,
    answer,
    blocked_or_done,
    counterpart,
    each,
    registry_with,
)
from tests.world import World

NOTE = ("add_note", {"content": "after {{steps.custom_code_0.tries}}"})


class Moody:
    """An action that fails as long as it is told to."""

    def __init__(self) -> None:
        self.fails = True
        self.tries = 0

    def act(self, _item: Item) -> Outcome:
        self.tries += 1
        if self.fails:
            return Failed(Failure(Kind.REFUSED, "refused", "not today"))
        return Done({"tries": self.tries})

    def registry(self) -> Registry:
        return registry_with(acting(each(self.act)))


@pytest.fixture
async def side() -> AsyncIterator[Counterpart]:
    async with counterpart() as side:
        yield side


async def retried(world: World, *execution_ids: UUID, **options: Any) -> Retried:
    async with world.pool.acquire() as db, db.transaction():
        now = await current_instant(db)
        return await retry(db, now, world.account_id, execution_ids, **options)


async def test_it_goes_on_from_the_failed_step_and_keeps_its_history(
    world_with: WorldWith,
) -> None:
    moody = Moody()
    world = await world_with(moody.registry())
    workflow = await world.workflow(("add_tag", {"tag_name": "x"}), ("custom_code", {}), NOTE)
    execution = await world.run(workflow, await world.contact(), context={"from": "me"})
    assert await world.statuses(execution) == ["completed", "failed"]

    moody.fails = False
    done = await retried(world, execution)
    assert (done.revived, done.families) == ([execution], {"crm"})
    running = await world.execution(execution)
    assert (running["status"], running["end_reason"], running["completed_at"]) == (
        "running", None, None,
    )  # fmt: skip
    await world.settle()
    assert await world.statuses(execution) == ["completed", "failed", "completed", "completed"]
    failed, again = (await world.steps(execution))[1:3]
    assert (again["action_id"], again["attempt"], again["retry_count"]) == (
        failed["action_id"], 1, 0,
    )  # fmt: skip
    assert (await world.execution(execution))["status"] == "completed"


async def test_it_may_fail_again_and_be_retried_again(world_with: WorldWith) -> None:
    moody = Moody()
    world = await world_with(moody.registry())
    execution = await world.run(await world.workflow(("custom_code", {})), await world.contact())
    for _ in range(2):
        await retried(world, execution)
        await world.settle()
    assert await world.statuses(execution) == ["failed"] * 3
    assert (await world.execution(execution))["end_reason"] == "refused"


@pytest.mark.parametrize(
    ("unless", "reason"),
    [
        ("UPDATE workflow_executions SET status = 'cancelled'", "execution_not_failed"),
        ("UPDATE contacts SET erased_at = now()", "contact_erased"),
        ("UPDATE workflows SET deleted_at = now()", "workflow_deleted"),
        ("UPDATE workflow_action_executions SET status = 'completed'", "no_failed_step"),
    ],
)
async def test_who_cannot_be_retried_is_told_why(
    world_with: WorldWith, unless: str, reason: str
) -> None:
    world = await world_with(Moody().registry())
    execution = await world.run(await world.workflow(("custom_code", {})), await world.contact())
    await world.pool.execute(unless)
    assert (await retried(world, execution)).refused == {execution: reason}


async def test_a_contact_still_has_one_live_run(world_with: WorldWith) -> None:
    moody = Moody()
    world = await world_with(moody.registry())
    workflow, contact = await world.workflow(("custom_code", {})), await world.contact()
    first, second = await world.run(workflow, contact), await world.run(workflow, contact)
    done = await retried(world, first, second)
    assert done.revived == [second], "of two the latest goes on"
    assert done.refused == {first: "another_run_is_live"}
    assert (await retried(world, first)).refused == {first: "another_run_is_live"}


async def test_an_enrolment_at_the_same_moment_wins_or_loses_and_nothing_breaks(
    world_with: WorldWith,
) -> None:
    world = await world_with(Moody().registry())
    workflow, contact = await world.workflow(("custom_code", {})), await world.contact()
    failed = await world.run(workflow, contact)
    version = await world.worker.versions.active(world.account_id, workflow)
    assert version is not None
    async with world.pool.acquire() as db:
        enrolling = db.transaction()
        await enrolling.start()
        now = await current_instant(db)
        [enrolment] = await executions.enrol(db, now, version, [contact])
        retrying = asyncio.create_task(retried(world, failed))
        await blocked_or_done(world, retrying)
        assert not retrying.done(), "it waits for what becomes of the enrolment"
        await enrolling.commit()
    assert enrolment.execution_id is not None
    assert (await retrying).refused == {failed: "another_run_is_live"}


async def test_an_effect_that_failed_is_sent_anew_under_a_key_of_its_own(
    world_with: WorldWith, side: Counterpart
) -> None:
    side.script = [answer(400)]
    world = await world_with(side.registry())
    workflow = await world.workflow(("webhook_call", {"key": "order 7"}))
    execution = await world.run(workflow, await world.contact())
    assert (await world.execution(execution))["status"] == "failed"
    assert (await retried(world, execution)).revived == [execution]
    await world.settle()
    assert (await world.execution(execution))["status"] == "completed"
    assert len(side.came) == 2
    effects = await world.pool.fetch("SELECT status, idempotency_key FROM effects ORDER BY id")
    assert [effect["status"] for effect in effects] == ["failed", "succeeded"]
    assert effects[0]["idempotency_key"] != effects[1]["idempotency_key"] == "order 7"


async def test_what_may_have_gone_out_is_not_repeated_unless_that_is_accepted(
    world_with: WorldWith, side: Counterpart, settings: Settings
) -> None:
    world = await world_with(side.registry())
    workflow = await world.workflow(("webhook_call", {"calls": ["a", "b"]}))
    for status, reason in (("unknown", "outcome_unknown"), ("succeeded", "partly_sent")):
        side.script = [answer(400), answer(400)]
        execution = await world.run(workflow, await world.contact())
        await world.pool.execute(
            "UPDATE effects SET status = $2 WHERE id = (SELECT min(id::text)::uuid FROM effects"
            " WHERE execution_id = $1)",
            execution,
            status,
        )
        async with open_desk(world.pool, settings, world.registry) as desk:
            editor = await desk.caller("Acme", "editor")
            path = f"/api/v1/executions/{execution}"
            assert (await editor.refused("POST", f"{path}/retry")).code == reason
            shown = await editor.post(f"{path}/retry?accept_duplicates=true")
            assert shown["status"] == "running"
            assert desk.rung == ["webhook"]
            await world.settle()
            whole = await editor.get(path)
            assert [len(step["effects"]) for step in whole["steps"]] == [2, 2]
            sent = whole["steps"][1]["effects"][0]
            assert (sent["request"]["name"], sent["status"]) == ("a", "succeeded")
            assert [a["outcome"] for a in sent["attempts"]] == ["succeeded"]
            assert (await editor.refused("POST", f"{path}/retry")).code == "execution_not_failed"


async def test_the_campaign_enrolment_goes_on_with_its_run(world_with: WorldWith) -> None:
    moody = Moody()
    world = await world_with(moody.registry())
    inner = await world.workflow(("custom_code", {}))
    campaign = await world._add(
        "campaigns", account_id=world.account_id, name="C", status="active", workflow_id=inner
    )
    outer = await world.workflow(("add_to_campaign", {"campaign_id": str(campaign)}))
    await world.run(outer, await world.contact())
    row = await world.pool.fetchrow("SELECT execution_id, status FROM campaign_enrollments")
    assert row is not None
    assert row["status"] == "completed"
    await retried(world, row["execution_id"])
    look = "SELECT status, ended_at FROM campaign_enrollments"
    assert [tuple(r) for r in await world.pool.fetch(look)] == [("active", None)]
    moody.fails = False
    await world.settle()
    assert (await world.pool.fetchval("SELECT status FROM campaign_enrollments")) == "completed"


DEEDS = ("enrol", "retry", "cancel", "pause", "resume", "settle", "mood")


@hypothesis_settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(deeds=st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 3)), max_size=12))
async def test_however_runs_are_steered_they_stay_whole(
    world_with: WorldWith, deeds: list[tuple[str, int]]
) -> None:
    """One live run at most, one open step in each, none in those that have ended."""
    moody = Moody()
    world = await world_with(moody.registry())
    workflow, contact = await world.workflow(("custom_code", {}), NOTE), await world.contact()
    begun: list[UUID] = []
    for deed, number in deeds:
        if deed == "enrol":
            [enrolment] = await world.enrol(workflow, contact)
            begun += [enrolment.execution_id] if enrolment.execution_id else []
        elif deed == "settle":
            await world.settle()
        elif deed == "mood":
            moody.fails = not moody.fails
        else:
            chosen = begun[number % len(begun) :][:2] if begun else []
            await _steer(world, deed, chosen)
        await _look(world)
    moody.fails = False
    async with world.pool.acquire() as db, db.transaction():
        await executions.resume(db, await current_instant(db), world.account_id, begun)
    await world.settle()
    statuses = {(await world.execution(e))["status"] for e in begun}
    assert statuses <= {"completed", "cancelled", "failed"}


async def _steer(world: World, deed: str, chosen: list[UUID]) -> None:
    async with world.pool.acquire() as db, db.transaction():
        now = await current_instant(db)
        match deed:
            case "retry":
                await retry(db, now, world.account_id, chosen)
            case "cancel":
                await executions.cancel(db, now, world.account_id, chosen, "stop")
            case "pause":
                await executions.pause(db, world.account_id, chosen)
            case "resume":
                await executions.resume(db, now, world.account_id, chosen)


async def _look(world: World) -> None:
    rows = await world.pool.fetch(
        "SELECT e.status, e.completed_at, count(s.id) FILTER (WHERE s.status IN"
        " ('pending', 'scheduled', 'waiting', 'running')) AS open"
        " FROM workflow_executions e"
        " LEFT JOIN workflow_action_executions s ON s.workflow_execution_id = e.id"
        " WHERE e.account_id = $1 GROUP BY e.id",
        world.account_id,
    )
    live = [row for row in rows if row["status"] in {"running", "paused"}]
    assert len(live) <= 1
    for row in rows:
        is_live = row["status"] in {"running", "paused"}
        assert row["open"] == is_live, dict(row)
        assert (row["completed_at"] is None) == is_live


async def test_many_are_steered_by_a_filter_after_a_dry_run(
    world_with: WorldWith, settings: Settings
) -> None:
    moody = Moody()
    world = await world_with(moody.registry())
    workflow = await world.workflow(
        ("custom_code", {}), ("wait_time", {"duration": 3, "unit": "days"})
    )
    people = await world.contacts(5)
    await world.enrol(workflow, *people)
    await world.settle()
    async with open_desk(world.pool, settings, world.registry) as desk:
        editor = await desk.caller("Acme", "editor")
        bulk = "/api/v1/executions/bulk"
        chosen = {"workflow_id": str(workflow), "error_code": "refused"}
        body: dict[str, Any] = {"action": "retry", "filter": chosen}
        dry = await editor.post(bulk, {**body, "dry_run": True})
        assert (dry["count"], len(dry["sample"])) == (5, 5)
        assert await world.pool.fetchval("SELECT count(*) FROM operations") == 0

        moody.fails = False
        begun = await editor.post(bulk, body)
        await world.enrol(workflow, people[0])  # one has another run by the time it is worked on
        await world.settle()
        shown = await editor.get(f"/api/v1/operations/{begun['id']}")
        assert (shown["status"], shown["total"], shown["done"], shown["failed"]) == (
            "completed", 5, 4, 1,
        )  # fmt: skip
        assert shown["result"] == {"refused": {"another_run_is_live": 1}}
        [error] = (await editor.get(f"/api/v1/operations/{begun['id']}/errors"))["items"]
        assert error["code"] == "another_run_is_live"

        standing = await world.pool.fetchval(
            "SELECT id FROM workflow_actions WHERE action_type = 'wait_time'"
        )
        waiting = await editor.get("/api/v1/executions", current_action_id=str(standing))
        assert len(waiting["items"]) == 5
        left = await editor.get("/api/v1/executions", error_code="refused")
        assert [item["id"] for item in left["items"]] == [error["item_id"]]
        for action, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
            by = {"action": action, "filter": {"current_action_id": str(standing)}}
            await editor.post(bulk, by)
            await world.settle()
            assert len((await editor.get("/api/v1/executions", status=status))["items"]) == 5
        audited = await world.pool.fetchval(
            "SELECT count(*) FROM audit_log WHERE action = 'operation.begun'"
        )
        assert audited == 4
