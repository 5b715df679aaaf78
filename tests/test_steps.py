"""Steps: performed in one commit, skipped, branched, retried, held, paused, cancelled."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import activation, clock, executions, lanes, performing
from runtime.claims import queries as claims
from runtime.events import IncomingEvent, take_in
from runtime.failures import Failure, Kind, backoff
from runtime.lanes import MOST_LANES
from runtime.outcomes import Done, Failed, Outcome, Sleep
from runtime.performing import MAX_ROUNDS
from runtime.stage import Item, Stage
from tests.stand_ins import WorldWith, acting, each, registry_with
from tests.world import World

UNUSABLE = ("add_tag", {"tag_name": "{{contact.no_such_field}}"})
"""Fails when it is performed, with the code tag_name_unusable: it renders to nothing."""


def tag(name: str, **columns: Any) -> dict[str, Any]:
    return {"action_type": "add_tag", "action_config": {"tag_name": name}, **columns}


def failing(**columns: Any) -> dict[str, Any]:
    return {"action_type": UNUSABLE[0], "action_config": UNUSABLE[1], **columns}


async def tags_of(world: World, contact_id: UUID) -> list[str]:
    rows = await world.pool.fetch(
        "SELECT t.name FROM contact_tags c JOIN tags t ON t.id = c.tag_id"
        " WHERE c.contact_id = $1 ORDER BY t.name",
        contact_id,
    )
    return [row["name"] for row in rows]


# One commit


async def test_steps_are_fused_up_to_and_with_a_contended_action(world_with: WorldWith) -> None:
    contended = acting(each(lambda _item: Done()), contended=True)
    world = await world_with(registry_with(contended))
    workflow = await world.workflow(tag("A"), tag("B"), ("custom_code", {}), tag("C"))
    execution = await world.run(workflow, await world.contact())
    commits = [
        row["commit"]
        for row in await world.pool.fetch(
            "SELECT a.xmin::text AS commit FROM workflow_action_attempts a"
            " JOIN workflow_action_executions s ON s.id = a.step_id ORDER BY s.sequence"
        )
    ]
    assert await world.statuses(execution) == ["completed"] * 4
    assert commits[0] == commits[1] == commits[2] != commits[3]


async def test_a_long_chain_is_committed_in_parts(world: World) -> None:
    workflow = await world.workflow(*(tag(f"T{n}") for n in range(MAX_ROUNDS + 4)))
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["completed"] * (MAX_ROUNDS + 4)
    commits = await world.pool.fetchval(
        "SELECT count(DISTINCT xmin::text) FROM workflow_action_attempts"
    )
    assert commits == 2


async def test_steps_of_one_contact_in_one_batch_see_each_other_s_changes(
    world_with: WorldWith,
) -> None:
    seen: list[str] = []

    async def rename(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        assert len({item.contact_id for item in items}) == len(items)
        for item in items:
            seen.append(item.contact["first_name"])
            item.contact["first_name"] += "!"
            await stage.db.execute(
                "UPDATE contacts SET first_name = $2 WHERE id = $1",
                item.contact_id,
                item.contact["first_name"],
            )
        return [Done() for _ in items]

    world = await world_with(registry_with(acting(rename)))
    workflow = await world.workflow(("custom_code", {}))
    contact = await world.contact(first_name="Ada")
    for key in ("a", "b", "c"):
        await world.enrol(workflow, contact, entry_key=key)
    await world.settle()
    assert seen == ["Ada", "Ada!", "Ada!!"]


# What a step may read, and where it leads


async def test_a_disabled_action_is_skipped_with_a_reason(world: World) -> None:
    workflow = await world.workflow(tag("A", is_enabled=False), tag("B"))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    skipped, performed = await world.steps(execution)
    assert (skipped["status"], skipped["skip_reason"]) == ("skipped", "disabled")
    assert performed["status"] == "completed"
    assert await tags_of(world, contact) == ["B"]


async def test_results_of_earlier_steps_are_merge_fields_in_the_same_and_in_later_commits(
    world: World,
) -> None:
    workflow = await world.workflow(
        tag("First", key="first"),
        tag("after {{steps.first.tag_name}}"),
        ("wait_time", {"duration": 1, "unit": "hours"}),
        tag("long after {{steps.first.tag_name}}"),
    )
    contact = await world.contact()
    await world.run(workflow, contact)
    await world.advance(hours=1)
    assert set(await tags_of(world, contact)) == {"after First", "First", "long after First"}


async def test_a_branch_is_entered_and_ends_the_execution_with_its_last_action(
    world: World,
) -> None:
    workflow = await world.workflow(
        (
            "wait_for_event",
            {
                "event_type": "form_submit",
                "timeout_duration": 1,
                "timeout_unit": "days",
                "timeout_action": "branch",
                "timeout_branch_id": "branch:late",
            },
        ),
        tag("In time"),
        tag("Late", branch="late"),
        tag("Very late", branch="late"),
    )
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    await world.advance(days=1)
    assert await tags_of(world, contact) == ["Late", "Very late"]
    assert (await world.execution(execution))["status"] == "completed"


# Failures (R7)


async def test_action_failure_handling(world: World) -> None:
    """R7.1: an execution does not go on when an action fails critically."""
    workflow = await world.workflow(tag("Before"), failing(), tag("Behind"))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    assert await world.statuses(execution) == ["completed", "failed"]
    ended = await world.execution(execution)
    assert (ended["status"], ended["end_reason"]) == ("failed", "tag_name_unusable")
    assert ended["completed_at"] is not None
    assert await tags_of(world, contact) == ["Before"]


async def test_action_failure_handling_goes_on_behind_a_non_blocking_error(world: World) -> None:
    workflow = await world.workflow(failing(on_failure="continue"), tag("Behind"))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    assert await world.statuses(execution) == ["failed", "completed"]
    assert (await world.execution(execution))["status"] == "completed"
    assert await tags_of(world, contact) == ["Behind"]


async def test_a_fallback_in_the_same_chain_is_a_jump(world: World) -> None:
    workflow = await world.workflow(failing(fallback=2), tag("Left out"), tag("Fallback"), tag("C"))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    assert await tags_of(world, contact) == ["C", "Fallback"]
    assert (await world.execution(execution))["status"] == "completed"


async def test_a_fallback_in_a_branch_is_a_detour_that_comes_back_behind_the_failed_action(
    world: World,
) -> None:
    workflow = await world.workflow(
        failing(fallback=2),
        tag("Behind"),
        tag("Detour 1", branch="plan b"),
        {
            "action_type": "wait_time",
            "action_config": {"duration": 1, "unit": "hours"},
            "branch": "plan b",
        },
        tag("Detour 2", branch="plan b"),
    )
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    assert await tags_of(world, contact) == ["Detour 1"]
    await world.advance(hours=1)
    steps = await world.steps(execution)
    assert [s["key"] for s in steps] == [
        "add_tag_0", "add_tag_2", "wait_time_3", "add_tag_4", "add_tag_1",
    ]  # fmt: skip
    assert (await world.execution(execution))["status"] == "completed"


async def test_a_detour_behind_the_last_action_ends_the_execution(world: World) -> None:
    workflow = await world.workflow(failing(fallback=1), tag("Detour", branch="plan b"))
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["failed", "completed"]
    assert (await world.execution(execution))["status"] == "completed"


async def test_a_fallback_that_fails_itself_fails_the_execution(world: World) -> None:
    workflow = await world.workflow(failing(fallback=2), tag("Behind"), failing(branch="plan b"))
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["failed", "failed"]
    assert (await world.execution(execution))["status"] == "failed"


@pytest.fixture
def full_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that the jitter may give, so that no retry falls due by itself."""
    monkeypatch.setattr(performing, "backoff", partial(backoff, jitter=lambda: 1.0))


