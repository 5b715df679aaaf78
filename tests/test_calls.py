"""send_voicemail and make_call: calls by Twilio, from the first ring to the outcome."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from runtime import deliveries, effect_recording
from runtime.dispatching import opt_out
from runtime.failures import backoff
from tests.counterparts.twilio.script import Answer, Callbacks, Drop, Refuse
from tests.stand_ins import WorldWith
from tests.twilio_board import FROM, TO, Board, open_board

AUDIO = b"RIFF....WAVEfmt "


@pytest.fixture(autouse=True)
def full_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that the jitter may give, so that no retry falls due by itself."""
    for module in (effect_recording, deliveries):
        monkeypatch.setattr(module, "backoff", partial(backoff, jitter=lambda: 1.0))


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


async def upload(board: Board, media_type: str = "audio/wav") -> str:
    caller = await board.desk.caller()
    answer = await caller.call(
        "POST", "/api/v1/files?name=hello.wav", data=AUDIO, headers={"Content-Type": media_type}
    )
    assert answer.status == 201, answer.data
    file_id: str = answer.data["id"]
    return file_id


async def voicemail(board: Board, **config: Any) -> UUID:
    audio = {
        "audio_file_id": config.pop("audio_file_id", None) or await upload(board),
        "from_number": FROM,
        "purpose": "transactional",
        "respect_quiet_hours": False,
        **config,
    }
    return await board.world.workflow(("send_voicemail", audio))


async def outcome(board: Board, execution: UUID) -> Any:
    (step,) = await board.world.steps(execution)
    return step["result_data"].get("outcome") or step["error_code"] or step["skip_reason"]


# Voicemail


@pytest.mark.parametrize(
    ("answered_by", "verbs", "word"),
    [
        ("machine_end_beep", ["Play", "Hangup"], "machine"),
        ("machine_end_silence", ["Play", "Hangup"], "machine"),
        ("machine_end_other", ["Play", "Hangup"], "machine"),
        ("machine_start", ["Pause", "Play", "Hangup"], "machine"),
        ("human", ["Say", "Hangup"], "human"),
        ("unknown", ["Say", "Hangup"], "human"),
        ("fax", ["Hangup"], "call_failed"),
    ],
)
async def test_a_voicemail_is_played_to_machines_and_ends_politely_with_people(
    board: Board, answered_by: str, verbs: list[str], word: str
) -> None:
    board.fake.answers[TO] = [Answer(answered_by=answered_by, duration=21)]
    execution = await board.run(await voicemail(board))
    (call,) = board.fake.calls
    assert call.form["MachineDetection"] == "DetectMessageEnd"
    assert call.verbs == verbs
    assert call.played == ([(200, "audio/wav", AUDIO)] if "Play" in verbs else [])
    assert await outcome(board, execution) == word
    greeting = "Hello, this is Acme. We only wanted to leave you a message. Goodbye."
    assert call.said == ([greeting] if "Say" in verbs else [])
    (step,) = await board.world.steps(execution)
    if step["status"] == "completed":
        told = step["result_data"]
        assert (told["answered_by"], told["duration_seconds"], told["sid"]) == (
            answered_by,
            21,
            call.sid,
        )


@pytest.mark.parametrize(
    ("status", "word"),
    [("busy", "busy"), ("no-answer", "no_answer"), ("failed", "call_failed")],
)
async def test_a_voicemail_that_nobody_takes_says_why(board: Board, status: Any, word: str) -> None:
    board.fake.answers[TO] = [Answer(status)]
    execution = await board.run(await voicemail(board))
    assert await outcome(board, execution) == word
    assert len(board.fake.calls) == 1


async def test_a_busy_line_is_tried_again_as_often_as_asked_for(board: Board) -> None:
    workflow = await voicemail(board, retry_on_busy=True, max_retries=2)
    board.fake.answers[TO] = [Answer("busy")]
    execution = await board.run(workflow)
    for _ in range(3):
        await board.advance(minutes=5)
    assert len(board.fake.calls) == 3
    (step,) = await board.world.steps(execution)
    assert (step["result_data"]["outcome"], step["result_data"]["tries"]) == ("busy", 3)


async def test_a_busy_line_that_becomes_free_gets_its_message(board: Board) -> None:
    workflow = await voicemail(board, retry_on_busy=True)
    board.fake.answers[TO] = [Answer("busy"), Answer(answered_by="machine_end_beep")]
    execution = await board.run(workflow)
    assert await board.world.statuses(execution) == ["scheduled"]
    await board.advance(minutes=5)
    assert await outcome(board, execution) == "machine"
    assert [len(call.played) for call in board.fake.calls] == [0, 1]


async def test_without_detection_the_message_is_played_to_whoever_answers(board: Board) -> None:
    execution = await board.run(await voicemail(board, machine_detection=False))
    (call,) = board.fake.calls
    assert "MachineDetection" not in call.form
    assert (call.verbs, await outcome(board, execution)) == (["Play", "Hangup"], "answered")


