"""Rate limits, limits of concurrent calls and circuit breakers hold across processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import clock, effect_recording, executions, workers
from runtime.database import Connection
from runtime.dispatching import dispatch, opt_out
from runtime.effect import Effect
from runtime.effect_claims import EffectClaims, queries
from runtime.effect_recording import Ended, record
from runtime.failures import Failure, Kind, backoff
from tests.stand_ins import Counterpart, WorldWith, answer, blocked_or_done, counterpart
from tests.world import World

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
REFUSED, AWAY = answer(400), answer(503)


@pytest.fixture
async def side() -> AsyncIterator[Counterpart]:
    """The other side, on loopback."""
    async with counterpart() as side:
        yield side


@pytest.fixture(autouse=True)
def full_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that the jitter may give, so that no retry falls due by itself."""
    monkeypatch.setattr(effect_recording, "backoff", partial(backoff, jitter=lambda: 1.0))


@pytest.fixture
async def board(side: Counterpart, world_with: WorldWith) -> World:
    """A world in which webhook_call calls the other side."""
    return await world_with(side.registry())


async def integration(world: World, **limits: Any) -> UUID:
    return await world._add(
        "integrations", account_id=world.account_id, kind="webhook", name="Shop", **limits
    )


async def ready(
    world: World, integration_id: UUID, calls: int, name: str = "call", **config: Any
) -> None:
    """Put calls of an integration into the ledger, in a lane of their own."""
    config |= {"calls": [name], "integration_id": str(integration_id)}
    workflow = await world.workflow(("webhook_call", config), name=name)
    await world.enrol(workflow, *[await world.contact() for _ in range(calls)])
    await world.worker._steps["webhook"].answer()


async def statuses(world: World) -> dict[str, int]:
    rows = await world.pool.fetch("SELECT status, count(*) AS n FROM effects GROUP BY status")
    return {row["status"]: row["n"] for row in rows}


async def alerts(world: World) -> list[str]:
    rows = await world.pool.fetch(
        "SELECT event_type FROM domain_events WHERE event_type LIKE 'breaker%' ORDER BY id"
    )
    return [row["event_type"] for row in rows]


# Rates (GCRA)

# Instants of askings, in milliseconds from one to the next, and what four claimers then want.
askings = st.lists(
    st.tuples(st.integers(0, 1500), st.lists(st.integers(1, 8), min_size=1, max_size=4)),
    min_size=1,
    max_size=6,
)


@pytest.fixture
async def four(world: World) -> AsyncIterator[Sequence[Connection]]:
    """Four connections at once, as of four workers."""
    connections = [await world.pool.acquire() for _ in range(4)]
    yield connections
    for connection in connections:
        await world.pool.release(connection)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rate=st.floats(0.2, 50), burst=st.integers(1, 10), asked=askings)
async def test_concurrent_claimers_never_get_more_than_rate_times_time_plus_burst(
    world: World,
    four: Sequence[Connection],
    rate: float,
    burst: int,
    asked: list[tuple[int, list[int]]],
) -> None:
    shop = await integration(world, rate_per_second=rate, burst=burst)
    granted: list[tuple[timedelta, int]] = []
    since = timedelta(0)
    for pause, wanted in asked:
        since += timedelta(milliseconds=pause)
        rows = await asyncio.gather(
            *(
                db.fetchrow(queries.take_tokens, [shop], [n], EPOCH + since)
                for db, n in zip(four, wanted, strict=False)
            )
        )
        for row, n in zip(rows, wanted, strict=False):
            assert row is not None
            assert (row["granted"] < n) is (row["reason"] == "rate_limit")
        granted.append((since, sum(row["granted"] for row in rows if row)))
        # Nobody is turned away while there is a token left.
        assert granted[-1][1] == sum(wanted[:4]) or any(r["reason"] for r in rows if r)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            seconds = (granted[last][0] - granted[first][0]).total_seconds()
            taken = sum(n for _, n in granted[first : last + 1])
            assert taken <= rate * seconds + burst + 0.01


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rate=st.floats(0.2, 50), burst=st.integers(1, 10), more=st.integers(1, 5))
async def test_who_is_turned_away_is_told_the_exact_instant_to_come_back(
    world: World, conn: asyncpg.Connection, rate: float, burst: int, more: int
) -> None:
    shop = await integration(world, rate_per_second=rate, burst=burst)
    turned_away = await _ask(conn, shop, burst + more, EPOCH)
    assert (turned_away["granted"], turned_away["reason"]) == (burst, "rate_limit")
    assert turned_away["next_at"] - EPOCH == pytest.approx(
        timedelta(seconds=1 / rate), abs=timedelta(microseconds=20 * burst)
    )
    early = await _ask(conn, shop, 1, turned_away["next_at"] - timedelta(milliseconds=1))
    assert (early["granted"], early["next_at"]) == (0, turned_away["next_at"])
    in_time = await _ask(conn, shop, 1, turned_away["next_at"])
    assert (in_time["granted"], in_time["reason"]) == (1, None)