def _unavailable(times: int, kind: Kind = Kind.SERVICE_UNAVAILABLE) -> Any:
    """A performance that fails so often before it succeeds."""
    left = [times]

    def act(_item: Item) -> Outcome:
        left[0] -= 1
        return Failed(Failure(kind, "away", "it is away")) if left[0] >= 0 else Done()

    return each(act)


@pytest.mark.usefixtures("full_backoff")
async def test_a_retryable_error_is_retried_with_backoff_and_each_retry_is_logged(
    world_with: WorldWith,
) -> None:
    """R7.2, up to the success of the last retry."""
    world = await world_with(registry_with(acting(_unavailable(3))))
    workflow = await world.workflow(("custom_code", {"line": "x"}), tag("Behind"))
    execution = await world.run(workflow, await world.contact())
    for retry in (1, 2, 3):
        (step,) = await world.steps(execution)
        assert (step["status"], step["retry_count"]) == ("scheduled", retry)
        wait = step["scheduled_at"] - await clock.current_instant(world.pool)
        assert timedelta(0) < wait <= timedelta(seconds=2**retry)
        assert step["error_code"] == "away"
        await world.advance(seconds=2**retry)
    assert await world.statuses(execution) == ["completed", "completed"]
    log = await world.pool.fetch(
        "SELECT attempt, outcome, error_kind FROM workflow_action_attempts t"
        " JOIN workflow_actions a ON a.id = t.action_id"
        " WHERE a.action_type = 'custom_code' ORDER BY attempt"
    )
    assert [tuple(row) for row in log] == [
        (1, "retried", "service_unavailable"),
        (2, "retried", "service_unavailable"),
        (3, "retried", "service_unavailable"),
        (4, "completed", None),
    ]
    step, _ = await world.steps(execution)
    assert step["error_code"] is None
    assert step["attempt"] == 4


