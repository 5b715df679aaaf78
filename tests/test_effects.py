"""Effects leave the house by a ledger: claimed, dispatched, recorded; fenced, retried, said."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal
from uuid import UUID

import asyncpg
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from runtime import activation, clock, effect_recorder, effect_recording, executions, workers
from runtime.dispatching import dispatch, opt_out
from runtime.effect import Effect, Result, Sent
from runtime.effect_claims import ISOLATED_TURN, EffectClaims
from runtime.effect_recording import Ended, record, record_apart
from runtime.failures import Failure, Kind, backoff
from runtime.sweep import MOST_LOSSES
from runtime.worker import Worker
from tests.stand_ins import Counterpart, WorldWith, answer, blocked_or_done, counterpart
from tests.world import World

OnUnknown = Literal["repeat", "fail"]


@pytest.fixture
async def side() -> AsyncIterator[Counterpart]:
    """The other side, on loopback."""
    async with counterpart() as side:
        yield side


@pytest.fixture(autouse=True)
def full_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that the jitter may give, so that no retry falls due by itself."""
    monkeypatch.setattr(effect_recording, "backoff", partial(backoff, jitter=lambda: 1.0))


def call(*names: str, **config: Any) -> tuple[str, dict[str, Any]]:
    return "webhook_call", {"calls": list(names) or ["call"], **config}


async def ready(world: World, *calls: tuple[str, Any], contacts: int = 1) -> list[UUID]:
    """Enrol contacts in a workflow of calls, up to the ledger; gives the executions."""
    workflow = await world.workflow(*calls)
    people = [await world.contact() for _ in range(contacts)]
    enrolments = await world.enrol(workflow, *people)
    await world.worker._steps["webhook"].answer()
    return [e.execution_id for e in enrolments if e.execution_id is not None]


async def claim(world: World, worker: Worker, free: int = 50) -> list[Effect]:
    claims = EffectClaims(world.pool, worker.id)
    claimed, _ = await claims.claim("webhook", free)
    return claimed or (await claims.claim_isolated("webhook"))[0]


async def dispatched(world: World, worker: Worker, free: int = 50) -> list[Effect]:
    claimed = await claim(world, worker, free)
    async with world.pool.acquire() as db:
        going, _ = await dispatch(db, claimed, worker.id)
    return going


async def recorded(world: World, worker: Worker, result: Result, *effects: Effect) -> None:
    now = await clock.current_instant(world.pool)
    async with world.pool.acquire() as db:
        await record(db, [Ended(e, now, now, result) for e in effects], worker.id)


async def effects(world: World) -> list[asyncpg.Record]:
    return await world.pool.fetch("SELECT * FROM effects ORDER BY id")


async def log(world: World) -> list[tuple[Any, ...]]:
    rows = await world.pool.fetch(
        "SELECT attempt, outcome, is_late, error_code FROM effect_attempts"
        " ORDER BY effect_id, attempt, is_late"
    )
    return [tuple(row) for row in rows]


# Claim, dispatch, record