async def _ask(db: asyncpg.Connection, shop: UUID, wanted: int, at: datetime) -> asyncpg.Record:
    row = await db.fetchrow(queries.take_tokens, [shop], [wanted], at)
    assert row is not None
    return row


async def test_a_rate_holds_its_lanes_and_spends_no_attempt(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, rate_per_second=0.1, burst=2)
    await ready(board, shop, 5)
    await board.settle()
    assert await statuses(board) == {"succeeded": 2, "pending": 3}
    lane = await board.pool.fetchrow("SELECT * FROM lanes WHERE held_until IS NOT NULL")
    assert lane is not None
    assert lane["held_reason"] == "rate_limit"
    await board.advance(seconds=10)
    assert len(side.came) == 3
    for _ in range(2):
        await board.advance(seconds=10)
    assert await statuses(board) == {"succeeded": 5}
    assert await board.pool.fetchval("SELECT max(attempt) FROM effects") == 1


async def test_lanes_of_one_limited_integration_take_turns_with_one_call_at_a_time(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, rate_per_second=1.0, burst=1)
    for n in range(3):
        await ready(board, shop, 6, name=f"w{n}")
    await board.settle()
    for _ in range(11):
        await board.advance(seconds=1)
    assert Counter(side.names) == {"w0": 4, "w1": 4, "w2": 4}
    assert all(len(set(side.names[turn : turn + 3])) == 3 for turn in range(0, 12, 3))


async def test_what_an_integration_grants_is_shared_by_all_lanes_of_a_claim(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, rate_per_second=0.01, burst=6)
    for n in range(3):
        await ready(board, shop, 6, name=f"w{n}")
    await board.settle()
    assert Counter(side.names) == {"w0": 2, "w1": 2, "w2": 2}


# Concurrency


async def test_concurrent_claimers_never_have_more_calls_running_than_are_allowed(
    board: World,
) -> None:
    shop = await integration(board, max_concurrent=3)
    for n in range(4):
        await ready(board, shop, 5, name=f"w{n}")
    workers = [await board.new_worker() for _ in range(4)]
    running: list[Effect] = []
    for _ in range(3):
        claims = await asyncio.gather(
            *(EffectClaims(board.pool, w.id).claim("webhook", 4) for w in workers)
        )
        running += [effect for claimed, _ in claims for effect in claimed]
    assert len(running) == 3


async def test_a_call_that_ends_lets_the_next_one_through_at_once(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, max_concurrent=1)
    await ready(board, shop, 3)
    await board.settle()
    assert await statuses(board) == {"succeeded": 3}


# Breakers

BOTH_LANES = "SELECT * FROM lanes WHERE integration_id IS NOT NULL ORDER BY id"
# Ends what failed, so that no retry of it comes between.
GIVE_UP = "UPDATE effects SET status = 'failed' WHERE status IN ('scheduled', 'pending')"
BREAKER = {"breaker_failures": 3, "breaker_window_seconds": 60, "breaker_open_seconds": 30}


async def state(world: World, shop: UUID) -> str:
    found: str = await world.pool.fetchval(
        "SELECT state FROM circuit_breakers WHERE integration_id = $1", shop
    )
    return found


async def opened(world: World, side: Counterpart, shop: UUID, waiting: int = 4) -> None:
    """Open the breaker of an integration by failures, then put further calls behind it."""
    side.always = AWAY
    await ready(world, shop, 3, name="first")
    await world.settle()
    assert await state(world, shop) == "open"
    await world.pool.execute(GIVE_UP)
    await ready(world, shop, waiting, name="behind")
    side.came.clear()


