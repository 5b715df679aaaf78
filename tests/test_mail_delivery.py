"""Mails when the server is away, the recipient opts out, or the template changes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from actors.email_message import EFFECT, KIND
from runtime.dispatching import dispatch, opt_out
from runtime.effect_claims import EffectClaims
from tests.counterparts.smtp.script import GREYLISTED, NO_SUCH_USER, Drop, Misbehaviour, Say
from tests.mail_board import TO, Board, open_board
from tests.stand_ins import WorldWith, blocked_or_done


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


async def attempts(board: Board) -> list[str]:
    rows = await board.pool.fetch("SELECT outcome FROM effect_attempts WHERE NOT is_late")
    return sorted(row["outcome"] for row in rows)


async def breaker(board: Board) -> str:
    state: str = await board.pool.fetchval("SELECT state FROM circuit_breakers")
    return state


@pytest.mark.parametrize("down", [Say("421 4.3.2 back soon"), Drop()])
async def test_a_server_that_is_down_for_a_minute_costs_no_attempt_while_it_is_held(
    board: Board, down: Misbehaviour
) -> None:
    """The breaker opens, one probe goes, then another, and closes it."""
    await board.pool.execute(
        "UPDATE integrations SET breaker_failures = 3, breaker_open_seconds = 60"
    )
    workflow = await board.mailing()
    board.office.always["connect"] = down
    for number in range(3):
        await board.run(workflow, email=f"c{number}@x.test")
    assert await breaker(board) == "open"
    for number in range(3, 8):
        await board.run(workflow, email=f"c{number}@x.test")
    await board.world.advance(seconds=30)
    assert board.office.reached("connect") == 3
    await board.world.advance(seconds=31)
    assert (board.office.reached("connect"), await breaker(board)) == (4, "open")
    board.office.always = {}
    await board.world.advance(seconds=61)
    await board.world.advance(seconds=1)
    assert await breaker(board) == "closed"
    assert board.office.taken == {f"c{number}@x.test": 1 for number in range(8)}
    assert await attempts(board) == ["retried"] * 4 + ["succeeded"] * 8


async def test_an_opt_out_that_commits_while_the_mail_is_dispatched_keeps_it_back(
    board: Board, conn: asyncpg.Connection
) -> None:
    """From both contacts that have the address."""
    world = board.world
    await board.pool.execute("UPDATE accounts SET postal_address = '1 Way'")
    workflow = await board.mailing(purpose="marketing")
    contacts = [
        await world.contact(email=TO, is_duplicate=is_duplicate) for is_duplicate in (False, True)
    ]
    await world.enrol(workflow, *contacts)
    await world.worker._steps["email"].answer()
    effects, _ = await EffectClaims(board.pool, world.worker.id, [KIND]).claim("email", 50)
    assert len(effects) == 2
    async with board.pool.acquire() as db:
        async with conn.transaction():
            await opt_out(conn, world.account_id, "email", TO, "unsubscribed")
            dispatching: Any = asyncio.ensure_future(
                dispatch(db, effects, world.worker.id, {KIND: EFFECT})
            )
            await blocked_or_done(world, dispatching)
            assert not dispatching.done()
        going, _ = await dispatching
    assert going == []
    await world.settle()
    assert board.office.reached("connect") == 0
    assert [row["status"] for row in await board.effects()] == ["suppressed"] * 2
    skipped = await board.pool.fetch("SELECT skip_reason FROM workflow_action_executions")
    assert [row["skip_reason"] for row in skipped] == ["opted_out"] * 2


async def test_what_bounces_for_one_contact_is_not_sent_to_another_with_the_address(
    board: Board,
) -> None:
    workflow = await board.mailing()
    board.office.script["content"] = [NO_SUCH_USER]
    await board.run(workflow)
    execution = await board.run(workflow, is_duplicate=True)
    (step,) = await board.world.steps(execution)
    assert (step["status"], step["skip_reason"]) == ("skipped", "opted_out")
    assert (board.office.reached("MAIL"), await board.opt_outs()) == (1, {TO: "hard_bounce"})


@pytest.mark.parametrize(
    ("host", "is_sent"), [("192.0.2.1", False), ("localhost", True), ("127.0.0.1", True)]
)
async def test_in_test_mode_nothing_goes_beyond_loopback(
    board: Board, host: str, *, is_sent: bool
) -> None:
    await board.pool.execute("UPDATE accounts SET is_test = true")
    await board.pool.execute(
        "UPDATE integrations SET settings = settings || jsonb_build_object('host', $1::text)", host
    )
    execution = await board.run(await board.mailing())
    (step,) = await board.world.steps(execution)
    assert step["status"] == "completed"
    assert (step["result_data"].get("status") == "recorded") is not is_sent
    assert board.office.taken.total() == is_sent


async def test_the_newest_version_is_what_is_sent_and_its_retry_keeps_it(board: Board) -> None:
    """A template is edited to take effect at once: the workflow's version holds its id alone."""
    workflow = await board.mailing(html="<p>activated</p>")
    await edit(board, 2, "<p>performed</p>")
    board.office.script["RCPT"] = [GREYLISTED]
    execution = await board.run(workflow)
    await edit(board, 3, "<p>too late</p>")
    await board.world.advance(minutes=2)
    assert await board.world.statuses(execution) == ["completed"]
    assert "performed" in board.html()


async def edit(board: Board, version: int, html: str) -> None:
    now = await board.pool.fetchval("SELECT current_instant()")
    await board.world._add(
        "message_template_versions",
        account_id=board.world.account_id,
        template_id=board.template_id,
        version=version,
        html=html,
        created_at=now,
    )
    await board.pool.execute("UPDATE message_templates SET version = $1", version)
