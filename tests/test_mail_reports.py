"""Reports on mails come to the same in any order, in any parts, and however often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.contact_erasure import erase
from actors.mail_reports import MailReport, report_mails
from tests.mail_board import TO, Board, open_board
from tests.stand_ins import WorldWith, blocked_or_done

STORY: Final = (
    ("delivered", "", None),
    ("opened", "1", None),
    ("opened", "2", None),
    ("machine_clicked", "", None),
    ("clicked", "", None),
    ("bounced", "soft", None),
    ("bounced", "hard", "hard_bounce"),
    ("complained", "", "complaint"),
)


def report(effect_id: UUID, number: int) -> MailReport:
    status, key, reason = STORY[number]
    return MailReport(effect_id, status, "sendgrid", key=key, suppresses=reason)  # type: ignore[arg-type]


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        await board.run(await board.mailing())
        yield board


async def copies(board: Board, count: int) -> Iterator[UUID]:
    """Mails like the one that was sent, each to a contact of its own."""
    rows = await board.pool.fetch(
        "WITH people AS ("
        " INSERT INTO contacts (account_id, email, email_normalized)"
        " SELECT $1, n || '@x.test', n || '@x.test' FROM generate_series(1, $2) n"
        " RETURNING id, email)"
        " INSERT INTO effects (account_id, contact_id, kind, family, lane_id, status,"
        "  idempotency_key, channel, address, created_at, delivery_status)"
        " SELECT $1, p.id, f.kind, f.family, f.lane_id, f.status, gen_random_uuid()::text,"
        "  f.channel, p.email, f.created_at, 'sent' FROM people p, effects f RETURNING id",
        board.world.account_id,
        count,
    )
    return iter([row["id"] for row in rows])


async def stand(board: Board, effect_id: UUID) -> Any:
    """All that is known of a mail, apart from when it was heard."""
    return await board.pool.fetchrow(
        "SELECT f.delivery_status,"
        " (SELECT array_agg(r.status ORDER BY r.status) FROM effect_reports r"
        "  WHERE r.effect_id = f.id) AS reports,"
        " (SELECT array_agg(v.event_type ORDER BY v.event_type) FROM domain_events v"
        "  WHERE v.contact_id = f.contact_id) AS events,"
        " EXISTS (SELECT FROM opt_outs_of(f.account_id, 'email', f.address)) AS has_opted_out"
        " FROM effects f WHERE f.id = $1",
        effect_id,
    )


orders = st.lists(st.integers(0, len(STORY) - 1), max_size=16).flatmap(
    lambda more: st.permutations([*range(len(STORY)), *more])
)


async def test_any_order_and_any_repetition_come_to_the_same(board: Board) -> None:
    mails = await copies(board, 60)
    usual = next(mails)
    whole = [report(usual, number) for number in range(len(STORY))]
    await report_mails(board.pool, board.world.account_id, whole)
    expected = await stand(board, usual)
    assert expected[0] == "complained"
    drawn: list[tuple[Sequence[int], int]] = []

    @given(orders, st.integers(1, 5))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def draw(order: Sequence[int], size: int) -> None:
        drawn.append((order, size))

    draw()
    for order, size in drawn:
        effect_id = next(mails)
        for begin in range(0, len(order), size):
            part = [report(effect_id, number) for number in order[begin : begin + size]]
            await report_mails(board.pool, board.world.account_id, part)
        assert await stand(board, effect_id) == expected, (order, size)


async def test_what_is_unknown_changes_nothing(board: Board) -> None:
    taken = await report_mails(board.pool, board.world.account_id, [report(uuid4(), 7)])
    assert taken.effects == {}
    assert await board.opt_outs() == {}


async def test_a_report_that_meets_an_erasure_brings_no_address_back(
    board: Board, conn: asyncpg.Connection
) -> None:
    effect_id = (await board.effect())["id"]
    contact_id = await board.pool.fetchval("SELECT id FROM contacts")
    async with conn.transaction():
        await erase(conn, board.world.account_id, contact_id)
        reporting = asyncio.ensure_future(
            report_mails(board.pool, board.world.account_id, [report(effect_id, 7)])
        )
        await blocked_or_done(board.world, reporting)
        assert not reporting.done()
    await reporting
    held = await board.pool.fetch("SELECT FROM channel_addresses WHERE address = $1", TO)
    assert held == []