@pytest.mark.parametrize(
    ("audio_file_id", "code"),
    [("00000000-0000-0000-0000-000000000000", "file_not_found"), (None, "file_not_audio")],
)
async def test_what_cannot_be_played_fails_before_anybody_is_called(
    board: Board, audio_file_id: str | None, code: str
) -> None:
    file_id = audio_file_id or await upload(board, "text/plain")
    execution = await board.run(await voicemail(board, audio_file_id=file_id))
    assert (await outcome(board, execution), board.fake.arrivals) == (code, 0)


# Calls


async def test_a_call_connects_the_contact_and_says_how_it_went(board: Board) -> None:
    board.fake.answers[TO] = [Answer(duration=63)]
    execution = await board.run(await board.calling(record_call=True, timeout_seconds=25))
    (call,) = board.fake.calls
    assert (call.to, call.form["From"], call.form["Timeout"]) == (TO, FROM, "25")
    assert call.dialled == [("Number", "+14155550177")]
    assert (call.dial_attributes["timeout"], call.dial_attributes["callerId"]) == ("25", FROM)
    (step,) = await board.world.steps(execution)
    told = step["result_data"]
    assert (told["outcome"], told["duration_seconds"]) == ("completed", 63)
    assert told["recording_url"].startswith("https://api.twilio.com/recordings/RE")
    (event,) = await board.events("call_ended")
    assert event["payload"]["recording_seconds"] == 63


async def test_what_is_heard_after_a_call_is_added_to_its_step_once(board: Board) -> None:
    """A recording is ready only moments after the call."""
    execution = await board.run(await board.calling())
    (call,) = board.fake.calls
    url = call.form["StatusCallback"].replace("/status", "/recording")

    async def record(sid: str, recording: str) -> dict[str, Any]:
        params = {"CallSid": sid, "RecordingSid": recording, "RecordingUrl": f"https://x/{sid}"}
        assert (await board.fake.webhooks.post(url, params)).status == 204
        result: dict[str, Any] = (await board.world.steps(execution))[0]["result_data"]
        return result

    assert "recording_sid" not in await record("CAother", "RE0")
    for recording in ("RE1", "RE2"):
        assert (await record(call.sid, recording))["recording_sid"] == "RE1"
    assert (await record(call.sid, "RE1"))["outcome"] == "completed"


async def test_what_is_heard_of_a_call_after_its_contact_was_erased_is_not_kept(
    board: Board,
) -> None:
    await board.run(await board.calling())
    (call,) = board.fake.calls
    await board.pool.execute("UPDATE effects SET request = '{\"erased\": true}'")
    url = call.form["StatusCallback"].replace("/status", "/recording")
    params = {"CallSid": call.sid, "RecordingSid": "RE1", "RecordingUrl": "https://x/voice"}
    assert (await board.fake.webhooks.post(url, params)).status == 204
    kept = "SELECT to_jsonb(r)::text FROM effect_reports r WHERE status = 'recorded'"
    assert "voice" not in await board.pool.fetchval(kept)


@pytest.mark.parametrize(
    ("type_", "value", "dialled"),
    [
        ("queue", "Sales", ("Queue", "Sales")),
        ("ivr", "https://ivr.example/menu?x=1&y=2", ("Redirect", "https://ivr.example/menu?x=1&y=2")),
        ("ivr", f"AP{'1' * 32}", ("Application", f"AP{'1' * 32}")),
        ("external", "{{contact.last_name}}", ("Number", "+14155550133")),
    ],
)  # fmt: skip
async def test_calls_lead_to_queues_numbers_and_ivrs(
    board: Board, type_: str, value: str, dialled: tuple[str, str]
) -> None:
    workflow = await board.calling(destination_type=type_, destination_value=value)
    execution = await board.run(workflow, last_name="+14155550133")
    assert board.fake.calls[0].dialled == [dialled]
    assert await outcome(board, execution) == "completed"


async def test_a_call_leads_to_a_user_s_phone(board: Board) -> None:
    user = await board.world.user("kim@acme.test", phone="+14155550155")
    workflow = await board.calling(destination_type="user", destination_value=str(user))
    await board.run(workflow)
    assert board.fake.calls[0].dialled == [("Number", "+14155550155")]


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"destination_type": "user"}, "user_not_found"),
        ({"destination_value": "{{contact.id}}"}, "destination_unusable"),
        ({"destination_type": "ivr", "destination_value": "menu"}, "destination_unusable"),
        ({"from_number": "+14155550000"}, "sender_unknown"),
    ],
)  # fmt: skip
async def test_a_call_that_leads_nowhere_fails_before_anybody_is_called(
    board: Board, config: dict[str, Any], code: str
) -> None:
    if config.get("destination_type") == "user":
        stranger = await board.world.user(
            "x@other.test", account_id=await board.world.account("Other"), phone="+14155550155"
        )
        config = {**config, "destination_value": str(stranger)}
    execution = await board.run(await board.calling(**config))
    assert (await outcome(board, execution), board.fake.arrivals) == (code, 0)