async def test_a_breaker_opens_after_its_integration_s_failures_with_an_alert(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    other = await integration(board, **{**BREAKER, "breaker_failures": 5})
    side.always = AWAY
    await ready(board, shop, 3, name="shop")
    await ready(board, other, 3, name="other")
    await board.settle()
    assert (await state(board, shop), await state(board, other)) == ("open", "closed")
    event = await board.pool.fetchrow("SELECT * FROM domain_events")
    assert event is not None
    assert (event["event_type"], event["account_id"]) == ("breaker_opened", board.account_id)
    assert event["payload"] == {"integration_id": str(shop), "name": "Shop"}


async def test_an_open_breaker_holds_its_lanes_without_spending_attempts(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    await opened(board, side, shop)
    await board.settle()
    await board.advance(seconds=20)  # the clock goes on beside
    assert side.came == []
    untouched = await board.pool.fetch("SELECT attempt FROM effects WHERE status = 'pending'")
    assert [row["attempt"] for row in untouched] == [0] * 4


async def test_a_half_open_breaker_lets_one_probe_through_and_its_success_all_others(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    await opened(board, side, shop)
    side.always, side.hanging = answer(), {"behind"}
    await clock.advance(board.pool, timedelta(seconds=31))
    pools = [(await board.new_worker())._effects["webhook"] for _ in range(3)]
    await board.worker.wake()
    assert sorted(await asyncio.gather(*(pool.answer() for pool in pools))) == [0, 0, 1]
    await side.has_come(1)
    assert await state(board, shop) == "half_open"
    side.let_go.set()
    for pool in pools:
        await pool.drain()
    assert await state(board, shop) == "closed"
    await board.settle()
    assert len(side.came) == 4
    assert await alerts(board) == ["breaker_opened", "breaker_closed"]


async def test_a_probe_that_fails_opens_the_breaker_again_for_its_whole_time(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    await opened(board, side, shop)
    await board.settle()
    await board.advance(seconds=31)
    assert (len(side.came), await state(board, shop)) == (1, "open")
    await board.advance(seconds=25)
    assert len(side.came) == 1
    await board.advance(seconds=6)
    assert len(side.came) == 2
    assert await alerts(board) == ["breaker_opened"] * 3


async def test_a_probe_that_never_ended_is_followed_by_another(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    await opened(board, side, shop)
    await board.settle()
    await clock.advance(board.pool, timedelta(seconds=31))
    ghost = await board.new_worker()
    probes, _ = await EffectClaims(board.pool, ghost.id).claim("webhook", 10)
    assert len(probes) == 1
    async with board.pool.acquire() as db:
        await dispatch(db, probes, ghost.id)
    side.always = answer()
    await board.settle()
    assert side.came == []
    await board.advance(minutes=1)
    assert len(side.came) == 3
    assert await state(board, shop) == "closed"


@pytest.mark.parametrize("what", ["opted out", "cancelled", "parked", "worker died", "failed"])
async def test_a_probe_that_does_not_go_out_is_followed_by_another_within_a_second(
    board: World, side: Counterpart, what: str
) -> None:
    shop = await integration(board, **BREAKER)
    await opened(board, side, shop, waiting=0)
    await ready(board, shop, 4, name="probe", channel="sms", address="+1")
    await clock.advance(board.pool, timedelta(seconds=31))
    await board.worker.wake()
    ghost = await board.new_worker()
    (probe,), _ = await EffectClaims(board.pool, ghost.id).claim("webhook", 10)
    if what == "failed":
        await board.pool.execute(
            "UPDATE effects SET status = 'failed', worker_id = NULL WHERE id = $1", probe.id
        )
    elif what == "worker died":
        await workers.leave(board.pool, ghost.id)
        await board.worker.sweep()
    else:
        await _take_back(board, probe, what)
        async with board.pool.acquire() as db:
            assert (await dispatch(db, [probe], ghost.id))[0] == []
    side.always = answer()
    await ready(board, shop, 1, name="next")
    await board.settle()
    await board.advance(seconds=1)
    assert "next" in side.names
    assert await state(board, shop) == "closed"


async def _take_back(world: World, probe: Effect, what: str) -> None:
    run = await world.pool.fetchval("SELECT execution_id FROM effects WHERE id = $1", probe.id)
    async with world.pool.acquire() as db, db.transaction():
        if what == "opted out":
            await opt_out(db, world.account_id, "sms", "+1", "stop")
        elif what == "cancelled":
            now = await clock.current_instant(db)
            await executions.cancel(db, now, world.account_id, [run], "asked for")
        else:
            await executions.pause(db, world.account_id, [run])


async def test_a_probe_that_is_on_its_way_stays_the_only_one(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    await opened(board, side, shop)
    await clock.advance(board.pool, timedelta(seconds=31))
    await board.worker.wake()
    (_probe,), _ = await EffectClaims(board.pool, board.worker.id).claim("webhook", 10)
    for _ in range(5):
        await board.advance(seconds=2)
    assert side.came == []
    assert await state(board, shop) == "half_open"


async def test_unknown_outcomes_open_a_breaker(side: Counterpart, world_with: WorldWith) -> None:
    board = await world_with(side.registry(side.effect("fail", timeout_seconds=0.02)))
    shop = await integration(board, **BREAKER)
    side.hanging = {"call"}
    await ready(board, shop, 3)
    await board.settle()
    assert await state(board, shop) == "open"


async def test_a_send_that_crashes_says_nothing_of_the_other_side(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    await opened(board, side, shop, waiting=1)
    await clock.advance(board.pool, timedelta(seconds=31))
    url, side.url = side.url, "not a url"
    await board.settle()
    assert await state(board, shop) == "half_open"
    side.url, side.always = url, answer()
    await ready(board, shop, 1)
    await board.advance(seconds=1)
    assert await state(board, shop) == "closed"


async def test_whoever_holds_or_frees_lanes_locks_them_in_the_order_of_their_ids(
    board: World, conn: asyncpg.Connection
) -> None:
    shop = await integration(board, **BREAKER, max_concurrent=10)
    await ready(board, shop, 3, name="w0")
    await ready(board, shop, 3, name="w1")
    claimed, _ = await EffectClaims(board.pool, board.worker.id).claim("webhook", 10)
    first, second = [row["id"] for row in await board.pool.fetch(BOTH_LANES)]
    for lane in (second, first):  # so that the first lane's row is the later one in its table
        await board.pool.execute(
            "UPDATE lanes SET held_until = current_instant() + '1 hour',"
            " held_reason = 'concurrency_limit' WHERE id = $1",
            lane,
        )
    now = await clock.current_instant(conn)
    away = Failure(Kind.SERVICE_UNAVAILABLE, "away", "")
    async with board.pool.acquire() as db:
        assert len((await dispatch(db, claimed, board.worker.id))[0]) == 6
        async with conn.transaction():
            await conn.execute("SELECT FROM lanes WHERE id = $1 FOR UPDATE", first)
            ended = [Ended(effect, now, now, away) for effect in claimed]
            recording: Any = asyncio.ensure_future(record(db, ended, board.worker.id))
            await blocked_or_done(board, recording)
            # Would raise LockNotAvailable if the second were locked already.
            await conn.execute("SELECT FROM lanes WHERE id = $1 FOR UPDATE NOWAIT", second)
        await recording
    reasons = await board.pool.fetch(BOTH_LANES)
    assert {row["held_reason"] for row in reasons} == {"breaker_open"}


async def test_refusals_are_answers_and_do_not_open_a_breaker(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER)
    side.always = REFUSED
    await ready(board, shop, 10)
    await board.settle()
    assert await board.pool.fetchval("SELECT count(*) FROM circuit_breakers") == 0


async def test_failures_count_within_their_window(board: World, side: Counterpart) -> None:
    shop = await integration(board, **BREAKER)
    side.always = AWAY
    for n in range(4):
        await ready(board, shop, 2, name=f"w{n}")
        await board.settle()
        await board.pool.execute(GIVE_UP)
        assert await state(board, shop) == "closed"
        await board.advance(seconds=61)


async def test_a_probe_for_which_the_limits_leave_no_call_is_sent_as_soon_as_they_do(
    board: World, side: Counterpart
) -> None:
    shop = await integration(board, **BREAKER, max_concurrent=1)
    await opened(board, side, shop)
    await board.settle()
    await clock.advance(board.pool, timedelta(seconds=31))
    await board.pool.execute(
        "UPDATE effects SET status = 'claimed', worker_id = $1"
        " WHERE id = (SELECT id FROM effects WHERE status = 'pending' LIMIT 1)",
        board.worker.id,
    )
    side.always = answer()
    await board.settle()
    assert side.came == []
    await board.pool.execute("UPDATE effects SET status = 'cancelled' WHERE status = 'claimed'")
    await board.advance(seconds=2)
    assert len(side.came) == 3
    assert await state(board, shop) == "closed"
