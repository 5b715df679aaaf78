"""Domain events: each ends the waits that it satisfies and starts the workflows that listen."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import clock
from runtime.conditions import met
from runtime.events import INSTALMENT, IncomingEvent, take_in
from runtime.wakeups import queries as wakeups
from tests.stand_ins import blocked_or_done
from tests.world import World

WAIT = (
    "wait_for_event",
    {"event_type": "form_submit", "timeout_duration": 1, "timeout_unit": "days"},
)


async def result(world: World, execution: UUID) -> Any:
    """What the wait of an execution gave."""
    steps = await world.steps(execution)
    (wait,) = [step for step in steps if step["action_type"] == "wait_for_event"]
    assert wait["status"] == "completed"
    return wait["result_data"]


async def happened(world: World, contact: UUID, ago: timedelta = timedelta(0)) -> datetime:
    """Take in a form_submit that occurred so long ago, without running the engine."""
    async with world.pool.acquire() as db, db.transaction():
        at = await clock.current_instant(db) - ago
        event = IncomingEvent(world.account_id, "form_submit", contact, occurred_at=at)
        await take_in(db, [event])
    return at


# Events and waits


async def test_an_event_ends_the_wait_of_its_contact_only(world: World) -> None:
    workflow = await world.workflow(WAIT)
    ada, bob = await world.contacts(2)
    hers, his = await world.run(workflow, ada), await world.run(workflow, bob)
    await world.event("sms_reply", ada)
    assert await world.statuses(hers) == ["waiting"]
    await world.event("form_submit", ada, payload={"form": "f"})
    assert (await result(world, hers))["event"]["payload"] == {"form": "f"}
    assert await world.statuses(his) == ["waiting"]


async def test_an_event_from_before_the_end_of_the_step_before_does_not_count(
    world: World,
) -> None:
    workflow = await world.workflow(("wait_time", {"duration": 1, "unit": "hours"}), WAIT)
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    await happened(world, contact)
    await world.advance(hours=1)
    assert await world.statuses(execution) == ["completed", "waiting"]
    assert (await world.steps(execution))[1]["waiting_for"] == "form_submit"


async def test_an_event_between_a_slow_worker_s_steps_ends_the_wait_at_once(
    world: World,
) -> None:
    workflow = await world.workflow(WAIT)
    contact = await world.contact()
    (enrolment,) = await world.enrol(workflow, contact)
    assert enrolment.execution_id is not None
    await happened(world, contact)
    await world.settle()
    assert not (await result(world, enrolment.execution_id))["timed_out"]


async def test_an_event_back_to_the_start_of_the_related_action_counts(world: World) -> None:
    workflow_id = await world._add("workflows", account_id=world.account_id, name="Related")
    tag, pause = await world.add_actions(
        workflow_id,
        ("add_tag", {"tag_name": "Asked"}),
        ("wait_time", {"duration": 1, "unit": "hours"}),
    )
    await world._add(
        "workflow_actions",
        account_id=world.account_id,
        workflow_id=workflow_id,
        action_type="wait_for_event",
        action_config={"event_type": "form_submit", "related_action_id": str(tag)},
        position=2,
    )
    await world.activate(workflow_id)
    contact = await world.contact()
    execution = await world.run(workflow_id, contact)
    await world.event("form_submit", contact, action_id=pause)
    await world.event("form_submit", contact, action_id=tag, execution_id=execution)
    await world.advance(hours=1)
    assert not (await result(world, execution))["timed_out"]
    assert (await world.execution(execution))["status"] == "completed"


async def test_an_event_that_answers_another_run_does_not_end_the_wait_of_this_one(
    world: World,
) -> None:
    workflow_id = await world._add("workflows", account_id=world.account_id, name="Related")
    (tag,) = await world.add_actions(workflow_id, ("add_tag", {"tag_name": "Asked"}))
    await world._add(
        "workflow_actions",
        account_id=world.account_id,
        workflow_id=workflow_id,
        action_type="wait_for_event",
        action_config={"event_type": "form_submit", "related_action_id": str(tag)},
        position=1,
    )
    await world.activate(workflow_id)
    contact = await world.contact()
    first = await world.run(workflow_id, contact, entry_key="1")
    second = await world.run(workflow_id, contact, entry_key="2")
    await world.event("form_submit", contact, action_id=tag, execution_id=second)
    assert await world.statuses(first) == ["completed", "waiting"]
    assert await world.statuses(second) == ["completed", "completed"]


async def test_a_wait_times_out_at_its_instant(world: World) -> None:
    workflow = await world.workflow(WAIT)
    execution = await world.run(workflow, await world.contact())
    await world.advance(hours=23)
    assert await world.statuses(execution) == ["waiting"]
    await world.advance(hours=1)
    assert await result(world, execution) == {"timed_out": True, "event": None}


@pytest.mark.parametrize("first", ["event", "time-out"])
@pytest.mark.parametrize("committed", [True, False])
async def test_of_event_and_time_out_exactly_one_wins(
    world: World, conn: asyncpg.Connection, first: str, committed: bool
) -> None:
    """In both orders, with the first one committed before the second begins or not."""
    workflow = await world.workflow(WAIT)
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    now = await clock.advance(world.pool, timedelta(days=2))
    event = IncomingEvent(world.account_id, "form_submit", contact)

    async def come(db: Any) -> None:
        await take_in(db, [event])

    async def time_out(db: Any) -> None:
        await db.fetch(wakeups.time_out_waits, now, 100)

    one, other = (come, time_out) if first == "event" else (time_out, come)
    async with world.pool.acquire() as db:
        transaction = conn.transaction()
        await transaction.start()
        await one(conn)
        if committed:
            await transaction.commit()
        async with db.transaction():
            waiting = asyncio.ensure_future(other(db))
            if not committed:
                # Either it waits for the first one's lock, or it passes the row over.
                await blocked_or_done(world, waiting)
                await transaction.commit()
            await waiting
    await world.settle()
    outcome = await result(world, execution)
    assert outcome["timed_out"] is (first == "time-out")
    assert (outcome["event"] is None) is outcome["timed_out"]
    attempts = await world.pool.fetchval("SELECT count(*) FROM workflow_action_attempts")
    assert attempts == 2


async def _blocked_or_done(world: World, task: asyncio.Future[Any], db: Any) -> None:
    """Wait until a task has ended or its own connection waits for a lock."""
    waiting = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"
    pid = db.get_server_pid()
    while not (task.done() or await world.pool.fetchval(waiting, pid)):
        pass


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order=st.permutations(["event", "event", "time-out", "time-out"]),
    commits=st.permutations(range(4)),
)
async def test_however_events_and_time_outs_interleave_the_wait_ends_once(
    world: World, order: list[str], commits: list[int]
) -> None:
    """Two events and two wake-ups begin in any order and commit in any other, all at once."""
    workflow = await world.workflow(WAIT)
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    now = await clock.advance(world.pool, timedelta(days=2))
    connections = [await world.pool.acquire() for _ in order]
    transactions = [db.transaction() for db in connections]
    running = []
    for db, transaction, who in zip(connections, transactions, order, strict=True):
        await transaction.start()
        step = (
            take_in(db, [IncomingEvent(world.account_id, "form_submit", contact)])
            if who == "event"
            else db.fetch(wakeups.time_out_waits, now, 100)
        )
        running.append(asyncio.ensure_future(step))
        await _blocked_or_done(world, running[-1], db)
    left = list(commits)
    while left:
        # Of those that are not waiting for another's lock, the next in the drawn order: there
        # always is one, or they would be deadlocked.
        await asyncio.wait([running[n] for n in left], return_when=asyncio.FIRST_COMPLETED)
        number = next(n for n in left if running[n].done())
        await running[number]
        await transactions[number].commit()
        left.remove(number)
    for db in connections:
        await world.pool.release(db)
    await world.settle()
    outcome = await result(world, execution)
    assert outcome["timed_out"] is (outcome["event"] is None)
    attempts = await world.pool.fetch(
        "SELECT outcome FROM workflow_action_attempts t"
        " JOIN workflow_action_executions s ON s.id = t.step_id"
        " WHERE s.workflow_execution_id = $1 ORDER BY t.attempt",
        execution,
    )
    assert [row["outcome"] for row in attempts] == ["waited", "completed"]


@pytest.mark.parametrize("first", ["event", "wait"])
async def test_an_event_and_a_beginning_wait_never_miss_each_other(
    world: World, conn: asyncpg.Connection, first: str
) -> None:
    """Whoever locks the contact second looks after the first one's commit."""
    workflow = await world.workflow(WAIT)
    contact = await world.contact()
    (enrolment,) = await world.enrol(workflow, contact)
    assert enrolment.execution_id is not None
    event = IncomingEvent(world.account_id, "form_submit", contact)
    batches = world.worker._steps["timing"]._batches
    async with world.pool.acquire() as db:
        if first == "event":
            async with conn.transaction():
                await take_in(conn, [event])
                other: asyncio.Future[Any] = asyncio.ensure_future(batches.run("timing"))
                await blocked_or_done(world, other)
                assert not other.done()
        else:
            async with conn.transaction():
                rows = await batches._claim(conn, "timing")
                await batches._work(conn, rows)
                other = asyncio.ensure_future(_take_in(db, event))
                await blocked_or_done(world, other)
                assert not other.done()
        await other
    await world.settle()
    assert not (await result(world, enrolment.execution_id))["timed_out"]