async def test_a_call_goes_out_and_its_answer_is_the_step_s_result(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    side.always = answer(body={"id": 7})
    workflow = await world.workflow(
        {"action_type": "webhook_call", "action_config": {"calls": ["x"]}, "key": "shop"},
        ("add_tag", {"tag_name": "Order {{steps.shop.id}}"}),
    )
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["completed", "completed"]
    assert await world.pool.fetchval("SELECT name FROM tags") == "Order 7"
    (effect,) = await effects(world)
    assert (effect["status"], effect["attempt"]) == ("succeeded", 1)
    assert effect["idempotency_key"] == str(effect["id"])
    assert await log(world) == [(1, "succeeded", False, None)]


async def test_the_dispatch_is_committed_before_the_wire(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    seen = []

    async def look() -> None:
        (effect,) = await effects(world)
        seen.append((effect["status"], effect["dispatched_at"] is not None))

    side.when_called = look
    await world.run(await world.workflow(call()), await world.contact())
    assert seen == [("dispatched", True)]


async def test_never_more_is_claimed_than_there_are_free_slots(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry(), slots={"webhook": 3})
    side.hanging = {"call"}
    await ready(world, call(), contacts=10)
    pool = world.worker._effects["webhook"]
    assert await pool.answer() == 3
    await side.has_come(3)
    assert await pool.answer() == 0
    in_hand = [e["status"] for e in await effects(world)]
    assert (in_hand.count("dispatched"), in_hand.count("pending")) == (3, 7)
    side.let_go.set()
    await world.settle()
    assert len(side.came) == 10
    assert {e["status"] for e in await effects(world)} == {"succeeded"}


async def test_slots_that_become_free_are_filled_without_waiting_for_a_ticket(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry(), slots={"webhook": 4})
    await ready(world, call(), contacts=14)
    pool = world.worker._effects["webhook"]
    refilling = asyncio.create_task(pool.refill())
    await pool.answer()
    await side.has_come(14)
    refilling.cancel()
    await pool.drain()
    assert [e["status"] for e in await effects(world)] == ["succeeded"] * 14


async def test_few_slots_are_shared_fairly_between_lanes(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    for n in range(5):
        workflow = await world.workflow(call(f"w{n}"), name=f"W{n}")
        contacts = [await world.contact() for _ in range(4)]
        await world.enrol(workflow, *contacts)
    await world.worker._steps["webhook"].answer()
    claims = EffectClaims(world.pool, world.worker.id)
    served = []
    for _ in range(5):
        claimed, _ = await claims.claim("webhook", 3)
        assert len(claimed) <= 3
        served += [effect.request["name"] for effect in claimed]
    assert {served.count(f"w{n}") for n in range(5)} <= {2, 3, 4}
    assert len(served) >= 13


@pytest.mark.parametrize("result", [Sent({"late": True}), Failure(Kind.REFUSED, "late", "late")])
async def test_a_late_result_of_an_older_attempt_is_logged_and_changes_nothing(
    side: Counterpart, world_with: WorldWith, result: Result
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    frozen = await world.new_worker()
    (late,) = await dispatched(world, frozen)
    await workers.leave(world.pool, frozen.id)  # its lease ran out
    await world.worker.sweep()
    await world.settle()
    before = await effects(world)
    await recorded(world, frozen, result, late)
    assert await effects(world) == before
    assert await world.statuses(execution) == ["completed"]
    assert [row[:3] for row in await log(world)] == [
        (1, "unknown", False),
        (1, "succeeded" if isinstance(result, Sent) else "failed", True),
        (2, "succeeded", False),
    ]


async def test_nothing_is_dispatched_by_a_worker_whose_lease_ran_out_since_the_claim(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    await ready(world, call())
    frozen = await world.new_worker()
    claimed = await claim(world, frozen)
    await world.pool.execute(
        "UPDATE workers SET lease_expires_at = current_instant() WHERE id = $1", frozen.id
    )
    async with world.pool.acquire() as db:
        assert (await dispatch(db, claimed, frozen.id))[0] == []
    await world.worker.sweep()
    await world.settle()
    assert len(side.came) == 1


async def test_one_answer_that_cannot_be_stored_does_not_hold_up_the_others(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    executions_ = await ready(world, call(), contacts=8)
    side.script = [answer(body={"text": "\x00"})]
    await world.settle()
    assert [await world.statuses(e) for e in executions_] == [["completed"]] * 8
    assert [row[1] for row in await log(world)] == ["succeeded"] * 8


@pytest.mark.parametrize("kept", [Sent({}), Failure(Kind.REFUSED, "no", "no")])
async def test_what_cannot_be_recorded_in_any_way_ends_as_unknown_and_holds_up_no_other(
    side: Counterpart, world_with: WorldWith, kept: Result
) -> None:
    world = await world_with(side.registry())
    await ready(world, call(), contacts=3)
    first, second, third = await dispatched(world, world.worker)
    broken = Failure("nonsense", "?", "?")  # type: ignore[arg-type]
    results = [(first, kept), (second, broken), (third, kept)]
    now = await clock.current_instant(world.pool)
    put_down: list[UUID] = []
    async with world.pool.acquire() as db:
        await record_apart(
            db,
            [Ended(effect, now, now, result) for effect, result in results],
            world.worker.id,
            lambda part: put_down.extend(ended.effect.id for ended in part),
        )
    rows = {e["id"]: (e["status"], e["error_code"]) for e in await effects(world)}
    assert rows[second.id] == ("unknown", "result_unstorable")
    assert "unknown" not in {rows[first.id][0], rows[third.id][0]}
    assert sorted(put_down) == sorted([first.id, second.id, third.id])


async def test_answers_that_come_while_a_worker_leaves_are_all_recorded(
    side: Counterpart, world_with: WorldWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with(side.registry())
    await ready(world, call("first"), call("second"), contacts=3)
    await ready(world, call("late"), contacts=5)
    side.hanging = {"late"}
    busy, go_on, real = asyncio.Event(), asyncio.Event(), record_apart

    async def slowly(*arguments: Any) -> Any:
        busy.set()
        await go_on.wait()
        return await real(*arguments)

    monkeypatch.setattr(effect_recorder, "record_apart", slowly)
    pool = world.worker._effects["webhook"]
    recording = asyncio.create_task(pool.record_results())
    await pool.answer()
    await busy.wait()
    leaving = asyncio.create_task(pool.drain())
    side.let_go.set()
    await asyncio.gather(*pool._in_flight)
    recording.cancel()
    go_on.set()
    await leaving
    assert {e["status"] for e in await effects(world)} == {"succeeded"}


@pytest.mark.parametrize(
    "error", [ConnectionResetError, asyncpg.ConnectionDoesNotExistError, asyncpg.QueryCanceledError]
)
async def test_a_recording_that_fails_half_way_loses_no_answer_and_calls_none_late(
    side: Counterpart,
    world_with: WorldWith,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    world = await world_with(side.registry())
    await ready(world, call(), contacts=4)
    fails = [asyncpg.DataError, None, *[error] * 7]

    async def record_or_fail(*arguments: Any) -> Any:
        failure = fails.pop(0) if fails else None
        if failure is not None:
            raise failure("on purpose")
        return await record(*arguments)

    monkeypatch.setattr(effect_recording, "record", record_or_fail)
    monkeypatch.setattr(effect_recorder, "DRAIN_PAUSES", [0.0] * 7)
    pool = world.worker._effects["webhook"]
    await pool.answer()
    await pool.drain()
    assert fails == []
    assert [e["result"] for e in await effects(world)] == [{"ok": True}] * 4
    assert await log(world) == [(1, "succeeded", False, None)] * 4
    assert pool._recorder.in_hand == set()


async def test_a_result_of_whose_commit_nobody_heard_is_not_late_when_it_is_recorded_again(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    await ready(world, call())
    (effect,) = await dispatched(world, world.worker)
    now = await clock.current_instant(world.pool)
    for _ in range(2):
        async with world.pool.acquire() as db:
            await record(db, [Ended(effect, now, now, Sent({}))], world.worker.id)
    assert await log(world) == [(1, "succeeded", False, None)]


# Retries


@pytest.mark.parametrize(
    ("status", "retries", "waits"),
    [
        (408, 3, [2, 4, 8]),
        (503, 3, [2, 4, 8]),
        (429, 5, [5, 10, 15, 20, 25]),
        (401, 0, []),
        (400, 0, []),
    ],
)
async def test_a_call_is_retried_by_the_kind_of_its_failure_under_one_key_then_its_step_fails(
    side: Counterpart, world_with: WorldWith, status: int, retries: int, waits: list[int]
) -> None:
    world = await world_with(side.registry())
    side.always = answer(status)
    workflow = await world.workflow(
        {"action_type": "webhook_call", "action_config": {}, "fallback": 1},
        {"action_type": "add_tag", "action_config": {"tag_name": "B"}, "branch": "plan b"},
    )
    execution = await world.run(workflow, await world.contact())
    for wait in waits:
        (effect,) = await effects(world)
        assert effect["status"] == "scheduled"
        left = effect["scheduled_at"] - await clock.current_instant(world.pool)
        assert timedelta(0) < left <= timedelta(seconds=wait)
        await world.advance(seconds=wait)
    assert list(side.keys.values()) == [retries + 1]
    assert await log(world) == [
        (n, "failed" if n > retries else "retried", False, f"http_{status}")
        for n in range(1, retries + 2)
    ]
    step, _ = await world.steps(execution)
    assert await world.statuses(execution) == ["failed", "completed"]
    assert step["error_code"] == f"http_{status}"


async def test_retries_are_counted_for_each_kind_of_failure(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    side.script = [answer(503)] * 3 + [answer(429)] * 2
    execution = await world.run(await world.workflow(call()), await world.contact())
    for _ in range(5):
        await world.advance(minutes=1)
    assert await world.statuses(execution) == ["completed"]
    assert (await effects(world))[0]["attempt"] == 6


async def test_retry_after_is_honoured(side: Counterpart, world_with: WorldWith) -> None:
    world = await world_with(side.registry())
    side.script = [answer(429, Retry_After="600")]
    execution = await world.run(await world.workflow(call()), await world.contact())
    await world.advance(minutes=9)
    assert len(side.came) == 1
    await world.advance(minutes=1)
    assert await world.statuses(execution) == ["completed"]


async def test_a_send_that_raises_is_a_failure_of_kind_internal(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    side.url = "not a url"
    with capture_logs([merge_contextvars]) as lines:
        execution = await world.run(await world.workflow(call()), await world.contact())
    (step,) = await world.steps(execution)
    (line,) = [line for line in lines if line["event"] == "effect.crashed"]
    effect = await world.pool.fetchval("SELECT id FROM effects")
    assert [line[n] for n in ("effect_id", "step_id", "execution_id")] == [
        str(id_) for id_ in (effect, step["id"], execution)
    ]
    assert (step["status"], step["error_code"]) == ("failed", "effect_crashed")
    assert step["error_message"] == "sending raised InvalidUrlClientError"


@pytest.mark.parametrize("given", [None, "sent", {"ok": True}])
async def test_a_send_that_gives_no_result_is_a_failure_of_kind_internal(
    side: Counterpart, world_with: WorldWith, given: Any
) -> None:
    async def send(effect: Effect, _tools: object) -> Any:
        return given if effect.request["name"] == "bad" else Sent({})

    world = await world_with(side.registry(replace(side.effect(), send=send)))
    await world.run(await world.workflow(call("good", "bad", "fine")), await world.contact())
    rows = {e["request"]["name"]: (e["status"], e["error_code"]) for e in await effects(world)}
    assert rows == {
        "good": ("succeeded", None),
        "bad": ("failed", "effect_crashed"),
        "fine": ("succeeded", None),
    }


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize(("on_unknown", "status"), [("repeat", "scheduled"), ("fail", "unknown")])
async def test_a_send_that_gives_itself_up_has_an_unknown_outcome(
    side: Counterpart,
    world_with: WorldWith,
    error: type[BaseException],
    on_unknown: OnUnknown,
    status: str,
) -> None:
    async def send(_effect: Effect, _tools: object) -> Result:
        raise error

    world = await world_with(side.registry(replace(side.effect(on_unknown), send=send)))
    await world.run(await world.workflow(call()), await world.contact())
    assert [e["status"] for e in await effects(world)] == [status]


async def test_effects_of_a_kind_that_a_worker_does_not_know_are_left_to_others(
    side: Counterpart, world_with: WorldWith
) -> None:
    """A worker of the version before lives on beside new ones for a while."""
    world = await world_with(side.registry())
    (execution,) = await ready(world, call("new"))
    await world.pool.execute("UPDATE effects SET kind = 'test.new'")
    await ready(world, call("old"), contacts=2)
    old = EffectClaims(world.pool, world.worker.id, ["test.call"])
    for _ in range(2):
        (effect,), _ = await old.claim("webhook", 1)
        assert effect.kind == "test.call"
    await world.pool.execute("UPDATE effects SET hold = 'isolated' WHERE kind = 'test.new'")
    assert not await old.has_isolated("webhook")
    assert (await old.claim_isolated("webhook"))[0] == []
    new = EffectClaims(world.pool, world.worker.id, ["test.call", "test.new"])
    assert [e.kind for e in (await new.claim_isolated("webhook"))[0]] == ["test.new"]
    assert await world.statuses(execution) == ["running"]


@pytest.mark.parametrize(("on_unknown", "status"), [("repeat", "scheduled"), ("fail", "unknown")])
async def test_a_send_without_answer_in_its_time_is_repeated_or_has_an_unknown_outcome(
    side: Counterpart, world_with: WorldWith, on_unknown: OnUnknown, status: str
) -> None:
    world = await world_with(side.registry(side.effect(on_unknown, timeout_seconds=0.05)))
    side.hanging = {"call"}
    execution = await world.run(await world.workflow(call()), await world.contact())
    (effect,) = await effects(world)
    assert effect["status"] == status
    if on_unknown == "fail":
        (step,) = await world.steps(execution)
        assert (step["status"], step["error_code"]) == ("failed", "outcome_unknown")
    side.hanging.clear()
    await world.advance(seconds=2)
    assert len(side.came) == (2 if on_unknown == "repeat" else 1)


# Unknown outcomes


async def test_a_dispatched_call_of_a_dead_worker_is_repeated_under_the_same_key(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    ghost = await world.new_worker()
    (gone,) = await dispatched(world, ghost)
    await workers.leave(world.pool, ghost.id)
    await world.worker.sweep()
    await world.settle()
    assert await world.statuses(execution) == ["completed"]
    assert side.came == [("call", gone.idempotency_key)]
    assert [row[:2] for row in await log(world)] == [(1, "unknown"), (2, "succeeded")]


async def test_a_dispatched_call_of_a_dead_worker_fails_where_a_second_one_is_too_risky(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry(side.effect("fail")))
    (execution,) = await ready(world, call())
    ghost = await world.new_worker()
    await dispatched(world, ghost)
    await workers.leave(world.pool, ghost.id)
    await world.worker.sweep()
    await world.settle()
    (step,) = await world.steps(execution)
    assert (step["status"], step["error_code"]) == ("failed", "outcome_unknown")
    assert side.came == []


@pytest.mark.parametrize("on_unknown", ["repeat", "fail"])
async def test_only_what_was_dispatched_has_an_unknown_outcome(
    side: Counterpart, world_with: WorldWith, on_unknown: OnUnknown
) -> None:
    world = await world_with(side.registry(side.effect(on_unknown)))
    (execution,) = await ready(world, call())
    ghost = await world.new_worker()
    await claim(world, ghost)
    await workers.leave(world.pool, ghost.id)
    await world.worker.sweep()
    await world.settle()
    assert await world.statuses(execution) == ["completed"]
    assert [row[:2] for row in await log(world)] == [(1, "lost"), (2, "succeeded")]


@pytest.mark.parametrize(("on_wire", "code"), [(True, "outcome_unknown"), (False, "worker_lost")])
async def test_a_poisonous_effect_ends_after_its_losses(
    side: Counterpart, world_with: WorldWith, on_wire: bool, code: str
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    for _ in range(MOST_LOSSES):
        ghost = await world.new_worker()
        taken = await (dispatched if on_wire else claim)(world, ghost)
        assert len(taken) == 1
        await workers.leave(world.pool, ghost.id)
        await world.worker.sweep()
    await world.settle()
    (step,) = await world.steps(execution)
    assert (step["status"], step["error_code"]) == ("failed", code)
    assert side.came == []


# What changes between claim and dispatch


async def test_what_is_cancelled_between_claim_and_dispatch_does_not_go_out(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    claimed = await claim(world, world.worker)
    await _cancel(world, execution)
    async with world.pool.acquire() as db:
        assert (await dispatch(db, claimed, world.worker.id))[0] == []
    (effect,) = await effects(world)
    assert (effect["status"], effect["worker_id"]) == ("cancelled", None)
    assert await world.statuses(execution) == ["skipped"]


async def _cancel(world: World, execution: UUID) -> None:
    async with world.pool.acquire() as db, db.transaction():
        now = await clock.current_instant(db)
        await executions.cancel(db, now, world.account_id, [execution], "asked for")


async def test_what_was_dispatched_before_the_cancellation_is_recorded_but_never_repeated(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    going = await dispatched(world, world.worker)
    await _cancel(world, execution)
    await recorded(world, world.worker, Failure(Kind.SERVICE_UNAVAILABLE, "away", ""), *going)
    await world.advance(hours=1)
    assert side.came == []
    assert [e["status"] for e in await effects(world)] == ["cancelled"]
    assert await world.statuses(execution) == ["skipped"]


async def test_a_notice_beside_a_completed_execution_still_goes_out_after_a_retry(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    side.script = [answer(503)]
    execution = await world.run(await world.workflow(call(gates=False)), await world.contact())
    assert (await world.execution(execution))["status"] == "completed"
    await world.advance(minutes=1)
    assert [e["status"] for e in await effects(world)] == ["succeeded"]


@pytest.mark.parametrize("what", ["workflow", "execution"])
async def test_what_is_paused_between_claim_and_dispatch_goes_out_once_it_is_resumed(
    side: Counterpart, world_with: WorldWith, what: str
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    workflow = (await world.execution(execution))["workflow_id"]
    claimed = await claim(world, world.worker)
    async with world.pool.acquire() as db, db.transaction():
        now = await clock.current_instant(db)
        if what == "workflow":
            await activation.pause(db, now, world.account_id, workflow)
        else:
            await executions.pause(db, world.account_id, [execution])
    async with world.pool.acquire() as db:
        assert (await dispatch(db, claimed, world.worker.id))[0] == []
    await world.settle()
    assert side.came == []
    if what == "workflow":
        await world.activate(workflow)
    else:
        async with world.pool.acquire() as db, db.transaction():
            await executions.resume(db, now, world.account_id, [execution])
    await world.settle()
    assert await world.statuses(execution) == ["completed"]
    assert (await effects(world))[0]["retries"] == {}


async def test_a_pause_that_commits_while_a_dispatch_waits_for_it_keeps_it_back(
    side: Counterpart, world_with: WorldWith, conn: asyncpg.Connection
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    claimed = await claim(world, world.worker)
    async with world.pool.acquire() as db:
        async with conn.transaction():
            await executions.pause(conn, world.account_id, [execution])
            dispatching: Any = asyncio.ensure_future(dispatch(db, claimed, world.worker.id))
            await blocked_or_done(world, dispatching)
            assert not dispatching.done()
        assert (await dispatching)[0] == []
    await world.settle()
    assert side.came == []


async def test_a_resumption_that_commits_while_a_dispatch_waits_for_it_lets_it_go(
    side: Counterpart, world_with: WorldWith, conn: asyncpg.Connection
) -> None:
    """Its effect was claimed while the execution was paused: a retry that fell due."""
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    claimed = await claim(world, world.worker)
    await world.pool.execute("UPDATE workflow_executions SET status = 'paused'")
    now = await clock.current_instant(conn)
    async with world.pool.acquire() as db:
        async with conn.transaction():
            await executions.resume(conn, now, world.account_id, [execution])
            dispatching: Any = asyncio.ensure_future(dispatch(db, claimed, world.worker.id))
            await blocked_or_done(world, dispatching)
        assert (await dispatching)[0] == claimed
    assert [e["hold"] for e in await effects(world)] == [None]


async def test_an_address_that_opts_out_between_claim_and_dispatch_is_not_called(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call(channel="sms", address="+15550001"))
    claimed = await claim(world, world.worker)
    async with world.pool.acquire() as db:
        await opt_out(db, world.account_id, "sms", "+15550001", "stop")
        assert (await dispatch(db, claimed, world.worker.id))[0] == []
    await world.settle()
    (step,) = await world.steps(execution)
    assert (step["status"], step["skip_reason"]) == ("skipped", "opted_out")
    assert side.came == []


# Effects that are sent alone


async def isolated(world: World, name: str) -> None:
    """Put a call into the ledger that a dead worker had in hand."""
    await ready(world, call(name))
    await world.pool.execute(
        "UPDATE effects SET hold = 'isolated', losses = 1 WHERE request->>'name' = $1", name
    )


async def test_what_a_dead_worker_had_in_hand_is_sent_while_nothing_else_is_in_flight(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    side.hanging = {"slow"}
    await ready(world, call("slow"), contacts=3)
    await isolated(world, "poison")
    seen: list[dict[str, int]] = []

    async def look() -> None:
        if side.names[-1] == "poison":
            await ready(world, call("next"))
            assert await pool.answer() == 0
            rows = await effects(world)
            seen.append(Counter(e["status"] for e in rows))

    side.when_called = look
    pool = world.worker._effects["webhook"]
    answering = asyncio.create_task(pool.answer())
    await side.has_come(3)
    assert "poison" not in side.names
    side.let_go.set()
    await answering
    await pool.drain()
    assert seen == [{"succeeded": 3, "dispatched": 1, "pending": 1}]
    assert side.names == ["slow"] * 3 + ["poison", "next"]
    assert {e["status"] for e in await effects(world)} == {"succeeded"}


async def test_what_is_sent_alone_has_its_turn_though_ready_work_never_ends(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry(), slots={"webhook": 1})
    await ready(world, call("other"), contacts=3 * ISOLATED_TURN)
    await isolated(world, "alone")
    pool = world.worker._effects["webhook"]
    for _ in range(2 * ISOLATED_TURN):
        await pool.answer()
        await pool.drain()
    assert "alone" in side.names
    assert side.names.count("other") >= ISOLATED_TURN


@pytest.mark.parametrize("what", ["workflow", "execution"])
async def test_what_is_sent_alone_still_is_after_a_pause(
    side: Counterpart, world_with: WorldWith, what: str
) -> None:
    world = await world_with(side.registry())
    await isolated(world, "alone")
    claimed = await claim(world, world.worker)
    await world.pool.execute(
        "UPDATE lanes SET is_paused = true"
        if what == "workflow"
        else "UPDATE workflow_executions SET status = 'paused'"
    )
    async with world.pool.acquire() as db:
        assert (await dispatch(db, claimed, world.worker.id))[0] == []
        now = await clock.current_instant(db)
        runs = [row["id"] for row in await db.fetch("SELECT id FROM workflow_executions")]
        await executions.resume(db, now, world.account_id, runs)
    assert [(e["status"], e["hold"]) for e in await effects(world)] == [("pending", "isolated")]


# A step and its effects


async def test_a_step_ends_once_when_its_effects_end_in_two_workers_at_the_same_time(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    runs = await ready(world, call("a", "b"), contacts=20)
    other = await world.new_worker()
    mine = await dispatched(world, world.worker, 20)
    theirs = await dispatched(world, other, 20)
    assert len(mine) == len(theirs) == 20
    await asyncio.gather(
        recorded(world, world.worker, Sent({"by": 1}), *mine),
        recorded(world, other, Sent({"by": 2}), *theirs),
    )
    await world.settle()
    assert [await world.statuses(run) for run in runs] == [["completed"]] * 20
    settled = await world.pool.fetchval(
        "SELECT count(*) FROM workflow_action_attempts WHERE outcome = 'completed'"
    )
    assert settled == 20
    (step,) = await world.steps(runs[0])
    assert len(step["result_data"]["effects"]) == 2


async def test_a_step_waits_for_the_last_of_its_effects_and_fails_if_any_failed(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call("a", "b", "c"))
    going = await dispatched(world, world.worker)
    await recorded(world, world.worker, Sent({}), going[0])
    await recorded(world, world.worker, Failure(Kind.REFUSED, "no", "no"), going[1])
    await world.settle()
    assert await world.statuses(execution) == ["running"]
    await recorded(world, world.worker, Sent({}), going[2])
    await world.settle()
    (step,) = await world.steps(execution)
    assert (step["status"], step["error_code"]) == ("failed", "no")


async def test_effects_that_do_not_gate_their_step_end_beside_it(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    side.always = answer(400)
    workflow = await world.workflow(call(gates=False), ("add_tag", {"tag_name": "Behind"}))
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["completed", "completed"]
    assert [e["status"] for e in await effects(world)] == ["failed"]


async def test_a_settled_step_that_nobody_noticed_is_found_by_the_sweep(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    (execution,) = await ready(world, call())
    await world.pool.execute("UPDATE effects SET status = 'succeeded', result = '{}'")
    await world.worker.sweep()
    await world.settle()
    assert await world.statuses(execution) == ["completed"]


async def test_an_idempotency_key_of_the_action_s_own_is_used_once(
    side: Counterpart, world_with: WorldWith
) -> None:
    world = await world_with(side.registry())
    runs = await ready(world, call(key="order 7"), contacts=2)
    await world.settle()
    statuses = sorted([await world.statuses(run) for run in runs])
    assert statuses == [["completed"], ["failed"]]
    assert side.keys == {"order 7": 1}


async def test_a_ticket_that_rings_while_effects_are_being_claimed_is_not_lost(
    side: Counterpart, world_with: WorldWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with(side.registry())
    await ready(world, call("first"))
    pool = world.worker._effects["webhook"]
    real, held = EffectClaims.claim, [False]

    async def claim_and_see(claims: EffectClaims, family: str, free: int) -> Any:
        claimed = await real(claims, family, free)
        if not claimed[0] and not held[0]:
            held[0] = True
            await ready(world, call("second"))
            assert await pool.answer() == 0
        return claimed

    monkeypatch.setattr(EffectClaims, "claim", claim_and_see)
    await pool.answer()
    await pool.drain()
    assert sorted(side.names) == ["first", "second"]


async def test_effects_of_a_small_batch_are_rung_for_at_once(
    world_with: WorldWith, side: Counterpart
) -> None:
    """Their pool may have been asked before the batch wrote them."""
    world = await world_with(side.registry())
    workflow = await world.workflow(call())
    await world.enrol(workflow, await world.contact())
    await world.worker._steps["webhook"].answer()
    queued = await world.pool.fetch(
        "SELECT queue_name FROM procrastinate_jobs WHERE status = 'todo'"
    )
    assert [row["queue_name"] for row in queued] == ["webhook"]
