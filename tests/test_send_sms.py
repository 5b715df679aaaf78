"""send_sms: texts by Twilio's own client, to a fake that speaks Twilio's protocol."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from runtime import clock, deliveries, effect_recording
from runtime.failures import backoff
from tests.counterparts.twilio.script import Callbacks, Drop, Fate, Hang, Refuse
from tests.stand_ins import WorldWith
from tests.twilio_board import FROM, TO, Board, open_board


@pytest.fixture(autouse=True)
def full_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that the jitter may give, so that no retry falls due by itself."""
    for module in (effect_recording, deliveries):
        monkeypatch.setattr(module, "backoff", partial(backoff, jitter=lambda: 1.0))


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


async def test_send_sms_action(board: Board) -> None:
    """A text goes out once, its result is the step's, and its delivery comes back."""
    workflow = await board.texting(("add_tag", {"tag_name": "{{steps.send_sms_0.sid}}"}))
    execution = await board.run(workflow, first_name="Ada")
    (message,) = board.fake.messages
    assert (message.to, message.form["From"], message.body) == (TO, FROM, "Hi Ada")
    assert await board.world.statuses(execution) == ["completed", "completed"]
    step, _ = await board.world.steps(execution)
    assert step["result_data"] == {
        "sid": message.sid,
        "status": "queued",
        "segments": 1,
        "encoding": "GSM-7",
    }
    effect = await board.effect()
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "delivered")
    assert effect["provider_id"] == message.sid
    reports = await board.pool.fetch("SELECT status FROM effect_reports ORDER BY reported_at")
    assert [row["status"] for row in reports] == ["sent", "delivered"]
    assert {told.status for told in board.fake.webhooks.told} == {204}


async def test_a_text_with_media_is_an_mms_and_may_have_no_words(board: Board) -> None:
    link = "https://img.example/{{contact.first_name}}.png"
    workflow = await board.texting(message="{{contact.last_name}}", media_urls=[link])
    await board.run(workflow, first_name="ada")
    (message,) = board.fake.messages
    assert message.form["MediaUrl"] == ["https://img.example/ada.png"]
    assert "Body" not in message.form
    assert message.sid.startswith("MM")


LAST_NAME = "{{contact.last_name}}"


@pytest.mark.parametrize(
    ("config", "contact", "end"),
    [
        ({}, {"phone": None}, ("skipped", "contact_has_no_phone")),
        ({"from_number": "+14155550000"}, {}, ("failed", "sender_unknown")),
        ({"from_number": LAST_NAME}, {"last_name": "x"}, ("failed", "sender_unusable")),
        ({"message": LAST_NAME}, {}, ("failed", "message_empty")),
        ({"message": LAST_NAME}, {"last_name": "x" * 1601}, ("failed", "text_too_long")),
        ({"media_urls": [LAST_NAME]}, {"last_name": "js:x"}, ("failed", "media_unusable")),
    ],
)  # fmt: skip
async def test_what_cannot_be_texted_ends_with_its_reason(
    board: Board, config: dict[str, Any], contact: dict[str, Any], end: tuple[str, str]
) -> None:
    execution = await board.run(await board.texting(**config), **contact)
    (step,) = await board.world.steps(execution)
    assert (step["status"], step["skip_reason"] or step["error_code"]) == end
    assert board.fake.arrivals == 0


async def test_sixteen_hundred_characters_are_taken(board: Board) -> None:
    execution = await board.run(await board.texting(message=LAST_NAME), last_name="x" * 1600)
    (step,) = await board.world.steps(execution)
    assert step["result_data"]["segments"] == 11


# What goes wrong on the way


async def test_accepted_then_the_connection_drops_is_unknown_and_not_sent_twice(
    board: Board,
) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    board.fake.script = [Drop()]
    execution = await board.run(await board.texting())
    (step,) = await board.world.steps(execution)
    assert (step["status"], step["error_code"]) == ("failed", "outcome_unknown")
    await board.advance(hours=1)
    assert len(board.fake.messages) == 1
    # Late, but it comes: the ledger says what is true, the step stays as it ended.
    await board.fake.report(board.fake.messages[0], "delivered")
    effect = await board.effect()
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "delivered")
    assert effect["result"]["is_settled_by_callback"]