async def _take_in(db: Any, event: IncomingEvent) -> None:
    async with db.transaction():
        await take_in(db, [event])


async def test_the_same_key_is_taken_in_once_per_account(world: World) -> None:
    contact = await world.contact()
    other = await world.account("Other")
    theirs = await world.contact(account_id=other)
    event = IncomingEvent(world.account_id, "form_submit", contact, dedupe_key="k")
    async with world.pool.acquire() as db, db.transaction():
        (first, twin), _ = await take_in(db, [event, event])
        (again,), _ = await take_in(db, [event])
        elsewhere = IncomingEvent(other, "form_submit", theirs, dedupe_key="k")
        (foreign,), _ = await take_in(db, [elsewhere])
    assert first is not None
    assert (twin, again) == (None, None)
    assert foreign is not None


async def test_an_event_of_another_account_s_contact_is_not_taken_in(world: World) -> None:
    theirs = await world.contact(account_id=await world.account("Other"))
    assert await world.event("form_submit", theirs) is None


# Events that start workflows


CONDITIONS = [
    ("payload.form", "equals", "f1", True),
    ("payload.form", "equals", "F1", False),
    ("payload.form", "not_equals", "f2", True),
    ("payload.form", "contains", "F", True),
    ("payload.tags", "contains", "vip", True),
    ("payload.tags", "contains", "v", False),
    ("payload.nothing", "equals", None, True),
    ("payload.nothing", "contains", "f", False),
    ("payload.nothing", "greater_than", 0, False),
    ("payload.nothing", "exists", True, False),
    ("payload.nothing", "exists", False, True),
    ("payload.form", "exists", None, True),
    ("payload.amount", "greater_than", 9, True),
    ("payload.amount", "greater_than", "9.5", True),
    ("payload.amount", "less_than", 9, False),
    ("payload.amount", "less_than", "a lot", False),
    ("payload.yes", "equals", True, True),
    ("payload.yes", "equals", 1, False),
    ("payload.form.deeper", "exists", True, False),
    ("contact.first_name", "equals", "Ada", True),
    ("contact.custom_fields.level", "less_than", 3, True),
]