@pytest.mark.usefixtures("full_backoff")
@pytest.mark.parametrize(
    ("kind", "retries"), [(Kind.NETWORK_TIMEOUT, 3), (Kind.RATE_LIMIT, 5), (Kind.REFUSED, 0)]
)
async def test_a_step_is_marked_as_failed_after_the_maximum_of_retries(
    world_with: WorldWith, kind: Kind, retries: int
) -> None:
    """R7.2."""
    world = await world_with(registry_with(acting(_unavailable(99, kind))))
    workflow = await world.workflow(("custom_code", {}), tag("Behind"))
    execution = await world.run(workflow, await world.contact())
    for _ in range(retries):
        assert await world.statuses(execution) == ["scheduled"]
        await world.advance(minutes=1)
    (step,) = await world.steps(execution)
    assert (step["status"], step["retry_count"]) == ("failed", retries)
    assert (await world.execution(execution))["end_reason"] == "away"


async def test_every_attempt_is_logged_completely(world: World) -> None:
    """R7.3: timestamp, contact, type and configuration, duration, status, error."""
    before = await clock.current_instant(world.pool)
    workflow = await world.workflow(
        tag("A", is_enabled=False),
        tag("B {{contact.first_name}}"),
        ("wait_time", {"duration": 1, "unit": "hours"}),
        failing(),
    )
    contact = await world.contact(first_name="Ada")
    await world.run(workflow, contact)
    after = await world.advance(hours=1)
    rows = await world.pool.fetch("SELECT * FROM action_log ORDER BY at, attempt, step_id")
    assert [(r["action_type"], r["attempt"], r["status"]) for r in rows] == [
        ("add_tag", 1, "skipped"),
        ("add_tag", 1, "completed"),
        ("wait_time", 1, "slept"),
        ("wait_time", 2, "completed"),
        ("add_tag", 1, "failed"),
    ]
    assert {r["contact_id"] for r in rows} == {contact}
    assert rows[1]["action_config"] == {"tag_name": "B {{contact.first_name}}"}
    assert rows[2]["action_config"] == {"duration": 1, "unit": "hours"}
    for row in rows:
        assert before < row["at"] < after + timedelta(minutes=1)
        assert 0 <= row["duration_ms"] < 60_000
    assert (rows[4]["error_kind"], rows[4]["error_code"]) == ("invalid_config", "tag_name_unusable")
    assert "1 to 100 characters" in rows[4]["error_message"]
    assert all(row["error_code"] is None for row in rows[:4])