async def test_a_callback_that_comes_first_settles_what_would_be_unknown(board: Board) -> None:
    board.fake.callbacks = Callbacks(come_early=True)
    board.fake.script = [Drop()]
    execution = await board.run(await board.texting())
    assert await board.world.statuses(execution) == ["completed"]
    (step,) = await board.world.steps(execution)
    assert step["result_data"]["sid"] == board.fake.messages[0].sid
    assert len(board.fake.messages) == 1


async def test_an_unknown_outcome_is_repeated_where_the_action_asks_for_it(board: Board) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    board.fake.script = [Drop()]
    execution = await board.run(await board.texting(on_unknown_outcome="repeat"))
    await board.advance(seconds=2)
    assert await board.world.statuses(execution) == ["completed"]
    assert len(board.fake.messages) == 2


async def test_no_answer_in_time_is_unknown(board: Board) -> None:
    await board.pool.execute(
        "UPDATE integrations SET settings = settings || '{\"timeout_seconds\": 0.1}'"
    )
    board.fake.script = [Hang()]
    execution = await board.run(await board.texting())
    (step,) = await board.world.steps(execution)
    assert step["error_code"] == "outcome_unknown"
    assert board.fake.messages == []


async def test_a_connection_that_never_stood_is_tried_again(board: Board) -> None:
    await board.pool.execute(
        'UPDATE integrations SET settings = settings || \'{"base_url": "http://127.0.0.1:9"}\''
    )
    await board.run(await board.texting())
    effect = await board.effect()
    assert (effect["status"], effect["error_code"]) == ("scheduled", "provider_unreachable")


async def test_429_with_retry_after_is_honoured(board: Board) -> None:
    board.fake.script = [Refuse(429, 20429, "Too Many Requests", retry_after=600)]
    execution = await board.run(await board.texting())
    await board.advance(seconds=560)  # the clock goes on beside
    assert board.fake.arrivals == 1
    await board.advance(seconds=40)
    assert await board.world.statuses(execution) == ["completed"]
    assert await board.attempts() == ["retried", "succeeded"]


@pytest.mark.parametrize(
    ("status", "code", "tries", "error"),
    [
        (400, 21211, 1, "twilio_21211"),
        (400, 21606, 1, "twilio_21606"),
        (401, 20003, 1, "twilio_20003"),
        (400, 7, 1, "http_400"),
        (500, 20500, 4, "twilio_20500"),
        (400, 21611, 6, "twilio_21611"),
        (504, None, 1, "outcome_unknown"),
    ],
)
async def test_refusals_follow_the_retry_table(
    board: Board, status: int, code: int | None, tries: int, error: str
) -> None:
    await board.pool.execute("UPDATE integrations SET breaker_failures = 100")
    board.fake.always = Refuse(status, code)
    execution = await board.run(await board.texting())
    for _ in range(tries):
        await board.advance(minutes=10)
    (step,) = await board.world.steps(execution)
    assert (board.fake.arrivals, step["error_code"]) == (tries, error)


async def test_a_provider_that_is_down_for_a_minute_costs_no_attempt_while_it_is_held(
    board: Board,
) -> None:
    """The breaker opens, one probe goes, and it closes."""
    await board.pool.execute(
        "UPDATE integrations SET breaker_failures = 3, breaker_open_seconds = 60"
    )
    workflow = await board.texting()
    board.fake.always = Refuse(503)
    for number in range(3):
        await board.run(workflow, phone=f"+1415555010{number}")
    breaker = await board.pool.fetchrow("SELECT * FROM circuit_breakers")
    assert breaker is not None
    assert breaker["state"] == "open"
    for number in range(3, 8):
        await board.run(workflow, phone=f"+1415555010{number}")
    await board.advance(seconds=30)
    assert board.fake.arrivals == 3
    board.fake.always = None
    await board.advance(seconds=31)
    await board.advance(seconds=1)
    assert await board.pool.fetchval("SELECT state FROM circuit_breakers") == "closed"
    assert len(board.fake.messages) == 8
    assert sorted(await board.attempts()) == ["retried"] * 3 + ["succeeded"] * 8


