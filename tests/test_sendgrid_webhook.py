"""What SendGrid tells of mails: only what it has signed, in any order, each thing once."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from actors.integration_kinds import Smtp
from actors.integrations import Integrations
from actors.mail_reports import MailReport, take_mail_reports
from actors.sendgrid_events import EFFECT, report_of
from api.twilio_intake import MOST_AT_ONCE, Intake
from runtime.bells import Bells
from runtime.dispatching import opt_in
from runtime.house import House
from tests.mail_board import READER, TO, Board, add_integration, open_board
from tests.stand_ins import WorldWith

KEY: Final = generate_private_key(SECP256R1())
AGENT: Final = READER["User-Agent"]


def shown(key: Any) -> str:
    """A public key as SendGrid shows it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@dataclass
class SendGrid:
    """The other side: signs what it tells."""

    board: Board
    key: Any = KEY

    async def tell(self, *events: Any, **changed: Any) -> int:
        """Post events as the webhook does; gives the status."""
        return await self.post(json.dumps(list(events)).encode(), **changed)

    async def post(
        self, body: bytes, *, age: int = 0, integration: Any = None, **headers: str
    ) -> int:
        now = await self.board.pool.fetchval("SELECT current_instant()")
        timestamp = str(int(now.timestamp()) - age)
        signature = self.key.sign(timestamp.encode() + body, ECDSA(SHA256()))
        told = {
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
            "Content-Type": "application/json",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"/hooks/sendgrid/{integration or self.board.integration_id}/events"
        async with self.board.desk.client.post(path, data=io.BytesIO(body), headers=told) as answer:
            return answer.status

    async def event(self, what: str, **more: Any) -> dict[str, Any]:
        """An event of the newest mail, as SendGrid writes it."""
        (*_, effect) = await self.board.effects()
        now = await self.board.pool.fetchval("SELECT current_instant()")
        return {
            "email": TO,
            "timestamp": int(now.timestamp()),
            "event": what,
            "sg_event_id": base64.b64encode(uuid4().bytes).decode(),
            "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
            "callboard_effect": str(effect["id"]),
            "useragent": AGENT,
            **more,
        }


@pytest.fixture
async def grid(world_with: WorldWith) -> AsyncIterator[SendGrid]:
    async with open_board(world_with, {"webhook_public_key": shown(KEY)}) as board:
        yield SendGrid(board)


async def sent(grid: SendGrid, **contact: Any) -> None:
    await grid.board.run(await grid.board.mailing(), **contact)
    await grid.board.world.advance(minutes=1)


async def stand(grid: SendGrid) -> str:
    status: str = (await grid.board.effect())["delivery_status"]
    return status


async def test_a_mail_to_sendgrid_says_which_effect_it_is_and_is_tracked_by_us_alone(
    grid: SendGrid,
) -> None:
    await sent(grid)
    told = json.loads(grid.board.office.mails[0].message["X-SMTPAPI"])
    assert told["unique_args"] == {"callboard_effect": str((await grid.board.effect())["id"])}
    assert {name: one["settings"]["enable"] for name, one in told["filters"].items()} == {
        "clicktrack": 0,
        "opentrack": 0,
    }


async def test_what_is_no_relay_of_sendgrid_is_told_nothing(world_with: WorldWith) -> None:
    async with open_board(world_with) as board:
        await board.run(await board.mailing())
        assert "X-SMTPAPI" not in board.office.mails[0].message
    assert Smtp(host="smtp.SendGrid.net").is_sendgrid


STORY: Final = ("processed", "deferred", "delivered", "open", "click", "spamreport")


@pytest.mark.parametrize("order", list(itertools.permutations(range(6)))[::359])
async def test_events_in_any_order_repeated_come_to_the_same(
    grid: SendGrid, order: Sequence[int]
) -> None:
    await sent(grid)
    story = [await grid.event(what, url="https://acme.test/") for what in STORY]
    for number in (*order, *order):
        assert await grid.tell(story[number], story[order[0]]) == 204
    assert await stand(grid) == "complained"
    assert sorted(await grid.board.event_types()) == [
        "email_click",
        "email_complained",
        "email_open",
    ]
    assert await grid.board.opt_outs() == {TO: "complaint"}
    reports = await grid.board.pool.fetch("SELECT status FROM effect_reports")
    assert {row["status"] for row in reports} == {
        "accepted", "deferred", "delivered", "opened", "clicked", "complained",
    }  # fmt: skip
    assert len(reports) == 6


@pytest.mark.parametrize(
    ("event", "reason", "status", "is_hard"),
    [
        ({"event": "bounce", "type": "bounce", "status": "5.1.1"}, "hard_bounce", "bounced", True),
        ({"event": "bounce", "type": "blocked", "status": "5.7.1"}, None, "bounced", False),
        ({"event": "bounce", "type": "bounce", "status": "4.4.7"}, None, "bounced", False),
        ({"event": "dropped", "reason": "Bounced Address"}, "hard_bounce", "bounced", True),
        ({"event": "dropped", "reason": "Unsubscribed Address"}, "unsubscribed", "bounced", False),
        ({"event": "dropped", "reason": "Spam Reporting Address"}, "complaint", "bounced", False),
        ({"event": "dropped", "reason": "Spam Content (if spam checker)"}, None, "bounced", False),
        ({"event": "group_unsubscribe"}, "unsubscribed", "unsubscribed", None),
        ({"event": "unsubscribe"}, "unsubscribed", "unsubscribed", None),
    ],
)
def test_who_cannot_or_does_not_want_to_be_written_to_is_not_any_more(
    event: dict[str, str], reason: str | None, status: str, *, is_hard: bool | None
) -> None:
    report = report_of({**event, EFFECT: str(uuid4())}, datetime.now(UTC))
    assert report is not None
    assert (report.status, report.suppresses) == (status, reason)
    assert report.payload.get("is_hard") == is_hard


async def test_a_bounce_keeps_the_address_from_being_written_to(grid: SendGrid) -> None:
    await sent(grid)
    assert await grid.tell(await grid.event("bounce", type="bounce", status="5.1.1")) == 204
    assert await stand(grid) == "bounced"
    assert await grid.board.opt_outs() == {TO: "hard_bounce"}
    (told,) = await grid.board.events("email_bounced")
    assert (told["payload"]["is_hard"], told["payload"]["code"]) == (True, "5.1.1")


async def test_an_old_wish_that_is_told_again_does_not_undo_the_return(grid: SendGrid) -> None:
    await sent(grid)
    wish = await grid.event("unsubscribe")
    bounce = await grid.event("bounce", type="bounce")
    assert await grid.tell(wish) == 204
    async with grid.board.pool.acquire() as db:
        await opt_in(db, grid.board.world.account_id, "email", TO)
    assert await grid.tell(wish, await grid.event("delivered")) == 204
    assert await grid.board.opt_outs() == {}
    assert await grid.tell(wish, bounce) == 204
    assert await grid.board.opt_outs() == {TO: "hard_bounce"}


async def test_a_mail_is_known_by_its_message_id_too(grid: SendGrid) -> None:
    await sent(grid)
    event = await grid.event("delivered")
    del event["callboard_effect"]
    event["smtp-id"] = grid.board.office.mails[0].message["Message-ID"]
    assert await grid.tell(event) == 204
    assert await stand(grid) == "delivered"


async def test_machines_that_sendgrid_knows_are_machines(grid: SendGrid) -> None:
    await sent(grid)
    told = [
        await grid.event("open", sg_machine_open=True),
        await grid.event("click", useragent="Barracuda Sentinel", url="https://acme.test/"),
    ]
    assert await grid.tell(*told) == 204
    assert await stand(grid) == "sent"
    assert sorted(await grid.board.event_types()) == ["email_machine_click", "email_machine_open"]


ODD: Final[list[Any]] = [
    7, None, "delivered", [], {}, {"event": []}, {"event": "delivered"}, {"event": "x" * 5_000},
    {"callboard_effect": 1}, {"callboard_effect": "no", "event": "open"}, {"smtp-id": "<x@y>"},
    {"callboard_effect": str(uuid4()), "event": "bounce"}, {"smtp-id": {}, "event": "click"},
]  # fmt: skip


async def test_events_of_others_and_odd_ones_are_passed_over(grid: SendGrid) -> None:
    await sent(grid)
    odd = [
        await grid.event("open", timestamp="now", sg_event_id=["x"], useragent=AGENT + "\x00"),
        await grid.event("click", timestamp=1e300, url="https://acme.test/\x00" + "x" * 9_000),
        await grid.event("group_resubscribe"),
        await grid.event("delivered", timestamp=-1, status={"a": 1}),
        await grid.event("a new one"),
    ]
    assert await grid.tell(*ODD, *odd) == 204
    assert await stand(grid) == "clicked"
    assert sorted(await grid.board.event_types()) == ["email_click", "email_open"]


async def test_signed_nonsense_is_refused(grid: SendGrid) -> None:
    bodies = {b"{": 400, b"{}": 422, b"[" * 100_000: 400, b"": 400, b"[]": 204}
    assert {body: await grid.post(body) for body in bodies} == bodies


async def test_only_what_was_signed_with_the_integrations_key_is_taken(grid: SendGrid) -> None:
    await sent(grid)
    event = await grid.event("bounce", type="bounce", status="5.1.1")
    other = await add_integration(
        grid.board.world, 1, account_id=await grid.board.world.account("Other")
    )
    forged = SendGrid(grid.board, generate_private_key(SECP256R1()))
    signature = {"X_Twilio_Email_Event_Webhook_Signature": "é"}
    told = [
        await forged.tell(event),
        await grid.tell(event, integration=other),  # it has no key
        await grid.tell(event, integration=uuid4()),
        await grid.tell(event, integration="x"),
        await grid.tell(event, age=26 * 3600),
        await grid.tell(event, age=-3600),
        await grid.tell(event, **signature),
        await grid.tell(event, X_Twilio_Email_Event_Webhook_Signature=""),
        await grid.tell(event, X_Twilio_Email_Event_Webhook_Timestamp="1"),
        await grid.tell(event, X_Twilio_Email_Event_Webhook_Timestamp="9" * 30),
    ]
    assert set(told) == {403}
    assert await stand(grid) == "sent"
    assert await grid.board.opt_outs() == {}
    assert await grid.tell(event, age=3600) == 204
    assert await stand(grid) == "bounced"


async def test_an_account_hears_of_its_own_mails_alone(grid: SendGrid) -> None:
    await sent(grid)
    key = generate_private_key(SECP256R1())
    theirs = await add_integration(
        grid.board.world,
        1,
        account_id=await grid.board.world.account("Other"),
        settings={"webhook_public_key": shown(key)},
    )
    event = await grid.event("spamreport")
    assert await SendGrid(grid.board, key).tell(event, integration=theirs) == 204
    assert await stand(grid) == "sent"
    assert await grid.board.opt_outs() == {}


async def test_thousands_of_events_in_one_body_are_taken_in(grid: SendGrid) -> None:
    """5,000 events of 500 mails, ten of each."""
    board = grid.board
    await sent(grid)
    (mail,) = await board.effects()
    await board.pool.execute(
        "WITH people AS ("
        " INSERT INTO contacts (account_id, email, email_normalized)"
        " SELECT $1, 'p' || n || '@x.test', 'p' || n || '@x.test' FROM generate_series(1, 500) n"
        " RETURNING id, email)"
        " INSERT INTO effects (account_id, contact_id, kind, family, lane_id, integration_id,"
        "  status, idempotency_key, channel, address, created_at, dispatched_at)"
        " SELECT $1, p.id, 'email.message', 'email', $2, $3, 'succeeded', gen_random_uuid()::text,"
        "  'email', p.email, now() - interval '1 hour', now() - interval '1 hour' FROM people p",
        board.world.account_id,
        mail["lane_id"],
        board.integration_id,
    )
    ids = [row["id"] for row in await board.effects() if row["id"] != mail["id"]]
    like = await grid.event("delivered")
    events = [
        {**like, "event": what, "callboard_effect": str(id_), "sg_event_id": f"{id_}{number}"}
        for number, what in enumerate(("processed", "delivered", "open", "open", "click") * 2)
        for id_ in ids
    ]
    for event in events[:50]:
        event |= {"event": "bounce", "type": "bounce"}
    assert await grid.tell(*events) == 204
    rows = await board.pool.fetch(
        "SELECT delivery_status, count(*) AS n FROM effects GROUP BY 1 ORDER BY 1"
    )
    assert {row["delivery_status"]: row["n"] for row in rows} == {
        "bounced": 50, "clicked": 450, "sent": 1,
    }  # fmt: skip
    assert len(await board.opt_outs()) == 50
    counted = await board.pool.fetch(
        "SELECT event_type, count(*) AS n FROM domain_events GROUP BY 1 ORDER BY 1"
    )
    assert {row["event_type"]: row["n"] for row in counted} == {
        "email_bounced": 50, "email_click": 1_000, "email_open": 2_000,
    }  # fmt: skip
    counts = [await statements_for(board, some) for some in (ids[50:55], ids[55:])]
    assert counts[0] == counts[1]


async def statements_for(board: Board, ids: Sequence[UUID]) -> int:
    """How many statements reports on these mails take, a bounce and a click of each."""
    seen: list[Any] = []
    reports = [MailReport(id_, "clicked", "sendgrid", key="new") for id_ in ids]
    reports += [MailReport(id_, "bounced", "dsn", suppresses="hard_bounce") for id_ in ids]
    async with board.pool.acquire() as db, db.transaction():
        db.add_query_logger(seen.append)
        await take_mail_reports(db, board.world.account_id, reports)
    return len(seen)


@pytest.mark.parametrize("key", ["x", "QUJD", shown(generate_private_key(SECP384R1()))])
def test_a_key_that_cannot_verify_is_refused_when_it_is_set(key: str) -> None:
    with pytest.raises(ValueError, match="public_key"):
        Smtp(host="x", webhook_public_key=key)
    assert Smtp(host="x", webhook_public_key=shown(KEY)).is_sendgrid


async def test_bodies_that_take_up_all_turns_hold_up_no_other_provider(
    pool: asyncpg.Pool, house: House
) -> None:
    async def ring(_bells: Bells) -> None:
        raise AssertionError("nothing is rung")

    intake = Intake(Integrations(house), pool, ring)
    async with AsyncExitStack() as stack:
        for _ in range(MOST_AT_ONCE):
            await stack.enter_async_context(intake.turn("sendgrid"))
        entered = asyncio.Event()

        async def one_more() -> None:
            async with intake.turn("sendgrid"):
                entered.set()

        waiting = asyncio.create_task(one_more())
        async with asyncio.timeout(20), intake.turn("twilio"):
            assert not entered.is_set()
    await waiting