async def test_an_outcome_that_is_none_fails_its_step_instead_of_leaving_it_ready_for_ever(
    world_with: WorldWith,
) -> None:
    nothing: Any = None
    world = await world_with(registry_with(acting(each(lambda _item: nothing))))
    workflow = await world.workflow(("custom_code", {}))
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["failed"]


# Guards


async def test_an_execution_without_end_is_ended_by_the_loop_guard(world_with: WorldWith) -> None:
    world = await world_with(max_steps_per_execution=3)
    workflow = await world.workflow(tag("A"), tag("B"), tag("C"), tag("D"))
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["completed"] * 3
    ended = await world.execution(execution)
    assert (ended["status"], ended["end_reason"]) == ("failed", "loop_guard")


async def test_a_contact_has_one_live_run_in_a_workflow_unless_an_entry_key_says_otherwise(
    world: World,
) -> None:
    workflow = await world.workflow(("wait_time", {"duration": 1, "unit": "hours"}))
    contact = await world.contact()
    (first,) = await world.enrol(workflow, contact)
    (again,) = await world.enrol(workflow, contact)
    (keyed,) = await world.enrol(workflow, contact, entry_key="order 7")
    (keyed_again,) = await world.enrol(workflow, contact, entry_key="order 7")
    assert (again.execution_id, again.reason) == (None, "already_enrolled")
    assert keyed_again.reason == "already_enrolled"
    assert first.execution_id != keyed.execution_id is not None
    await world.settle()
    await world.advance(hours=1)
    (later,) = await world.enrol(workflow, contact)
    assert later.execution_id is not None


async def test_of_two_enrolments_at_the_same_time_one_begins_the_run(world: World) -> None:
    workflow = await world.workflow(("wait_time", {"duration": 1, "unit": "hours"}))
    contacts = await world.contacts(50)
    both = await asyncio.gather(
        world.enrol(workflow, *contacts), world.enrol(workflow, *reversed(contacts))
    )
    begun = [e.contact_id for part in both for e in part if e.execution_id is not None]
    refused = [e.contact_id for part in both for e in part if e.reason == "already_enrolled"]
    assert sorted(begun) == sorted(refused) == sorted(contacts)
    assert await world.pool.fetchval("SELECT count(*) FROM workflow_action_executions") == 50


# Lanes


async def _claim(db: asyncpg.Connection, size: int, behind: int = 0) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await db.fetch(claims.claim_steps, "crm", size, behind, MOST_LANES)
    return rows