async def test_in_test_mode_nothing_goes_beyond_loopback(board: Board) -> None:
    await board.pool.execute(
        'UPDATE integrations SET settings = settings || \'{"base_url": "https://192.0.2.1"}\''
    )
    await board.pool.execute("UPDATE accounts SET is_test = true")
    execution = await board.run(await board.texting())
    (step,) = await board.world.steps(execution)
    assert (step["status"], step["result_data"]["status"]) == ("completed", "recorded")
    assert board.fake.arrivals == 0


# Opt-outs and quiet hours


async def test_twilio_s_own_knowledge_of_an_opt_out_becomes_ours(board: Board) -> None:
    board.fake.script = [Refuse(400, 21610, "Attempt to send to unsubscribed recipient")]
    workflow = await board.texting()
    execution = await board.run(workflow)
    (step,) = await board.world.steps(execution)
    assert (step["status"], step["skip_reason"]) == ("skipped", "opted_out")
    again = await board.run(workflow, first_name="Bea")
    (step,) = await board.world.steps(again)
    assert (step["skip_reason"], board.fake.arrivals) == ("opted_out", 1)


async def test_in_quiet_hours_a_text_is_put_off_and_looked_at_again(board: Board) -> None:
    workflow = await board.texting(respect_quiet_hours=True)
    now = await clock.current_instant(board.pool)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    await clock.advance(board.pool, midnight - now)
    execution = await board.run(workflow, time_zone="UTC")
    gone = await board.run(workflow, time_zone="UTC", phone="+14155550101")
    effect = (await board.effects())[0]
    assert (effect["status"], effect["attempt"]) == ("scheduled", 0)
    assert effect["scheduled_at"] == midnight.replace(hour=9)
    assert board.fake.arrivals == 0
    stop = await board.fake.text(board.texts_url, "+14155550101", FROM, "Stop")
    assert stop.status == 200
    await board.advance(hours=9, minutes=1)
    assert [message.to for message in board.fake.messages] == [TO]
    assert await board.world.statuses(execution) == ["completed"]
    assert await board.world.statuses(gone) == ["skipped"]


# What came of it


@pytest.mark.parametrize(
    "callbacks",
    [Callbacks(times=3), Callbacks(are_reversed=True), Callbacks(come_early=True, times=2)],
)
async def test_statuses_may_come_in_any_order_repeated_and_early(
    board: Board, callbacks: Callbacks
) -> None:
    board.fake.callbacks = callbacks
    board.fake.fate = Fate(("queued", "sent", "delivered"))
    execution = await board.run(await board.texting())
    effect = await board.effect()
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "delivered")
    assert await board.pool.fetchval("SELECT count(*) FROM effect_reports") == 3
    assert await board.world.statuses(execution) == ["completed"]


@pytest.mark.parametrize("come_early", [False, True])
@pytest.mark.parametrize(
    ("code", "tries", "error"),
    [(30007, 1, "twilio_30007"), (30999, 4, "twilio_30999")],
)
async def test_what_was_not_delivered_follows_the_retry_table(
    board: Board, code: int, tries: int, error: str, come_early: bool
) -> None:
    board.fake.callbacks = Callbacks(come_early=come_early, times=2)
    board.fake.fate = Fate(("sent", "undelivered"), code)
    await board.run(await board.texting())
    for _ in range(tries):
        await board.advance(minutes=10)
    effect = await board.effect()
    assert (effect["status"], effect["error_code"]) == ("failed", error)
    assert len(board.fake.messages) == tries


async def test_what_arrives_at_the_second_try_is_delivered(board: Board) -> None:
    board.fake.fate = Fate(("undelivered",), 30003)
    await board.run(await board.texting())
    board.fake.fate = Fate(("delivered",))
    await board.advance(minutes=1)
    effect = await board.effect()
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "delivered")
    assert await board.attempts() == ["succeeded", "succeeded"]
