"""Bounces and complaints, posted raw as mail servers write them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.mail_returns import MOST_LOOKED_AT, read_return
from tests.api_desk import Answer, Caller
from tests.mail_board import TO, Board, open_board
from tests.stand_ins import WorldWith

PATH: Final = "/api/v1/mail-returns"
ID: Final = "0192f3a4-1111-7222-8333-444455556666"

DSN: Final = """From: MAILER-DAEMON@mx.x.test (Mail Delivery System)
To: ada@acme.com
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b1"

--b1
Content-Type: text/plain

This is the mail system at host mx.x.test.

--b1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.x.test
Arrival-Date: Wed, 25 Nov 2026 07:00:00 +0000

Final-Recipient: rfc822; bo@x.test
Action: {action}
Status: {status}
Diagnostic-Code: {diagnostic}

--b1
Content-Type: {original}

From: ada@acme.com
Message-ID: {message_id}
Subject: Hello

--b1--
"""
ARF: Final = """From: feedback@isp.test
To: abuse@acme.com
Subject: FW: Hello
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b2"

--b2
Content-Type: text/plain

This is an email abuse report.

--b2
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1

--b2
Content-Type: message/rfc822

From: ada@acme.com
{header}
Subject: Hello

Hello
--b2--
"""
QMAIL: Final = """From: MAILER-DAEMON@x.test
To: ada@acme.com
Subject: failure notice

Hi. This is the qmail-send program at x.test.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<{address}>:
Sorry, no mailbox here by that name.

--- Below this line is a copy of the message.