async def test_higher_priority_comes_first_within_a_lane_then_the_older(
    world: World, conn: asyncpg.Connection
) -> None:
    workflow = await world.workflow(tag("A"))
    contacts = await world.contacts(6)
    for contact, priority in zip(contacts, (0, 5, -3, 5, 0, 9), strict=True):
        await world.enrol(workflow, contact, priority=priority)
    async with conn.transaction():
        claimed = [row["contact_id"] for row in await _claim(conn, 5)]
    assert claimed == [contacts[n] for n in (5, 1, 3, 0, 4)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ready=st.lists(st.integers(0, 40), min_size=2, max_size=7),
    size=st.integers(1, 30),
    held=st.sets(st.integers(0, 6)),
)
async def test_every_open_lane_with_ready_work_gets_its_share_of_each_claim(
    lanes_of_seven: list[int], conn: asyncpg.Connection, ready: list[int], size: int, held: set[int]
) -> None:
    transaction = conn.transaction()
    await transaction.start()
    try:
        expected = await _fill(conn, lanes_of_seven, ready, held)
        rows = await _claim(conn, size)
        claimed = {lane: sum(r["lane_id"] == lane for r in rows) for lane in expected}
        assert {r["lane_id"] for r in rows} <= set(expected)
        served = sorted(expected)[:size]
        share = -(-size // len(served)) if served else 0
        for lane in served:
            assert claimed[lane] == min(expected[lane], share)
    finally:
        await transaction.rollback()


@pytest.fixture
async def lanes_of_seven(world: World) -> list[int]:
    """Seven workflows, each with forty parked steps in its lane."""
    contacts = await world.contacts(40)
    found = []
    for n in range(7):
        workflow = await world.workflow(tag("A"), name=f"W{n}")
        await world.enrol(workflow, *contacts)
        version = await world.worker.versions.active(world.account_id, workflow)
        assert version is not None
        found.append(version.actions[version.heads[None]].lane_id)
    await world.pool.execute("UPDATE workflow_action_executions SET hold = 'parked'")
    return sorted(found)


async def _fill(
    conn: asyncpg.Connection, lane_ids: list[int], ready: list[int], held: set[int]
) -> dict[int, int]:
    """Put so many steps into each lane and hold some of them; gives the open, busy lanes."""
    for lane, count in zip(lane_ids, ready, strict=False):
        await conn.execute(
            "UPDATE workflow_action_executions SET hold = NULL WHERE id IN ("
            " SELECT id FROM workflow_action_executions WHERE lane_id = $1 LIMIT $2)",
            lane,
            count,
        )
    now = await clock.current_instant(conn)
    shut = [lane_ids[n] for n in held]
    await lanes.hold(conn, shut, [now + timedelta(hours=1)] * len(shut), "rate_limit")
    pairs = zip(lane_ids, ready, strict=False)
    return {lane: count for lane, count in pairs if count and lane not in shut}


async def test_more_lanes_than_a_batch_has_places_take_turns(world_with: WorldWith) -> None:
    world = await world_with(batch_size=2)
    contacts = await world.contacts(12)
    workflows = [await world.workflow(tag("A"), name=f"W{n}") for n in range(5)]
    for workflow in workflows:
        await world.enrol(workflow, *contacts)
    for _ in range(4):
        await world.worker._steps["crm"]._batches.run("crm")
    served = await world.pool.fetch(
        "SELECT DISTINCT workflow_id FROM workflow_executions WHERE status = 'completed'"
    )
    assert {row["workflow_id"] for row in served} == set(workflows)


async def test_an_open_lane_behind_very_many_held_ones_is_found(world: World) -> None:
    contact = await world.contact()
    held = [await world.workflow(tag("A"), name=f"W{n}") for n in range(3)]
    for workflow in held:
        await world.enrol(workflow, contact)
    template = await world.pool.fetchrow("SELECT * FROM workflow_action_executions LIMIT 1")
    assert template is not None
    # Steps that belong to the first run: held lanes cost the claim nothing, however many.
    await world.pool.execute(
        "WITH w AS (INSERT INTO workflows (account_id, name)"
        " SELECT $1, 'W' || n FROM generate_series(1, $2) n RETURNING id),"
        " l AS (INSERT INTO lanes (account_id, family, workflow_id, is_paused)"
        " SELECT $1, 'crm', w.id, true FROM w RETURNING id)"
        " INSERT INTO workflow_action_executions (account_id, workflow_execution_id, action_id,"
        " contact_id, family, lane_id) SELECT $1, $3, $4, $5, 'crm', l.id FROM l",
        world.account_id,
        MOST_LANES + 10,
        template["workflow_execution_id"],
        template["action_id"],
        template["contact_id"],
    )
    await world.pool.execute("UPDATE lanes SET is_paused = true")
    await world.settle()  # comes to its end although nothing is open
    last = await world.workflow(tag("Last"), name="Last")
    execution = await world.run(last, contact)
    assert await world.statuses(execution) == ["completed"]


async def test_a_held_lane_runs_again_from_its_instant_on(world: World) -> None:
    workflow = await world.workflow(tag("A"))
    (enrolment,) = await world.enrol(workflow, await world.contact())
    assert enrolment.execution_id is not None
    version = await world.worker.versions.active(world.account_id, workflow)
    assert version is not None
    lane = version.actions[version.heads[None]].lane_id
    async with world.pool.acquire() as db:
        now = await clock.current_instant(db)
        await lanes.hold(db, [lane], [now + timedelta(minutes=10)], "rate_limit")
        await lanes.hold(db, [lane], [now + timedelta(minutes=5)], "rate_limit")
    await world.settle()
    await world.advance(minutes=6)
    assert await world.statuses(enrolment.execution_id) == ["pending"]
    await world.advance(minutes=4)
    (step,) = await world.steps(enrolment.execution_id)
    assert (step["status"], step["attempt"]) == ("completed", 1)


# Pause and resume


async def test_a_paused_workflow_begins_no_step_and_goes_on_when_it_is_activated_again(
    world: World,
) -> None:
    workflow = await world.workflow(("wait_time", {"duration": 1, "unit": "hours"}), tag("A"))
    execution = await world.run(workflow, await world.contact())
    async with world.pool.acquire() as db, db.transaction():
        now = await clock.current_instant(db)
        await activation.pause(db, now, world.account_id, workflow)
    await world.advance(hours=1)
    assert await world.statuses(execution) == ["pending"]
    await world.activate(workflow)
    await world.settle()
    assert await world.statuses(execution) == ["completed", "completed"]


async def test_a_lane_that_is_made_for_a_paused_workflow_is_paused_from_the_start(
    world: World,
) -> None:
    workflow = await world.workflow(tag("A"))
    async with world.pool.acquire() as db, db.transaction():
        now = await clock.current_instant(db)
        await activation.pause(db, now, world.account_id, workflow)
        await lanes.get_or_create_lanes(db, [("email", world.account_id, workflow, None)])
    assert await world.pool.fetchval("SELECT bool_and(is_paused) FROM lanes")


async def _pause(world: World, *execution_ids: UUID) -> None:
    async with world.pool.acquire() as db, db.transaction():
        await executions.pause(db, world.account_id, execution_ids)


async def _resume(world: World, *execution_ids: UUID) -> set[str]:
    async with world.pool.acquire() as db, db.transaction():
        now = await clock.current_instant(db)
        _, families = await executions.resume(db, now, world.account_id, execution_ids)
    return families


async def _cancel(world: World, *execution_ids: UUID) -> list[UUID]:
    async with world.pool.acquire() as db, db.transaction():
        now = await clock.current_instant(db)
        return await executions.cancel(db, now, world.account_id, execution_ids, "asked for")


async def test_a_paused_execution_waits_while_others_of_its_workflow_run(world: World) -> None:
    workflow = await world.workflow(tag("A"))
    paused, other = await world.enrol(workflow, *await world.contacts(2))
    assert paused.execution_id is not None
    assert other.execution_id is not None
    await _pause(world, paused.execution_id)
    await world.settle()
    assert await world.statuses(paused.execution_id) == ["pending"]
    assert await world.statuses(other.execution_id) == ["completed"]
    assert await _resume(world, paused.execution_id) == {"crm"}
    await world.settle()
    assert await world.statuses(paused.execution_id) == ["completed"]


async def test_a_wait_keeps_its_place_in_a_paused_execution(world: World) -> None:
    workflow = await world.workflow(("wait_time", {"duration": 1, "unit": "hours"}), tag("A"))
    execution = await world.run(workflow, await world.contact())
    await _pause(world, execution)
    await world.advance(hours=2)
    assert await world.statuses(execution) == ["pending"]
    await _resume(world, execution)
    await world.settle()
    (wait, _) = await world.steps(execution)
    assert await world.statuses(execution) == ["completed", "completed"]
    assert wait["result_data"]["waited_until"] is not None


@pytest.mark.parametrize("event_first", [True, False])
async def test_an_event_that_ended_a_wait_is_not_forgotten_by_a_pause(
    world: World, event_first: bool
) -> None:
    workflow = await world.workflow(("wait_for_event", {"event_type": "form_submit"}))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    answered = IncomingEvent(world.account_id, "form_submit", contact, {"form": "f1"})
    async with world.pool.acquire() as db, db.transaction():
        if event_first:
            await take_in(db, [answered])
        await executions.pause(db, world.account_id, [execution])
        if not event_first:
            await take_in(db, [answered])
    await world.settle()
    assert await world.statuses(execution) == ["pending"]
    await _resume(world, execution)
    await world.settle()
    (step,) = await world.steps(execution)
    assert step["result_data"]["event"]["payload"] == {"form": "f1"}


# Cancellation


async def test_what_is_cancelled_before_it_began_is_skipped_with_the_reason(world: World) -> None:
    workflow = await world.workflow(tag("A"))
    contact = await world.contact()
    (enrolment,) = await world.enrol(workflow, contact)
    assert enrolment.execution_id is not None
    assert await _cancel(world, enrolment.execution_id) == [enrolment.execution_id]
    await world.settle()
    (step,) = await world.steps(enrolment.execution_id)
    assert (step["status"], step["skip_reason"]) == ("skipped", "cancelled")
    assert step["error_message"] == "asked for"
    assert await tags_of(world, contact) == []
    ended = await world.execution(enrolment.execution_id)
    assert (ended["status"], ended["end_reason"]) == ("cancelled", "asked for")
    assert await _cancel(world, enrolment.execution_id) == []


@pytest.mark.parametrize(
    "wait",
    [
        ("wait_time", {"duration": 1, "unit": "hours"}),
        ("wait_for_event", {"event_type": "form_submit"}),
    ],
)
async def test_a_wait_that_is_cancelled_never_goes_on(
    world: World, wait: tuple[str, dict[str, Any]]
) -> None:
    workflow = await world.workflow(wait, tag("A"))
    contact = await world.contact()
    execution = await world.run(workflow, contact)
    await _cancel(world, execution)
    await world.event("form_submit", contact)
    await world.advance(days=1)
    assert await world.statuses(execution) == ["skipped"]
    assert await tags_of(world, contact) == []


async def test_a_step_in_hand_while_its_execution_is_cancelled_is_brought_to_its_end_or_skipped(
    world_with: WorldWith, conn: asyncpg.Connection
) -> None:
    """The batch locks the contact first: who cancels waits for it, and then ends what follows."""
    blocked: list[bool] = []

    async def perform(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        await conn.execute("SET lock_timeout = '1ms'")
        try:
            async with conn.transaction():
                ids = [item.execution_id for item in items]
                await conn.fetch(
                    executions.queries.lock_contacts_of_executions, world.account_id, ids
                )
        except asyncpg.LockNotAvailableError:
            blocked.append(True)
        return [Sleep(items[0].execution_started_at or _stage.now, {}) for _ in items]

    world = await world_with(registry_with(acting(perform, resume=each(lambda _item: Done()))))
    workflow = await world.workflow(("custom_code", {}))
    execution = await world.run(workflow, await world.contact())
    assert blocked == [True]
    assert await world.statuses(execution) == ["completed"]


@pytest.mark.parametrize(("end", "status"), [("cancel", "skipped"), ("pause", "pending")])
async def test_what_is_claimed_sees_that_its_execution_was_cancelled_or_paused_meanwhile(
    world: World, conn: asyncpg.Connection, end: str, status: str
) -> None:
    """In hand by a claim, but not yet begun: the batch waits for the contact, then looks."""
    workflow = await world.workflow(tag("A"))
    contact = await world.contact()
    (enrolment,) = await world.enrol(workflow, contact)
    assert enrolment.execution_id is not None
    batches = world.worker._steps["crm"]._batches
    async with world.pool.acquire() as db, db.transaction():
        rows = await batches._claim(db, "crm")
        assert len(rows) == 1
        async with conn.transaction():
            if end == "cancel":
                now = await clock.current_instant(conn)
                ids = [enrolment.execution_id]
                await executions.cancel(conn, now, world.account_id, ids, "asked for")
            else:
                await executions.pause(conn, world.account_id, [enrolment.execution_id])
        await batches._work(db, rows)
    assert await world.statuses(enrolment.execution_id) == [status]
    assert await tags_of(world, contact) == []
    await world.settle()
    assert await world.statuses(enrolment.execution_id) == [status]
