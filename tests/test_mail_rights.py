"""What is told of a mail, what is held of its reader, and what an erasure leaves of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from actors.mail_reports import MailReport, report_mails
from tests.api_desk import Caller
from tests.counterparts.smtp.script import NO_SUCH_USER
from tests.mail_board import Board, open_board
from tests.stand_ins import WorldWith

MAIL: Final = "zebedee@secret.test"
HTML: Final = '<a href="https://acme.test/for/zebedee@secret.test">A</a>'


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


@pytest.fixture
async def admin(board: Board) -> Caller:
    return await board.desk.caller("Acme")


async def sent(board: Board) -> UUID:
    execution = await board.run(await board.mailing(html=HTML), email=MAIL)
    await board.world.advance(minutes=1)
    return execution


async def why(board: Board, admin: Caller, execution: UUID) -> tuple[str, Any]:
    (step, *_) = await board.world.steps(execution)
    told = await admin.get(f"/api/v1/steps/{step['id']}/why")
    return told["why"].partition(" UTC.")[2], told["effects"][0]["delivery_status"]


async def report(board: Board, status: Any, **more: Any) -> None:
    told = MailReport((await board.effect())["id"], status, "sendgrid", **more)
    await report_mails(board.pool, board.world.account_id, [told])


async def test_why_says_how_far_a_mail_has_come(board: Board, admin: Caller) -> None:
    execution = await sent(board)
    assert await why(board, admin, execution) == ("", "sent")
    await board.ask(board.pixel(), "HEAD")
    only = " Only machines, such as scanners, have opened it so far."
    assert await why(board, admin, execution) == (only, "sent")
    told = []
    for status, detail in (
        ("delivered", {}),
        ("opened", {}),
        ("clicked", {}),
        ("bounced", {"code": "5.1.1"}),
        ("complained", {}),
        ("delivered", {}),
    ):
        await report(board, status, detail=detail)
        said, stands = await why(board, admin, execution)
        told.append((said.partition(" at ")[0].strip(), stands))
    assert told == [
        ("It was delivered", "delivered"),
        ("It was opened", "opened"),
        ("A link in it was followed", "clicked"),
        ("It came back (5.1.1)", "bounced"),
        ("Its recipient reported it as spam", "complained"),
        ("Its recipient reported it as spam", "complained"),
    ]
    whole = await admin.get(f"/api/v1/executions/{execution}")
    assert whole["steps"][0]["effects"][0]["delivery_status"] == "complained"
    timeline = await board.pool.fetch(
        "SELECT detail FROM contact_timeline WHERE what = 'email.message succeeded'"
    )
    assert [row["detail"] for row in timeline] == ["complained"]


async def test_a_recipient_whom_the_server_refuses_is_a_bounce_like_any_other(
    board: Board, admin: Caller
) -> None:
    board.office.of_recipient[MAIL] = NO_SUCH_USER
    execution = await sent(board)
    (effect,) = await board.effects()
    assert (effect["status"], effect["delivery_status"]) == ("failed", "bounced")
    (event,) = await board.events("email_bounced")
    assert event["payload"] == {"effect_id": str(effect["id"]), "is_hard": True, "code": "5.1.1"}
    assert (event["execution_id"], event["action_id"] is None) == (execution, False)
    assert await board.opt_outs() == {MAIL: "hard_bounce"}
    (step,) = await board.world.steps(execution)
    told = await admin.get(f"/api/v1/steps/{step['id']}/why")
    assert "550 5.1.1" in told["why"]


async def test_the_export_has_it_and_an_erasure_takes_it_away(board: Board, admin: Caller) -> None:
    await sent(board)
    await board.ask(board.links()[0])
    await board.ask(board.pixel())
    await report(board, "complained", suppresses="complaint", detail={"to": MAIL})
    contact = await board.pool.fetchval("SELECT id FROM contacts")
    export = await admin.get(f"/api/v1/contacts/{contact}/export")
    reports, events = export["data"]["effect_reports"], export["data"]["domain_events"]
    assert {one["status"] for one in reports} == {"opened", "clicked", "complained"}
    types = {event["event_type"] for event in events}
    assert {"email_open", "email_click", "email_complained"} <= types
    assert MAIL in str(export)
    await admin.post(f"/api/v1/contacts/{contact}/erase")
    # What comes after the erasure is of somebody whom we do not know any more.
    for url in (board.links()[0], board.pixel()):
        assert (await board.ask(url)).status in (200, 302)
    await report(board, "bounced", suppresses="hard_bounce", detail={"code": "5.1.1"})
    held = await board.pool.fetchval(
        "SELECT string_agg(t, ' ') FROM ("
        " SELECT to_jsonb(f)::text AS t FROM effects f"
        " UNION ALL SELECT to_jsonb(r)::text FROM effect_reports r"
        " UNION ALL SELECT to_jsonb(v)::text FROM domain_events v"
        " UNION ALL SELECT to_jsonb(a)::text FROM channel_addresses a) x"
    )
    assert "complained" in held
    assert not any(word in held for word in (MAIL, "acme.test/for", "Firefox"))
    assert await board.pool.fetchval(
        "SELECT count(*) FROM opt_outs_of($1, 'email', $2)", board.world.account_id, MAIL
    )