@pytest.mark.parametrize(("field", "operator", "value", "holds"), CONDITIONS)
def test_conditions_hold_as_they_read(field: str, operator: str, value: Any, holds: bool) -> None:
    fields = {
        "payload": {"form": "f1", "tags": ["vip", "new"], "amount": 10, "yes": True},
        "contact": {"first_name": "Ada", "custom_fields": {"level": 2}},
    }
    assert met([{"field": field, "operator": operator, "value": value}], fields) is holds


async def test_all_conditions_of_a_trigger_must_hold(world: World) -> None:
    conditions = [
        {"field": "payload.form", "operator": "equals", "value": "f1"},
        {"field": "contact.first_name", "operator": "equals", "value": "Ada"},
    ]
    await world.workflow(
        ("add_tag", {"tag_name": "{{trigger.event.payload.form}}"}),
        trigger={"event_type": "form_submit", "conditions": conditions},
    )
    ada, bob = await world.contact(first_name="Ada"), await world.contact(first_name="Bob")
    await world.event("form_submit", ada, payload={"form": "f2"})
    await world.event("form_submit", bob, payload={"form": "f1"})
    assert await world.pool.fetchval("SELECT count(*) FROM workflow_executions") == 0
    await world.event("form_submit", ada, payload={"form": "f1"})
    run = await world.pool.fetchrow("SELECT * FROM workflow_executions")
    assert run is not None
    assert (run["contact_id"], run["status"]) == (ada, "completed")
    assert await world.pool.fetchval("SELECT name FROM tags") == "f1"


async def test_one_event_starts_every_workflow_that_listens_and_no_other_account_s(
    world: World,
) -> None:
    trigger = {"event_type": "form_submit"}
    for name in ("A", "B"):
        await world.workflow(("add_tag", {"tag_name": name}), trigger=trigger, name=name)
    mine = world.account_id
    world.account_id = await world.account("Other")
    world.user_id = await world.user("eve@other.test")
    await world.workflow(("add_tag", {"tag_name": "C"}), trigger=trigger, name="C")
    world.account_id = mine
    await world.event("form_submit", await world.contact())
    tags = await world.pool.fetch("SELECT name FROM tags ORDER BY name")
    assert [row["name"] for row in tags] == ["A", "B"]


async def test_who_is_not_enrolled_by_an_event_is_written_down_with_the_reason(
    world: World,
) -> None:
    await world.workflow(WAIT, trigger={"event_type": "form_submit"})
    contact = await world.contact()
    async with world.pool.acquire() as db, db.transaction():
        event = IncomingEvent(world.account_id, "form_submit", contact)
        ids, _ = await take_in(db, [event, event])
    await world.settle()
    third = await world.event("form_submit", contact)
    refusals = await world.pool.fetch("SELECT * FROM enrollment_refusals ORDER BY event_id")
    assert [(r["event_id"], r["reason"]) for r in refusals] == [
        (ids[1], "already_enrolled"),
        (third, "already_enrolled"),
    ]
    assert await world.pool.fetchval("SELECT event_id FROM workflow_executions") == ids[0]