Return-Path: <ada@acme.com>
Message-ID: {message_id}
Subject: Hello
"""


def dsn(message_id: str, **changed: str) -> bytes:
    told = {
        "action": "failed",
        "status": "5.1.1",
        "diagnostic": "smtp; 550 5.1.1 no such user",
        "original": "message/rfc822",
        **changed,
    }
    return DSN.format(message_id=message_id, **told).replace("\n", "\r\n").encode()


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        await board.run(await board.mailing())
        await board.world.advance(minutes=1)
        yield board


async def post(board: Board, raw: bytes, account: str = "Acme", role: str = "editor") -> Answer:
    return await send(await board.desk.caller(account, role), raw)


async def send(caller: Caller, raw: bytes) -> Answer:
    return await caller.call("POST", PATH, data=raw, headers={"Content-Type": "message/rfc822"})


def message_id(board: Board) -> str:
    return str(board.office.mails[0].message["Message-ID"])


@pytest.mark.parametrize("original", ["message/rfc822", "text/rfc822-headers"])
async def test_a_bounce_is_taken_in_once(board: Board, original: str) -> None:
    for _ in range(2):
        told = await post(board, dsn(message_id(board), original=original))
        effect = await board.effect()
        assert told.data == {
            "outcome": "bounced",
            "effect_id": str(effect["id"]),
            "is_hard": True,
            "code": "5.1.1",
            "suppressed": "hard_bounce",
        }
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "bounced")
    (event,) = await board.events("email_bounced")
    assert (event["payload"]["is_hard"], event["payload"]["code"]) == (True, "5.1.1")
    assert event["action_id"] is not None
    assert await board.opt_outs() == {TO: "hard_bounce"}
    execution = await board.world.run(
        await board.mailing(), await board.pool.fetchval("SELECT id FROM contacts")
    )
    (step,) = await board.world.steps(execution)
    assert step["skip_reason"] == "opted_out"


@pytest.mark.parametrize(
    ("changed", "outcome", "is_hard"),
    [
        ({"status": "5.0.0", "diagnostic": "smtp; 550 5.1.1 unknown"}, "bounced", True),
        ({"status": "5.0.0", "diagnostic": "smtp; 550 who?"}, "bounced", True),
        ({"status": "5.0.0", "diagnostic": "smtp; 554 spam"}, "bounced", False),
        ({"status": "5.0.0", "diagnostic": ""}, "bounced", True),
        ({"status": "5.4.4", "diagnostic": "X-Postfix; Host not found"}, "bounced", True),
        ({"status": "5.2.2 (mailbox full)", "diagnostic": ""}, "bounced", False),
        ({"status": "5.7.1", "diagnostic": "smtp; 550 5.7.1 policy"}, "bounced", False),
        ({"status": "4.4.7", "diagnostic": "smtp; expired"}, "bounced", False),
        ({"status": "", "diagnostic": "smtp; 550 no such user"}, "bounced", True),
        ({"status": "4.4.1", "action": "delayed"}, "deferred", None),
        ({"status": "2.1.5", "action": "Delivered"}, "delivered", None),
        ({"status": "2.0.0", "action": "relayed"}, "accepted", None),
        ({"action": "sung"}, "none", None),
    ],
)
def test_hard_and_soft_are_told_apart(
    changed: dict[str, str], outcome: str, *, is_hard: bool | None
) -> None:
    read = read_return(dsn(f"<{ID}@acme.com>", **changed))
    if outcome == "none":
        assert read is None
        return
    assert read is not None
    assert (read.report.status, read.report.payload.get("is_hard")) == (outcome, is_hard)
    assert read.report.suppresses == ("hard_bounce" if is_hard else None)


async def test_a_bounce_of_the_moment_is_told_and_stops_nothing(board: Board) -> None:
    soft = dsn(message_id(board), status="5.2.2", diagnostic="smtp; 552 5.2.2 full")
    delayed = dsn(message_id(board), status="4.4.1", action="delayed")
    for raw, outcome in ((delayed, "deferred"), (soft, "bounced")):
        assert (await post(board, raw)).data["outcome"] == outcome
        assert (await board.effect())["delivery_status"] == outcome
    assert await board.event_types() == ["email_bounced"]
    assert await board.opt_outs() == {}


@pytest.mark.parametrize(
    ("kind", "outcome", "reason"),
    [
        ("abuse", "complained", "complaint"),
        ("Fraud", "complained", "complaint"),
        ("opt-out", "unsubscribed", "unsubscribed"),
        ("not-spam", None, None),
        ("auth-failure", None, None),
    ],
)
def test_complaints_are_told_from_other_feedback(
    kind: str, outcome: str | None, reason: str | None
) -> None:
    raw = ARF.format(kind=kind, header=f"Message-ID: <{ID}@acme.com>").encode()
    read = read_return(raw)
    if outcome is None:
        assert read is None
        return
    assert read is not None
    assert (read.report.status, read.report.suppresses) == (outcome, reason)


async def test_who_complains_is_not_written_to_again(board: Board) -> None:
    header = f"Message-ID: {message_id(board)}"
    told = await post(board, ARF.format(kind="abuse", header=header).encode())
    assert told.data["outcome"] == "complained"
    assert await board.opt_outs() == {TO: "complaint"}
    assert await board.event_types() == ["email_complained"]
    assert (await board.effect())["delivery_status"] == "complained"


async def test_a_provider_that_gives_mails_ids_of_its_own_leaves_us_ours(board: Board) -> None:
    ours = board.office.mails[0].message["X-Callboard-Effect"]
    header = f"Message-ID: <0100019@email.amazonses.test>\nX-Callboard-Effect: {ours}"
    told = await post(board, ARF.format(kind="abuse", header=header).encode())
    assert told.data["effect_id"] == ours == str((await board.effect())["id"])


@pytest.mark.parametrize(("address", "outcome"), [(TO, "bounced"), ("else@x.test", "none")])
async def test_bounces_of_no_standard_are_read_where_the_address_fits(
    board: Board, address: str, outcome: str
) -> None:
    raw = QMAIL.format(address=address, message_id=message_id(board)).encode()
    assert (await post(board, raw)).data["outcome"] == outcome
    assert await board.opt_outs() == ({TO: "hard_bounce"} if outcome == "bounced" else {})


async def test_what_others_have_sent_is_not_known(board: Board) -> None:
    await board.world.account("Other")
    for raw in (dsn(message_id(board)), dsn(f"<{uuid4()}@acme.com>"), b"", b"Hello, I am away."):
        told = await post(board, raw, "Other")
        assert (told.status, told.data["outcome"]) == (200, "none")
    assert await board.event_types() == []
    assert await board.opt_outs() == {}


async def test_a_token_is_needed_that_may_run(board: Board) -> None:
    raw = dsn(message_id(board))
    assert (await send(board.desk.stranger(), raw)).status == 401
    assert (await post(board, raw, role="viewer")).status == 403
    assert await board.opt_outs() == {}


async def test_an_answer_of_a_person_is_no_bounce(board: Board) -> None:
    raw = f"From: {TO}\nTo: ada@acme.com\nIn-Reply-To: {message_id(board)}\n\nThank you, <{TO}>!\n"
    assert (await post(board, raw.encode())).data["outcome"] == "none"


async def test_too_large_a_mail_is_refused(board: Board) -> None:
    caller: Any = await board.desk.caller("Acme", "editor")
    told = await caller.client.post(
        PATH,
        data=iter_of(11, 1 << 20),
        headers={"Authorization": f"Bearer {caller.token}", "Content-Type": "message/rfc822"},
    )
    assert told.status == 413


async def iter_of(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


# Hostile mails

WHOLE: Final = dsn(f"<{ID}@acme.com>")


def nested(depth: int, content_type: str = "multipart/mixed") -> bytes:
    return b"".join(
        b"Content-Type: %s; boundary=b%d\r\n\r\n--b%d\r\n" % (content_type.encode(), n, n)
        for n in range(depth)
    )


HOSTILE: Final = {
    "nested": nested(4_000),
    "nested within bounds, then lines": nested(38) + b"\r\n" * 200_000,
    "mails in mails": b"Content-Type: message/rfc822\r\n\r\n" * 8_000,
    "statuses": nested(1)
    + b"Content-Type: message/delivery-status\r\n\r\n"
    + b"A: b\r\n\r\n" * 30_000,
    "headers": b"X: y\r\n" * 40_000,
    "one header": b"Subject: " + b"a" * MOST_LOOKED_AT,
    "folded": b"Subject: a\r\n" + b" b\r\n" * 60_000,
    "angles": b"\r\n" + b"<" * MOST_LOOKED_AT,
    "angle lines": b"\r\n" + (b"<" * 900 + b"\r\n") * 280,
    "encoded words": b"Subject: " + b"=?utf-8?q?" * 25_000 + b"\r\n\r\n",
    "references": b"References: " + f"<{ID}@a>".encode() * 6_000 + b"\r\n\r\n",
    "base64": b"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + b"=" * 200_000,
    "message-ids": b"\r\n" + b"Message-ID: <" * 20_000,
    "charset": b'Content-Type: text/plain; charset="\xff\xfe nothing"\r\n\r\n\xff' * 1_000,
    "a bounce far behind": b"\r\n" * MOST_LOOKED_AT + WHOLE,
    "whole, ten megabytes": WHOLE + b"x" * (10 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mails_cost_little_and_break_nothing(name: str) -> None:
    began = time.process_time()
    read = read_return(HOSTILE[name])
    assert time.process_time() - began < 3
    assert (read is not None) == name.startswith("whole")


pieces = st.sampled_from(
    [*(line + b"\r\n" for line in WHOLE.split(b"\r\n")), b"\r\n", b"--b1--\r\n", b"\x00", b"\xff",
     b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n",
     b"Content-Type: message/rfc822\r\n", b"Content-Type: multipart/report; boundary*=x'y'z\r\n"]
)  # fmt: skip


@given(st.lists(pieces, max_size=60).map(b"".join) | st.binary(max_size=300))
def test_no_mail_is_too_odd_to_be_read(raw: bytes) -> None:
    read = read_return(raw)
    assert read is None or set(read.effect_ids) == {UUID(ID)}
