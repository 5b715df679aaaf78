"""What Twilio tells us: only what it has signed, each thing once, whoever else calls."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from twilio.request_validator import RequestValidator

from api.twilio_intake import INTAKE
from runtime import clock
from runtime.dispatching import dispatch
from runtime.effect_claims import EffectClaims
from runtime.housekeeping import keep_house
from tests.counterparts.twilio.script import Callbacks
from tests.stand_ins import WorldWith, blocked_or_done
from tests.twilio_board import FROM, TO, Board, add_integration, open_board


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


async def opt_outs(board: Board) -> dict[str, str]:
    rows = await board.pool.fetch(
        "SELECT address, reason FROM channel_addresses"
        " WHERE channel = 'sms' AND opted_out_at IS NOT NULL"
    )
    return {row["address"]: row["reason"] for row in rows}


# Replies


async def test_a_reply_ends_the_wait_for_it_and_says_what_it_answers(board: Board) -> None:
    wait = {"event_type": "sms_reply", "timeout_duration": 1, "timeout_unit": "days"}
    workflow = await board.texting(("wait_for_event", wait), ("add_tag", {"tag_name": "answered"}))
    execution = await board.run(workflow)
    media = ["https://api.twilio.com/media/1"]
    told = await board.fake.text(board.texts_url, TO, FROM, "Yes, at 5!", media=media)
    assert (told.status, "<Message>" in told.answer) == (200, False)
    await board.settle()
    assert await board.world.statuses(execution) == ["completed"] * 3
    (event,) = await board.events("sms_reply")
    text, *_ = await board.world.steps(execution)
    assert (event["action_id"], event["execution_id"]) == (text["action_id"], execution)
    assert event["payload"]["body"] == "Yes, at 5!"
    assert event["payload"]["media"] == [{"url": media[0], "content_type": "image/png"}]


async def test_a_reply_that_is_told_twice_is_one(board: Board) -> None:
    await board.run(await board.texting())
    sid = f"SM{'f' * 32}"
    for _ in range(2):
        await board.fake.text(board.texts_url, TO, FROM, "Sure", sid=sid)
    assert len(await board.events("sms_reply")) == 1


async def test_a_number_of_two_contacts_tells_both(board: Board) -> None:
    workflow = await board.texting()
    for name in ("Ada", "Bea"):
        await board.run(workflow, first_name=name)
    await board.fake.text(board.texts_url, TO, FROM, "Who is this?")
    replies = await board.events("sms_reply")
    assert len({event["contact_id"] for event in replies}) == 2
    await board.fake.text(board.texts_url, TO, FROM, "stop")
    assert len({e["contact_id"] for e in await board.events("sms_opted_out")}) == 2
    assert await opt_outs(board) == {TO: "stop"}
    third = await board.run(workflow, first_name="Cleo")
    (step,) = await board.world.steps(third)
    assert step["skip_reason"] == "opted_out"


# Wishes


async def test_a_refusal_is_confirmed_once_and_a_return_is_too(board: Board) -> None:
    await board.run(await board.texting())
    answers = [
        (await board.fake.text(board.texts_url, TO, FROM, body)).answer
        for body in ("Please stop texting me", "STOP", "yes", "yes", "stop by at 5?", "Help")
    ]
    said = [
        word if (word := answer.partition("<Message>")[2].partition("</Message>")[0]) else None
        for answer in answers
    ]
    assert said == [
        "Acme: You will get no more texts from us. Reply START to get them again.",
        None,
        "Acme: You will get texts from us again. Reply STOP to end them.",
        None,
        None,
        "Acme: Reply STOP to get no more texts. Message and data rates may apply.",
    ]
    assert await opt_outs(board) == {}
    bodies = [event["payload"]["body"] for event in await board.events("sms_reply")]
    assert bodies == ["yes", "stop by at 5?"]


async def test_an_old_refusal_that_is_told_again_does_not_undo_the_return(board: Board) -> None:
    sid = f"SM{'e' * 32}"
    await board.fake.text(board.texts_url, TO, FROM, "STOP", sid=sid)
    await board.fake.text(board.texts_url, TO, FROM, "START")
    await board.fake.text(board.texts_url, TO, FROM, "STOP", sid=sid)
    assert await opt_outs(board) == {}


async def test_what_twilio_has_answered_itself_is_not_answered_again(board: Board) -> None:
    params = {"MessageSid": f"SM{'d' * 32}", "From": TO, "To": FROM, "Body": "STOP"}
    told = await board.fake.webhooks.post(board.texts_url, {**params, "OptOutType": "STOP"})
    assert "<Message>" not in told.answer
    assert await opt_outs(board) == {TO: "stop"}


async def test_a_refusal_that_commits_while_a_text_is_being_dispatched_keeps_it_back(
    board: Board, conn: asyncpg.Connection
) -> None:
    workflow = await board.texting()
    await board.world.enrol(workflow, await board.world.contact(phone=TO))
    worker = board.world.worker
    await worker._steps["sms"].answer()
    effects, _ = await EffectClaims(board.pool, worker.id).claim("sms", 50)
    async with board.pool.acquire() as db:
        async with conn.transaction():
            # Where the refusal stands when the dispatch comes: it has the address.
            await conn.execute(
                "INSERT INTO channel_addresses (account_id, channel, address)"
                " VALUES ($1, 'sms', $2)",
                board.world.account_id,
                TO,
            )
            stopping = asyncio.ensure_future(board.fake.text(board.texts_url, TO, FROM, "STOP"))
            await blocked_or_done(board.world, stopping)
            assert not stopping.done()
        assert (await stopping).status == 200
        going, _ = await dispatch(db, effects, worker.id, board.world.registry.effects)
    assert going == []
    assert (await board.effect())["status"] == "suppressed"


# Signatures


async def state(board: Board) -> list[asyncpg.Record]:
    return await board.pool.fetch(
        "SELECT to_jsonb(f) AS row FROM effects f"
        " UNION ALL SELECT to_jsonb(r) FROM effect_reports r"
        " UNION ALL SELECT to_jsonb(t) FROM inbound_texts t"
        " UNION ALL SELECT to_jsonb(v) FROM domain_events v"
        " UNION ALL SELECT to_jsonb(a) FROM channel_addresses a"
    )


async def test_a_storm_of_wrong_signatures_changes_nothing_and_asks_the_database_nothing(
    board: Board,
) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    await board.run(await board.texting())
    (message,) = board.fake.messages
    url, before = message.form["StatusCallback"], await state(board)
    params = {"MessageSid": message.sid, "MessageStatus": "failed", "ErrorCode": "30003"}
    stop = {"MessageSid": message.sid, "From": TO, "To": FROM, "Body": "STOP"}
    webhooks = board.fake.webhooks
    storm = [
        *(webhooks.post(url, params, auth_token="a guess") for _ in range(100)),
        *(webhooks.post(board.texts_url, stop, auth_token="a guess") for _ in range(100)),
        *(webhooks.post_as(url, params, {}) for _ in range(100)),
        *(webhooks.post_as(url, params, {"X-Twilio-Signature": "ä"}) for _ in range(20)),
    ]
    told = await asyncio.gather(*storm)
    assert {one.status for one in told} == {403}
    assert await state(board) == before


@pytest.mark.parametrize("change", ["param", "path", "query"])
async def test_what_is_signed_is_all_that_is_said_and_where(board: Board, change: str) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    await board.run(await board.texting())
    (message,) = board.fake.messages
    url = message.form["StatusCallback"]
    params = {"MessageSid": message.sid, "MessageStatus": "sent"}
    told = await board.fake.webhooks.post(url, params)
    assert told.status == 204
    signature = RequestValidator(board.fake.auth_token).compute_signature(url, params)
    if change == "param":
        params["MessageStatus"] = "failed"
    else:
        url = board.texts_url if change == "path" else f"{url}?a=b"
    told = await board.fake.webhooks.post_as(url, params, {"X-Twilio-Signature": signature})
    assert told.status == 403


async def test_a_callback_reaches_the_effects_of_its_own_integration_only(board: Board) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    await board.run(await board.texting())
    (message,) = board.fake.messages
    other = await board.world.account("Other")
    theirs = await add_integration(
        board.world, board.fake.url, account_id=other, auth_token="theirs"
    )
    url = message.form["StatusCallback"].replace(str(board.integration_id), str(theirs))
    params = {"MessageSid": message.sid, "MessageStatus": "failed"}
    told = await board.fake.webhooks.post(url, params, auth_token="theirs")
    assert told.status == 404
    assert (await board.effect())["delivery_status"] is None


@pytest.mark.parametrize(
    "params",
    [{}, {"MessageSid": "x y", "MessageStatus": "sent"}, {"MessageSid": "SM1"}],
)
async def test_a_signed_callback_that_makes_no_sense_is_refused(
    board: Board, params: dict[str, str]
) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    await board.run(await board.texting())
    url = board.fake.messages[0].form["StatusCallback"]
    assert (await board.fake.webhooks.post(url, params)).status == 422


async def test_a_storm_of_true_callbacks_is_taken_in_once_each(board: Board) -> None:
    board.fake.callbacks = Callbacks(times=100)
    await board.run(await board.texting())
    assert {told.status for told in board.fake.webhooks.told} == {204}
    assert await board.pool.fetchval("SELECT count(*) FROM effect_reports") == 2


async def test_what_came_in_long_ago_is_forgotten(board: Board) -> None:
    await board.fake.text(board.texts_url, TO, FROM, "Hello")
    await clock.advance(board.pool, timedelta(days=board.world.settings.retention_events_days + 1))
    assert (await keep_house(board.pool, board.world.settings))["inbound_texts"] == 1


async def test_reports_that_come_while_others_are_stored_are_stored_together(
    board: Board, conn: asyncpg.Connection
) -> None:
    """Thirty texts are told of at once, while their contacts are held: two commits, no more."""
    board.fake.callbacks = Callbacks(are_sent=False)
    workflow = await board.texting()
    for contact_id in await board.world.contacts(30):
        await board.pool.execute(
            "UPDATE contacts SET phone = $2, phone_normalized = $2 WHERE id = $1", contact_id, TO
        )
        await board.world.enrol(workflow, contact_id)
    await board.settle()
    async with conn.transaction():
        await conn.execute("SELECT FROM contacts FOR UPDATE")
        told = [
            asyncio.create_task(board.fake.report(message, status))
            for message in board.fake.messages
            for status in ("sent", "delivered")
        ]
        everything = asyncio.gather(*told)
        reports = board.desk.client.app[INTAKE].reports
        while reports.unanswered < 60:  # noqa: ASYNC110 (they come over real connections)
            await asyncio.sleep(0)
    assert {one.status for one in await everything} == {204}
    stored = "SELECT count(DISTINCT xmin::text), count(*) FROM effect_reports"
    ((commits, kept),) = await board.pool.fetch(stored)
    assert kept == 60
    assert commits <= 3
    statuses = {effect["delivery_status"] for effect in await board.effects()}
    assert statuses == {"delivered"}