async def test_a_chain_of_events_is_ended_by_the_loop_guard(world: World) -> None:
    """Each workflow's event starts the other one, and so on."""
    await world.workflow(
        ("add_note", {"content": "again"}), trigger={"event_type": "tag_added"}, name="Notes"
    )
    await world.workflow(
        ("remove_tag", {"tag_name": "t"}),
        ("add_tag", {"tag_name": "t"}),
        trigger={"event_type": "note_added"},
        name="Tags",
    )
    start = await world.workflow(("add_note", {"content": "go"}), name="Start")
    await world.run(start, await world.contact())
    depths = await world.pool.fetch(
        "SELECT event_depth FROM workflow_executions ORDER BY event_depth"
    )
    assert [row["event_depth"] for row in depths] == list(range(world.settings.max_event_depth + 1))
    refusals = await world.pool.fetch("SELECT reason FROM enrollment_refusals")
    assert [row["reason"] for row in refusals] == ["loop_guard"]


async def test_an_event_that_commits_late_with_a_lower_id_is_not_skipped(
    world: World, conn: asyncpg.Connection
) -> None:
    await world.workflow(("add_tag", {"tag_name": "A"}), trigger={"event_type": "form_submit"})
    early, late = await world.contacts(2)
    async with conn.transaction():
        (first,), _ = await take_in(conn, [IncomingEvent(world.account_id, "form_submit", early)])
        second = await world.event("form_submit", late)
        assert first is not None
        assert second is not None
        assert first < second
        assert await world.pool.fetchval("SELECT count(*) FROM workflow_executions") == 1
    await world.settle()
    contacts = await world.pool.fetch("SELECT contact_id FROM workflow_executions")
    assert {row["contact_id"] for row in contacts} == {early, late}


async def test_two_workers_that_hand_on_the_same_events_start_each_run_once(
    world: World,
) -> None:
    await world.workflow(("add_tag", {"tag_name": "A"}), trigger={"event_type": "form_submit"})
    contacts = await world.contacts(INSTALMENT + 50)
    async with world.pool.acquire() as db, db.transaction():
        await take_in(db, [IncomingEvent(world.account_id, "form_submit", c) for c in contacts])
    other = await world.new_worker()
    await asyncio.gather(world.worker.hand_on_events(), other.hand_on_events())
    await world.settle()
    done = await world.pool.fetchval(
        "SELECT count(*) FROM workflow_executions WHERE status = 'completed'"
    )
    assert done == len(contacts)
    assert await world.pool.fetchval("SELECT count(*) FROM enrollment_refusals") == 0


async def test_a_workflow_that_cannot_be_read_does_not_hold_up_the_events_of_others(
    world: World,
) -> None:
    trigger = {"event_type": "form_submit"}
    bad = await world.workflow(("add_tag", {"tag_name": "A"}), trigger=trigger, name="Bad")
    await world.workflow(("add_tag", {"tag_name": "B"}), trigger=trigger, name="Good")
    await world.pool.execute(
        "UPDATE workflow_version_actions SET action_config = '{\"tag_name\": 5}'"
        " WHERE version_id = (SELECT active_version_id FROM workflows WHERE id = $1)",
        bad,
    )
    contact = await world.contact()
    await world.event("form_submit", contact)
    tags = await world.pool.fetch("SELECT name FROM tags")
    assert [row["name"] for row in tags] == ["B"]
    refusal = await world.pool.fetchrow("SELECT * FROM enrollment_refusals")
    assert refusal is not None
    assert (refusal["workflow_id"], refusal["reason"]) == (bad, "workflow_unreadable")


async def test_an_event_of_a_paused_workflow_starts_nothing(world: World) -> None:
    workflow = await world.workflow(
        ("add_tag", {"tag_name": "A"}), trigger={"event_type": "form_submit"}
    )
    contact = await world.contact()
    async with world.pool.acquire() as db, db.transaction():
        # Taken in while the workflow was active, handed on once it is paused.
        await take_in(db, [IncomingEvent(world.account_id, "form_submit", contact)])
        await db.execute("DELETE FROM workflow_triggers")
        await db.execute("UPDATE workflows SET status = 'paused' WHERE id = $1", workflow)
    await world.settle()
    assert await world.pool.fetchval("SELECT count(*) FROM workflow_executions") == 0
    undispatched = "SELECT count(*) FROM domain_events WHERE dispatched_at IS NULL"
    assert await world.pool.fetchval(undispatched) == 0
