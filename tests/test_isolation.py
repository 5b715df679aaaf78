"""One bad item never takes its batch along, and poison ends after its attempts."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from runtime import clock, executions, workers
from runtime.batch import ISOLATED_TURN
from runtime.claims import queries as claims
from runtime.outcomes import Done, Outcome
from runtime.stage import Item, Stage
from runtime.sweep import MOST_LOSSES
from tests.stand_ins import WorldWith, acting, each, registry_with
from tests.world import World

LINE = ("custom_code", {"line": "{{contact.first_name}}"})


async def write_notes(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Notes of the type that the line says, in one statement; the type `bad` is refused."""
    for item in items:
        stage.emit(item, "note_added", {})
    await stage.db.execute(
        "INSERT INTO notes (account_id, contact_id, content, note_type)"
        " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])",
        [item.account_id for item in items],
        [item.contact_id for item in items],
        ["" for _ in items],
        ["bad" if item.values["line"] == "P77" else "system" for item in items],
    )
    return [Done() for _ in items]


async def raise_on_one(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    if any(item.values["line"] == "P77" for item in items):
        raise RuntimeError("P77 is somebody's name")
    return [Done() for _ in items]


async def time_out_on_one(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    if any(item.values["line"] == "P77" for item in items):
        raise TimeoutError  # an OSError that says nothing of the database's connection
    return [Done() for _ in items]


async def give_what_cannot_be_stored(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    return [Done({"line": "\x00" if i.values["line"] == "P77" else "fine"}) for i in items]


async def forget_one(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    return [Done() for item in items if item.values["line"] != "P77"]


async def _outcomes(world: World) -> dict[str, int]:
    rows = await world.pool.fetch(
        "SELECT status, count(*) AS n FROM workflow_action_executions GROUP BY status"
    )
    return {row["status"]: row["n"] for row in rows}


@pytest.mark.parametrize(
    ("perform", "code"),
    [
        (write_notes, "statement_refused"),
        (raise_on_one, "action_crashed"),
        (time_out_on_one, "action_crashed"),
        (give_what_cannot_be_stored, "statement_refused"),
        (forget_one, "action_crashed"),
    ],
)
async def test_one_item_that_makes_its_batch_fail_fails_alone(
    world_with: WorldWith, perform: Any, code: str
) -> None:
    calls = []

    async def counted(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        calls.append(len(items))
        outcomes: Sequence[Outcome] = await perform(stage, items)
        return outcomes

    world = await world_with(registry_with(acting(counted)))
    workflow = await world.workflow(LINE, ("add_tag", {"tag_name": "Behind"}))
    contacts = await world.contacts(500)
    await world.enrol(workflow, *contacts)
    with capture_logs([merge_contextvars]) as lines:
        await world.settle()
    assert await _outcomes(world) == {"completed": 2 * 499, "failed": 1}
    failed = await world.pool.fetchrow(
        "SELECT s.*, c.first_name FROM workflow_action_executions s"
        " JOIN contacts c ON c.id = s.contact_id WHERE s.status = 'failed'"
    )
    assert failed is not None
    assert (failed["first_name"], failed["error_code"]) == ("P77", code)
    assert "P77" not in failed["error_message"]
    for line in lines:
        if line["event"] == "step.failed_alone":
            named = line["step_id"], line["execution_id"]
            assert named == (str(failed["id"]), str(failed["workflow_execution_id"]))
    assert "P77" not in str([line for line in lines if line["event"] != "step.crashed"])
    assert calls[0] == 500
    assert len(calls) < 25  # halves, not one by one
    assert await world.pool.fetchval("SELECT count(*) FROM batches_in_hand") == 0
    attempts = await world.pool.fetchval("SELECT count(*) FROM workflow_action_attempts")
    assert attempts == 2 * 499 + 1


async def test_what_a_failed_performance_did_and_said_is_undone(world_with: WorldWith) -> None:
    async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        for item in items:
            stage.emit(item, "note_added", {})
            stage.record_change(item, "first_name", "a", "b")
            await stage.db.execute("UPDATE contacts SET first_name = 'b'")
        raise RuntimeError

    world = await world_with(registry_with(acting(perform)))
    with capture_logs([merge_contextvars]) as lines:
        execution = await world.run(await world.workflow(LINE), await world.contact(first_name="a"))
    assert await world.statuses(execution) == ["failed"]
    (step,) = await world.steps(execution)
    told = {line["event"]: line for line in lines}
    assert told["batch.failed"]["step_ids"] == [str(step["id"])]
    for table in ("domain_events", "contact_field_changes"):
        assert await world.pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await world.pool.fetchval("SELECT first_name FROM contacts") == "a"


async def test_a_failure_alone_still_leads_to_the_fallback(world_with: WorldWith) -> None:
    world = await world_with(registry_with(acting(raise_on_one)))
    action = {"action_type": LINE[0], "action_config": LINE[1], "fallback": 1}
    workflow = await world.workflow(
        action, {"action_type": "add_tag", "action_config": {"tag_name": "B"}, "branch": "plan b"}
    )
    execution = await world.run(workflow, await world.contact(first_name="P77"))
    assert await world.statuses(execution) == ["failed", "completed"]


async def test_a_step_whose_definition_cannot_be_loaded_fails_alone(world: World) -> None:
    good = await world.workflow(("add_tag", {"tag_name": "A"}), name="Good")
    bad = await world.workflow(("add_tag", {"tag_name": "B"}), name="Bad")
    contacts = await world.contacts(20)
    await world.enrol(good, *contacts)
    await world.enrol(bad, contacts[3])
    world.worker.versions._cache.clear()
    await world.pool.execute(
        "UPDATE workflow_version_actions SET action_config = '{\"tag_name\": 5}'"
        " WHERE version_id = (SELECT active_version_id FROM workflows WHERE id = $1)",
        bad,
    )
    await world.settle()
    assert await _outcomes(world) == {"completed": 20, "failed": 1}
    row = await world.pool.fetchrow("SELECT * FROM action_log WHERE status = 'failed'")
    assert row is not None
    assert row["contact_id"] == contacts[3]
    assert row["error_code"] == "action_crashed"
    status = await world.pool.fetchval(
        "SELECT status FROM workflow_executions WHERE workflow_id = $1", bad
    )
    assert status == "failed"


# Deadlocks


async def test_a_deadlock_is_retried_and_never_a_failed_step(world_with: WorldWith) -> None:
    met = asyncio.Barrier(2)
    calls: list[str] = []

    async def lock_two_tags(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        order = str(items[0].values["line"])
        calls.append(order)
        for number, name in enumerate(order):
            await stage.db.execute("UPDATE tags SET color = '#000000' WHERE name = $1", name)
            if number == 0 and len(calls) <= 2:
                await met.wait()
        return [Done() for _ in items]

    world = await world_with(registry_with(acting(lock_two_tags)))
    for name in "ab":
        await world._add("tags", account_id=world.account_id, name=name)
    workflow = await world.workflow(LINE)
    for order in ("ab", "ba"):
        await world.enrol(workflow, await world.contact(first_name=order))
    await world.pool.execute("UPDATE workflow_action_executions SET hold = 'parked'")
    batches = world.worker._steps["crm"]._batches
    object.__setattr__(batches, "settings", world.settings.model_copy(update={"batch_size": 1}))
    await world.pool.execute("UPDATE workflow_action_executions SET hold = NULL")
    await asyncio.gather(batches.run("crm"), batches.run("crm"))
    assert sorted(calls[:2]) == ["ab", "ba"]
    assert len(calls) == 3
    assert await _outcomes(world) == {"completed": 2}


@pytest.mark.parametrize("isolated", [False, True])
async def test_a_step_that_deadlocks_time_after_time_stays_ready(
    world_with: WorldWith, isolated: bool
) -> None:
    left = [12]

    async def deadlock(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        left[0] -= 1
        if left[0] >= 0:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return [Done() for _ in items]

    world = await world_with(registry_with(acting(deadlock)))
    workflow = await world.workflow(LINE)
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    if isolated:
        await world.pool.execute("UPDATE workflow_action_executions SET hold = 'isolated'")
    await world.settle()
    assert await world.statuses(enrolment.execution_id) == ["completed"]


# What dead workers leave behind


async def _die_with(world: World, *step_ids: UUID) -> UUID:
    """Leave steps in the hands of a worker that is no more, as an unclean death does."""
    ghost: UUID = uuid7()
    await world.pool.fetchval(claims.take_in_hand, ghost, list(step_ids))
    await world.worker.sweep()
    return ghost


async def _step_ids(world: World) -> list[UUID]:
    rows = await world.pool.fetch("SELECT id FROM workflow_action_executions ORDER BY id")
    return [row["id"] for row in rows]


async def test_what_was_in_hand_when_a_worker_died_is_claimed_alone_with_its_attempt_committed(
    world_with: WorldWith,
) -> None:
    calls: list[tuple[int, list[str]]] = []

    async def perform(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        begun = await world.side.fetch(
            "SELECT outcome FROM workflow_action_attempts WHERE step_id = $1", items[0].step_id
        )
        calls.append((len(items), [row["outcome"] for row in begun]))
        return [Done() for _ in items]

    world = await world_with(registry_with(acting(perform)))
    workflow = await world.workflow(LINE)
    await world.enrol(workflow, *await world.contacts(4))
    suspects = (await _step_ids(world))[:3]
    await _die_with(world, *suspects)
    await world.settle()
    assert calls == [(1, [])] + [(1, ["started"])] * 3
    assert await _outcomes(world) == {"completed": 4}
    log = await world.pool.fetch("SELECT attempt, outcome FROM workflow_action_attempts")
    assert {tuple(row) for row in log} == {(1, "completed")}


async def test_work_that_is_claimed_alone_has_its_turn_although_the_rest_never_ends(
    world_with: WorldWith,
) -> None:
    world = await world_with(batch_size=1)
    workflow = await world.workflow(("add_tag", {"tag_name": "A"}))
    await world.enrol(workflow, *await world.contacts(3 * ISOLATED_TURN))
    suspect = (await _step_ids(world))[-1]
    await _die_with(world, suspect)
    for _ in range(ISOLATED_TURN):
        await world.worker._steps["crm"]._batches.run("crm")
    status = await world.pool.fetchval(
        "SELECT status FROM workflow_action_executions WHERE id = $1", suspect
    )
    assert status == "completed"


async def test_what_was_committed_before_the_death_stays_as_it_is(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "A"}))
    execution = await world.run(workflow, await world.contact())
    before = await world.steps(execution)
    await _die_with(world, before[0]["id"])
    assert await world.steps(execution) == before
    assert await world.pool.fetchval("SELECT count(*) FROM batches_in_hand") == 0


async def test_the_hands_of_a_worker_that_lives_are_left_alone(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "A"}))
    await world.enrol(workflow, await world.contact())
    await world.pool.fetchval(claims.take_in_hand, world.worker.id, await _step_ids(world))
    await world.worker.sweep()
    assert await world.pool.fetchval("SELECT hold FROM workflow_action_executions") is None
    assert await world.pool.fetchval("SELECT count(*) FROM batches_in_hand") == 1


async def test_poison_ends_as_failed_after_its_attempts_without_being_performed_again(
    world_with: WorldWith,
) -> None:
    calls = []

    def act(item: Item) -> Outcome:
        calls.append(item)
        return Done()

    world = await world_with(registry_with(acting(each(act))))
    workflow = await world.workflow(LINE, ("add_tag", {"tag_name": "Behind"}))
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    await _die_with(world, *await _step_ids(world))
    now = await clock.current_instant(world.pool)
    for _ in range(MOST_LOSSES):
        begun = await world.pool.fetchrow(claims.claim_isolated_step, "crm", uuid7(), now)
        assert begun is not None
        assert await world.statuses(enrolment.execution_id) == ["running"]
        await world.worker.sweep()
    await world.settle()
    (step,) = await world.steps(enrolment.execution_id)
    assert (step["status"], step["error_code"]) == ("failed", "worker_lost")
    assert (await world.execution(enrolment.execution_id))["end_reason"] == "worker_lost"
    assert calls == []
    log = await world.pool.fetch(
        "SELECT outcome, error_code FROM workflow_action_attempts ORDER BY attempt"
    )
    assert [tuple(row) for row in log] == [
        *[("lost", "worker_lost")] * MOST_LOSSES,
        ("failed", "worker_lost"),
    ]


async def test_poison_stays_poison_through_a_pause(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "A"}))
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    await world.pool.execute(
        "UPDATE workflow_action_executions SET error_code = 'worker_lost', hold = 'isolated'"
    )
    ids = [enrolment.execution_id]
    async with world.pool.acquire() as db, db.transaction():
        await executions.pause(db, world.account_id, ids)
    await world.settle()
    assert await world.statuses(enrolment.execution_id) == ["pending"]
    async with world.pool.acquire() as db, db.transaction():
        await executions.resume(db, await clock.current_instant(db), world.account_id, ids)
    await world.settle()
    (step,) = await world.steps(enrolment.execution_id)
    assert (step["status"], step["error_code"]) == ("failed", "worker_lost")


async def test_a_step_whose_contact_somebody_holds_for_too_long_is_tried_again_later(
    world: World, conn: asyncpg.Connection
) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "A"}))
    contacts = await world.contacts(3)
    await world.enrol(workflow, *contacts)
    async with conn.transaction():
        await conn.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", contacts[1])
        batches = world.worker._steps["crm"]._batches
        async with world.pool.acquire() as db:
            await db.execute("SET statement_timeout = '100ms'")
            rows = await db.fetch("SELECT id FROM workflow_action_executions ORDER BY id")
            error = asyncpg.QueryCanceledError("canceling statement due to statement timeout")
            await batches._do_again(db, [row["id"] for row in rows], error)
            await db.execute("RESET statement_timeout")
    assert await _outcomes(world) == {"completed": 2, "scheduled": 1}
    await world.advance(seconds=30)
    assert await _outcomes(world) == {"completed": 3}
    assert await world.pool.fetchval("SELECT max(attempt) FROM workflow_action_executions") == 1