async def test_a_user_without_a_phone_is_named(board: Board) -> None:
    workflow = await board.calling(
        destination_type="user", destination_value=str(board.world.user_id)
    )
    assert await outcome(board, await board.run(workflow)) == "user_has_no_phone"


@pytest.mark.parametrize(
    ("dial_status", "word"),
    [("busy", "busy"), ("no-answer", "no_answer"), ("failed", "call_failed")],
)
async def test_the_other_leg_s_end_is_the_call_s(board: Board, dial_status: str, word: str) -> None:
    board.fake.answers[TO] = [Answer(dial_status=dial_status)]
    assert await outcome(board, await board.run(await board.calling())) == word


async def test_an_end_that_is_never_told_holds_up_no_run(board: Board) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    execution = await board.run(await board.calling())
    assert await board.world.statuses(execution) == ["waiting"]
    await board.advance(hours=5)
    assert await outcome(board, execution) == "call_end_unknown"


async def test_a_call_s_end_may_be_told_before_twilio_has_answered(board: Board) -> None:
    board.fake.callbacks = Callbacks(come_early=True)
    board.fake.script = [Drop()]
    execution = await board.run(await board.calling())
    assert await outcome(board, execution) == "completed"
    assert len(board.fake.calls) == 1


async def test_accepted_then_the_connection_drops_is_no_second_call(board: Board) -> None:
    board.fake.callbacks = Callbacks(are_sent=False)
    board.fake.script = [Drop()]
    execution = await board.run(await board.calling())
    await board.advance(hours=6)
    assert (await outcome(board, execution), len(board.fake.calls)) == ("outcome_unknown", 1)


async def test_calls_follow_the_retry_table_too(board: Board) -> None:
    board.fake.script = [Refuse(429, 20429, retry_after=60), Refuse(503)]
    execution = await board.run(await board.calling())
    await board.advance(seconds=60)
    await board.advance(seconds=2)
    assert await outcome(board, execution) == "completed"
    assert await board.attempts() == ["retried", "retried", "succeeded"]


async def test_who_refuses_texts_gets_no_marketing_calls_either_until_the_return(
    board: Board,
) -> None:
    await board.pool.execute("UPDATE accounts SET consent_required_for = '{}'")
    workflow = await board.calling(purpose="marketing")
    agreed_on = await board.calling()
    contact = await board.world.contact(phone=TO)

    async def calls(workflow: UUID) -> Any:
        execution = await board.world.run(workflow, contact)
        await board.settle()
        return await outcome(board, execution)

    await board.fake.text(board.texts_url, TO, FROM, "please stop texting me")
    assert (await calls(workflow), await calls(agreed_on)) == ("opted_out", "completed")
    await board.fake.text(board.texts_url, TO, FROM, "START")
    assert await calls(workflow) == "completed"


async def test_a_return_to_texts_does_not_undo_a_refusal_of_calls(board: Board) -> None:
    await board.pool.execute("UPDATE accounts SET consent_required_for = '{}'")
    async with board.pool.acquire() as db:
        await opt_out(db, board.world.account_id, "voice", TO, "asked_by_phone")
    for word in ("STOP", "START"):
        await board.fake.text(board.texts_url, TO, FROM, word)
    execution = await board.run(await board.calling())
    assert await outcome(board, execution) == "opted_out"


async def test_a_text_s_refusal_leaves_agreed_calls_alone_and_calls_respect_quiet_hours(
    board: Board,
) -> None:
    await board.fake.text(board.texts_url, TO, FROM, "STOP")
    workflow = await board.calling(respect_quiet_hours=True, quiet_hours_start="00:00",
                                   quiet_hours_end="23:59")  # fmt: skip
    execution = await board.run(workflow, time_zone="UTC")
    effect = await board.effect()
    assert (effect["status"], effect["attempt"]) == ("scheduled", 0)
    await board.pool.execute(
        "UPDATE effects SET request = jsonb_set(request, '{permission,quiet_hours}', 'null')"
    )
    await board.advance(days=1)
    assert await outcome(board, execution) == "completed"


async def test_nobody_is_told_what_to_say_without_twilio_s_signature(board: Board) -> None:
    await board.run(await voicemail(board))
    (call,) = board.fake.calls
    url = call.form["Url"]
    params = {"CallSid": call.sid, "AnsweredBy": "machine_end_beep"}
    told = await board.fake.webhooks.post(url, params, auth_token="a guess")
    assert (told.status, "<Play>" in told.answer) == (403, False)
    ended = {**params, "CallStatus": "completed"}
    twice = await board.fake.webhooks.post(call.form["StatusCallback"], ended)
    assert twice.status == 204
    assert len(await board.events("call_ended")) == 1
