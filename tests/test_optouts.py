"""Opt-outs: from the commit of one on, nothing is dispatched to its address."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.dispatching import dispatch, opt_in, opt_out
from runtime.effect import Effect
from runtime.effect_claims import EffectClaims
from tests.stand_ins import Counterpart, WorldWith, blocked_or_done, counterpart
from tests.world import World

ADDRESS = "+15550001"
CALL = ("webhook_call", {"channel": "sms", "address": "{{contact.phone}}"})


@pytest.fixture
async def side() -> AsyncIterator[Counterpart]:
    """The other side, on loopback."""
    async with counterpart() as side:
        yield side


@pytest.fixture
async def board(side: Counterpart, world_with: WorldWith) -> World:
    """A world with a workflow that texts its contact, by calls to the other side."""
    world = await world_with(side.registry())
    await world.workflow(CALL)
    return world


async def texts(world: World, *phones: str) -> None:
    """Put one text to each phone into the ledger, of one contact each."""
    workflow = await world.pool.fetchval("SELECT id FROM workflows")
    await world.enrol(workflow, *[await world.contact(phone=phone) for phone in phones])
    await world.worker._steps["webhook"].answer()


async def claimed(world: World) -> list[Effect]:
    effects, _ = await EffectClaims(world.pool, world.worker.id).claim("webhook", 50)
    return effects


async def statuses(world: World) -> list[str]:
    return [row["status"] for row in await world.pool.fetch("SELECT * FROM effects ORDER BY id")]


async def refuse(world: World, db: Any, address: str = ADDRESS) -> None:
    bells = await opt_out(db, world.account_id, "sms", address, "stop")
    assert bells.families <= {"webhook"}


@pytest.mark.parametrize("known", [True, False])
async def test_an_opt_out_that_commits_while_a_dispatch_waits_for_it_keeps_it_back(
    board: World, conn: asyncpg.Connection, known: bool
) -> None:
    """Two contacts share the number; its row exists already, or both would make it."""
    if known:
        await refuse(board, conn)
        await opt_in(conn, board.account_id, "sms", ADDRESS)
    await texts(board, ADDRESS, ADDRESS)
    effects = await claimed(board)
    async with board.pool.acquire() as db:
        async with conn.transaction():
            await refuse(board, conn)
            dispatching: Any = asyncio.ensure_future(dispatch(db, effects, board.worker.id))
            await blocked_or_done(board, dispatching)
            assert not dispatching.done()
        going, _ = await dispatching
    assert going == []
    assert await statuses(board) == ["suppressed"] * 2


async def test_a_dispatch_that_came_first_goes_out_and_the_opt_out_waits_for_it(
    board: World, side: Counterpart, conn: asyncpg.Connection
) -> None:
    await texts(board, ADDRESS, ADDRESS)
    first, second = await claimed(board)
    async with board.pool.acquire() as db:
        async with conn.transaction():
            going, _ = await dispatch(conn, [first], board.worker.id)
            assert going == [first]
            refusing = asyncio.ensure_future(refuse(board, db))
            await blocked_or_done(board, refusing)
            assert not refusing.done()
        await refusing
        assert (await dispatch(db, [second], board.worker.id))[0] == []
    assert sorted(await statuses(board)) == ["dispatched", "suppressed"]


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    phones=st.lists(st.sampled_from("abc"), min_size=1, max_size=6),
    refused=st.permutations("abc"),
    turn=st.integers(0, 3),
)
async def test_whoever_comes_first_no_open_effect_is_left_to_an_address_that_opted_out(
    board: World, phones: list[str], refused: list[str], turn: int
) -> None:
    """Opt-outs and dispatches at once, on connections of their own."""
    await board.pool.execute("DELETE FROM effects")
    await board.pool.execute("DELETE FROM channel_addresses")
    await board.pool.execute("UPDATE workflow_executions SET status = 'cancelled'")
    await texts(board, *phones)
    effects = await claimed(board)
    before, during = refused[:turn], refused[turn:2]

    async def dispatching(part: list[Effect]) -> list[Effect]:
        async with board.pool.acquire() as db:
            return (await dispatch(db, part, board.worker.id))[0]

    async def refusing(address: str) -> None:
        async with board.pool.acquire() as db:
            await refuse(board, db, address)

    await asyncio.gather(*(refusing(address) for address in before))
    results = await asyncio.gather(
        dispatching(effects[::2]),
        dispatching(effects[1::2]),
        *(refusing(address) for address in during),
    )
    going = {effect.id for part in results if part for effect in part}
    for row in await board.pool.fetch("SELECT id, address, status FROM effects"):
        assert row["status"] == ("dispatched" if row["id"] in going else "suppressed")
        if row["address"] in before:
            assert row["status"] == "suppressed"
        if row["address"] not in refused[: max(turn, 2)]:
            assert row["status"] == "dispatched"


async def test_an_opt_out_suppresses_what_is_ready_or_waits_for_its_retry_and_skips_the_steps(
    board: World, side: Counterpart
) -> None:
    await texts(board, ADDRESS, ADDRESS, "+15550002")
    await board.pool.execute(
        "UPDATE effects SET status = 'scheduled', scheduled_at = current_instant() + '1 hour'"
        " WHERE id = (SELECT id FROM effects WHERE address = $1 LIMIT 1)",
        ADDRESS,
    )
    async with board.pool.acquire() as db:
        await refuse(board, db)
    await board.advance(hours=2)
    assert len(side.came) == 1
    reasons = await board.pool.fetch(
        "SELECT status, skip_reason FROM workflow_action_executions ORDER BY status"
    )
    assert [tuple(row) for row in reasons] == [
        ("completed", None),
        ("skipped", "opted_out"),
        ("skipped", "opted_out"),
    ]


async def test_an_opt_out_holds_for_its_account_and_channel_until_the_opt_in(
    board: World, side: Counterpart
) -> None:
    async with board.pool.acquire() as db:
        await opt_out(db, board.account_id, "email", ADDRESS, "unsubscribed")
        await opt_out(db, await board.account("Other"), "sms", ADDRESS, "stop")
        await texts(board, ADDRESS)
        await board.settle()
        assert len(side.came) == 1
        await refuse(board, db)
        await texts(board, ADDRESS)
        await board.settle()
        assert len(side.came) == 1
        await opt_in(db, board.account_id, "sms", ADDRESS)
    await texts(board, ADDRESS)
    await board.settle()
    assert len(side.came) == 2
