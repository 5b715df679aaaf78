"""Wake-ups, timers, sweep and housekeeping: what falls due is found, whatever was missed."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import clock, lanes, wakeups
from runtime.bells import Bells
from runtime.housekeeping import keep_house
from runtime.registry import TimerType
from runtime.stage import Stage
from runtime.sweep import sweep
from runtime.timers import Timer, set_timer
from runtime.wakeups import HORIZON, bucket_of, near, plan, wake
from tests.stand_ins import WorldWith, registry_with
from tests.world import World

WAIT = ("wait_time", {"duration": 1, "unit": "hours"})
WIDTH = timedelta(milliseconds=250)

instants = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
widths = st.timedeltas(timedelta(milliseconds=10), timedelta(minutes=1))


# Buckets


@given(instants, widths)
def test_a_bucket_ends_never_before_its_instant_and_less_than_a_width_after(
    due: datetime, width: timedelta
) -> None:
    bucket = bucket_of(due, width)
    assert due <= bucket < due + width
    assert bucket_of(bucket, width) == bucket


@given(instants, widths, st.floats(0, 1))
def test_what_falls_due_within_one_bucket_shares_its_wake_up(
    due: datetime, width: timedelta, part: float
) -> None:
    bucket = bucket_of(due, width)
    assert bucket_of(bucket - width * part * 0.999, width) == bucket


@given(instants, st.lists(st.timedeltas(-HORIZON, 3 * HORIZON), max_size=20))
def test_only_the_near_future_gets_tickets(now: datetime, ahead: list[timedelta]) -> None:
    buckets = near([now + by for by in ahead], now, WIDTH)
    assert buckets == sorted(set(buckets))
    assert set(buckets) == {bucket_of(now + by, WIDTH) for by in ahead if by <= HORIZON}


# Waking


async def test_sleepers_are_made_ready_in_instalments_longest_due_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "INSTALMENT", 10)
    workflow = await world.workflow(WAIT)
    contacts = await world.contacts(25)
    await world.enrol(workflow, *contacts[:5])
    await world.settle()
    await clock.advance(world.pool, timedelta(minutes=1))
    await world.enrol(workflow, *contacts[5:])
    await world.settle()
    await clock.advance(world.pool, timedelta(hours=1))
    bells, more = await wake(world.pool)
    assert (bells.families, more) == ({"timing"}, True)
    woken = await world.pool.fetch(
        "SELECT contact_id FROM workflow_action_executions WHERE status = 'pending'"
    )
    assert len(woken) == 10
    assert {row["contact_id"] for row in woken} >= set(contacts[:5])
    assert [(await wake(world.pool))[1] for _ in range(2)] == [True, False]
    await world.settle()
    assert (
        await world.pool.fetchval(
            "SELECT count(*) FROM workflow_executions WHERE status = 'completed'"
        )
        == 25
    )


async def test_two_workers_that_wake_at_once_make_each_step_ready_once(world: World) -> None:
    workflow = await world.workflow(WAIT)
    await world.enrol(workflow, *await world.contacts(50))
    await world.settle()
    await clock.advance(world.pool, timedelta(hours=1))
    other = await world.new_worker()
    await asyncio.gather(world.worker.wake(), other.wake())
    await asyncio.gather(world.settle(), world.settle(other))
    attempts = await world.pool.fetchval("SELECT count(*) FROM workflow_action_attempts")
    assert attempts == 2 * 50


async def test_nothing_is_woken_before_its_instant(world: World) -> None:
    workflow = await world.workflow(WAIT)
    execution = await world.run(workflow, await world.contact())
    (step,) = await world.steps(execution)
    left = step["scheduled_at"] - await clock.current_instant(world.pool)
    await clock.advance(world.pool, left - timedelta(minutes=1))
    assert await wake(world.pool) == (Bells(), False)
    await clock.advance(world.pool, timedelta(minutes=1))
    assert (await wake(world.pool))[0].families == {"timing"}


async def test_lanes_whose_hold_is_over_are_released_and_rung_for(world: World) -> None:
    workflow = await world.workflow(WAIT)
    await world.enrol(workflow, await world.contact())
    lane = await world.pool.fetchval("SELECT lane_id FROM workflow_action_executions")
    async with world.pool.acquire() as db:
        now = await clock.current_instant(db)
        await lanes.hold(db, [lane], [now + timedelta(minutes=1)], "rate_limit")
    assert (await wake(world.pool))[0].families == set()
    await clock.advance(world.pool, timedelta(minutes=1))
    assert (await wake(world.pool))[0].families == {"timing"}
    row = await world.pool.fetchrow("SELECT * FROM lanes WHERE id = $1", lane)
    assert row is not None
    assert (row["held_until"], row["held_reason"]) == (None, None)


async def test_the_plan_names_each_near_bucket_in_which_anything_falls_due(
    world: World, conn: asyncpg.Connection
) -> None:
    workflow = await world.workflow(WAIT)
    await world.enrol(workflow, *await world.contacts(5))
    await world.settle()
    now = await clock.current_instant(conn)
    steps = await conn.fetch("SELECT id FROM workflow_action_executions ORDER BY id")
    ahead = [timedelta(seconds=s) for s in (5, 5.01, 20, 80, 200)]
    dues = [now + by for by in ahead]
    for step, due in zip(steps, dues, strict=True):
        status = "waiting" if due == dues[2] else "scheduled"
        await conn.execute(
            "UPDATE workflow_action_executions SET scheduled_at = $2, status = $3,"
            " waiting_for = 'form_submit' WHERE id = $1",
            step["id"],
            due,
            status,
        )
    await set_timer(conn, world.account_id, "test", now + timedelta(seconds=33), {})
    lane = await conn.fetchval("SELECT lane_id FROM workflow_action_executions LIMIT 1")
    await lanes.hold(conn, [lane], [now + timedelta(seconds=44)], "rate_limit")
    expected = [*dues[:4], now + timedelta(seconds=33), now + timedelta(seconds=44)]
    assert await plan(conn, WIDTH) == sorted({bucket_of(due, WIDTH) for due in expected})


async def test_a_wake_up_is_one_ticket_for_the_real_instant_of_its_bucket(world: World) -> None:
    await clock.advance(world.pool, timedelta(days=10))
    now = await clock.current_instant(world.pool)
    due = bucket_of(now + timedelta(seconds=10), WIDTH)
    for _ in range(2):
        await world.worker.bell.ring_wakeups([due])
    (job,) = await world.pool.fetch("SELECT * FROM procrastinate_jobs")
    assert (job["queue_name"], job["task_name"], job["status"]) == ("wake", "wake", "todo")
    assert job["scheduled_at"] == due - timedelta(days=10)


# The sweep


async def _tickets(world: World) -> set[tuple[str, str]]:
    rows = await world.pool.fetch(
        "SELECT queue_name, task_name FROM procrastinate_jobs"
        " WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())"
    )
    return {tuple(row) for row in rows}


async def test_a_lost_ticket_is_rung_anew(world: World) -> None:
    workflow = await world.workflow(WAIT)
    await world.enrol(workflow, await world.contact())
    assert await _tickets(world) == set()
    await world.worker.sweep()
    assert await _tickets(world) == {("timing", "ticket")}


async def test_what_may_not_run_is_not_rung_for(world: World) -> None:
    workflow = await world.workflow(WAIT)
    await world.enrol(workflow, await world.contact())
    await world.pool.execute("UPDATE lanes SET is_paused = true")
    await world.worker.sweep()
    assert await _tickets(world) == set()


async def test_a_missed_wake_up_is_caught_up(world: World) -> None:
    workflow = await world.workflow(WAIT)
    await world.run(workflow, await world.contact())
    await world.pool.execute("DELETE FROM procrastinate_jobs")
    await clock.advance(world.pool, timedelta(days=3))
    await world.worker.sweep()
    queues = await world.pool.fetch("SELECT DISTINCT queue_name FROM procrastinate_jobs")
    assert [row["queue_name"] for row in queues] == ["wake"]


async def test_events_that_nobody_handed_on_are_rung_for(world: World) -> None:
    await world.workflow(WAIT, trigger={"event_type": "form_submit"})
    await world.pool.execute(
        "INSERT INTO domain_events (account_id, event_type, occurred_at) VALUES ($1, $2, now())",
        world.account_id,
        "form_submit",
    )
    bells, _ = await sweep(world.pool, world.registry)
    assert bells.events
    await world.settle()
    bells, _ = await sweep(world.pool, world.registry)
    assert not bells.events


# Timers


async def test_a_due_timer_fires_once(world_with: WorldWith) -> None:
    fired: list[str] = []

    async def fire(stage: Stage, timers: Sequence[Timer]) -> None:
        fired.extend(timer.payload["name"] for timer in timers)
        await stage.db.execute("SELECT 1")

    world = await world_with(registry_with(timers=[TimerType("test", fire)]))
    now = await clock.current_instant(world.pool)
    async with world.pool.acquire() as db:
        for n in range(30):
            due = now + timedelta(hours=1 + n // 20)
            await set_timer(db, world.account_id, "test", due, {"name": str(n)})
    await world.settle()
    assert fired == []
    await clock.advance(world.pool, timedelta(hours=1))
    other = await world.new_worker()
    await asyncio.gather(world.worker.wake(), other.wake())
    assert sorted(fired, key=int) == [str(n) for n in range(20)]
    await world.advance(hours=1)
    assert len(fired) == 30
    assert await world.pool.fetchval("SELECT count(*) FROM timers") == 0


async def test_a_timer_that_is_set_again_under_its_key_is_moved(world_with: WorldWith) -> None:
    fired: list[object] = []

    async def fire(_stage: Stage, timers: Sequence[Timer]) -> None:
        fired.extend(timer.payload for timer in timers)

    world = await world_with(registry_with(timers=[TimerType("test", fire)]))
    now = await clock.current_instant(world.pool)
    async with world.pool.acquire() as db:
        for hours in (1, 2):
            due = now + timedelta(hours=hours)
            await set_timer(db, world.account_id, "test", due, {"h": hours}, dedupe_key="k")
    await world.advance(hours=1)
    assert fired == []
    await world.advance(hours=1)
    assert fired == [{"h": 2}]


async def test_a_timer_that_fails_is_put_off_and_holds_up_no_other(world_with: WorldWith) -> None:
    fired: list[str] = []
    broken = [True]

    async def fire(stage: Stage, timers: Sequence[Timer]) -> None:
        names = [str(timer.payload["name"]) for timer in timers]
        if "bad" in names and broken[0]:
            await stage.db.execute("SELECT 1 / 0")
        fired.extend(names)

    types = [TimerType("a", fire), TimerType("b", fire)]
    world = await world_with(registry_with(timers=types))
    now = await clock.current_instant(world.pool)
    async with world.pool.acquire() as db:
        for kind, name in (("a", "1"), ("a", "bad"), ("a", "2"), ("b", "3")):
            await set_timer(db, world.account_id, kind, now, {"name": name})
    await world.settle()
    assert sorted(fired) == ["1", "2", "3"]
    left = await world.pool.fetchrow("SELECT * FROM timers")
    assert left is not None
    assert (left["payload"], left["failures"]) == ({"name": "bad"}, 1)
    assert left["due_at"] > now + timedelta(minutes=1)
    broken[0] = False
    await world.advance(minutes=2)
    assert sorted(fired) == ["1", "2", "3", "bad"]


# Housekeeping


async def test_what_is_past_its_retention_is_deleted_and_nothing_else(world: World) -> None:
    old = await world.workflow(("add_tag", {"tag_name": "A"}), name="Old")
    asleep = await world.workflow(("wait_time", {"duration": 99, "unit": "weeks"}), name="Asleep")
    ada, bob = await world.contacts(2)
    await world.run(old, ada)
    await world.run(asleep, ada)
    await clock.advance(world.pool, timedelta(days=91))
    gone = await keep_house(world.pool, world.settings)
    assert (gone["events"], gone["executions"]) == (1, 0)
    await world.run(old, bob)
    await clock.advance(world.pool, timedelta(days=300))
    gone = await keep_house(world.pool, world.settings)
    assert gone["executions"] == 1
    left = await world.pool.fetch("SELECT contact_id, status FROM workflow_executions")
    assert {tuple(row) for row in left} == {(ada, "running"), (bob, "completed")}
    steps = await world.pool.fetch("SELECT status FROM workflow_action_executions")
    assert {row["status"] for row in steps} == {"scheduled", "completed"}


async def test_retention_is_as_long_as_the_settings_say(world_with: WorldWith) -> None:
    world = await world_with(retention_executions_days=2.0, retention_events_days=1.0)
    await world.run(await world.workflow(("add_tag", {"tag_name": "A"})), await world.contact())
    await clock.advance(world.pool, timedelta(days=1, hours=1))
    gone = await keep_house(world.pool, world.settings)
    assert (gone["events"], gone["executions"]) == (1, 0)
    await clock.advance(world.pool, timedelta(days=1))
    assert (await keep_house(world.pool, world.settings))["executions"] == 1


async def test_a_stalled_ticket_is_finished_and_its_work_rung_anew(world: World) -> None:
    workflow = await world.workflow(WAIT)
    await world.enrol(workflow, await world.contact())
    await world.worker.bell.ring_families(["timing"])
    worker = await world.pool.fetchval(
        "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')"
        " RETURNING id"
    )
    await world.pool.execute(
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = $1", worker
    )
    await world.worker.bell.ring_families(["timing"])  # a retry would collide with this one
    assert (await keep_house(world.pool, world.settings))["stalled_tickets"] == 1
    statuses = await world.pool.fetch("SELECT status::text FROM procrastinate_jobs ORDER BY id")
    assert [row["status"] for row in statuses] == ["failed", "todo"]
    assert await _tickets(world) == {("timing", "ticket")}