async def test_a_step_that_was_taken_from_a_frozen_worker_is_not_performed_by_it(
    world_with: WorldWith,
) -> None:
    calls = []

    def act(item: Item) -> Outcome:
        calls.append(item)
        return Done()

    world = await world_with(registry_with(acting(each(act))))
    workflow = await world.workflow(LINE)
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    await world.pool.execute("UPDATE workflow_action_executions SET hold = 'isolated'")
    frozen = await world.new_worker()
    now = await clock.current_instant(world.pool)
    begun = await world.pool.fetchrow(claims.claim_isolated_step, "crm", frozen.id, now)
    assert begun is not None
    await workers.leave(world.pool, frozen.id)  # its lease ran out
    await world.worker.sweep()
    batches = frozen._steps["crm"]._batches
    async with world.pool.acquire() as db:
        await batches._perform_isolated(db, begun["step_id"], begun["attempt"], None)
    assert calls == []
    await world.settle()
    assert len(calls) == 1


async def test_a_step_cancelled_between_its_claim_alone_and_its_work_leaves_no_open_attempt(
    world: World,
) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "A"}))
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    await world.pool.execute("UPDATE workflow_action_executions SET hold = 'isolated'")
    now = await clock.current_instant(world.pool)
    begun = await world.pool.fetchrow(claims.claim_isolated_step, "crm", world.worker.id, now)
    assert begun is not None
    async with world.pool.acquire() as db, db.transaction():
        ids = [enrolment.execution_id]
        await executions.cancel(db, now, world.account_id, ids, "asked for")
    async with world.pool.acquire() as db:
        batches = world.worker._steps["crm"]._batches
        await batches._perform_isolated(db, begun["step_id"], begun["attempt"], None)
    (step,) = await world.steps(enrolment.execution_id)
    assert (step["status"], step["skip_reason"]) == ("skipped", "cancelled")
    open_ones = "SELECT count(*) FROM workflow_action_attempts WHERE outcome = 'started'"
    assert await world.pool.fetchval(open_ones) == 0
