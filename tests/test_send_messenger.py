"""send_messenger: messages by the Send API, to a fake that refuses what Facebook refuses."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from runtime import effect_recording
from runtime.dispatching import opt_out
from runtime.failures import backoff
from tests.counterparts.graph.server import PAGE, Drop, Hang, Refuse
from tests.messenger_board import PSID, Board, open_board
from tests.stand_ins import WorldWith

ADDRESS = f"{PAGE}:{PSID}"


@pytest.fixture(autouse=True)
def full_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that the jitter may give, so that no retry falls due by itself."""
    monkeypatch.setattr(effect_recording, "backoff", partial(backoff, jitter=lambda: 1.0))


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


async def end(board: Board, execution: Any) -> tuple[str, str | None]:
    step = (await board.world.steps(execution))[0]
    return step["status"], step["skip_reason"] or step["error_code"]


async def test_a_message_goes_out_once_and_says_what_it_was_allowed_by(board: Board) -> None:
    person = await board.person(first_name="Ada")
    execution = await board.world.run(await board.messaging(), person)
    (message,) = board.fake.messages
    assert (message.to, message.content) == (ADDRESS, {"text": "Hi Ada"})
    assert message.body["messaging_type"] == "UPDATE"
    (step,) = await board.world.steps(execution)
    assert step["result_data"] == {"sid": message.mid, "status": "sent"}
    effect = await board.effect()
    assert (effect["status"], effect["provider_id"]) == ("succeeded", message.mid)
    assert effect["decision"]["checks"][-1]["check"] == "messaging_window"
    assert message.body["message"]["metadata"] == str(effect["id"])


@pytest.mark.parametrize(
    ("config", "content"),
    [
        (
            {"message_type": "image", "content": {"url": "https://x.test/{{contact.last_name}}"}},
            {
                "attachment": {
                    "type": "image",
                    "payload": {"url": "https://x.test/a", "is_reusable": True},
                }
            },
        ),
        (
            {
                "message_type": "quick_reply",
                "content": {
                    "text": "Well?",
                    "quick_replies": [
                        {"title": "{{contact.email}}", "payload": "A"},
                        {"content_type": "user_email"},
                    ],
                },
            },
            {
                "text": "Well?",
                "quick_replies": [
                    {"content_type": "text", "title": "a@x.test", "payload": "A"},
                    {"content_type": "user_email"},
                ],
            },
        ),
        (
            {
                "message_type": "template",
                "content": {"template_type": "button", "text": "x", "buttons": []},
            },
            {
                "attachment": {
                    "type": "template",
                    "payload": {"template_type": "button", "text": "x", "buttons": []},
                }
            },
        ),
    ],
)
async def test_every_type_of_message_has_the_send_api_s_shape(
    board: Board, config: dict[str, Any], content: dict[str, Any]
) -> None:
    await board.world.run(
        await board.messaging(**config), await board.person(last_name="a", email="a@x.test")
    )
    assert [message.content for message in board.fake.messages] == [content]


LAST_NAME = {"text": "{{contact.last_name}}"}


@pytest.mark.parametrize(
    ("config", "last_name", "ends"),
    [
        ({"content": LAST_NAME}, "", ("failed", "message_empty")),
        ({"content": LAST_NAME}, "x" * 2001, ("failed", "text_too_long")),
        (
            {"message_type": "image", "content": {"url": "{{contact.last_name}}"}},
            "js:x",
            ("failed", "media_unusable"),
        ),
    ],
)
async def test_what_cannot_be_sent_ends_with_its_reason(
    board: Board, config: dict[str, Any], last_name: str, ends: tuple[str, str]
) -> None:
    person = await board.person(last_name=last_name)
    execution = await board.world.run(await board.messaging(**config), person)
    assert await end(board, execution) == ends
    assert board.fake.arrivals == 0


async def test_a_contact_that_no_page_knows_is_skipped_by_name(board: Board) -> None:
    execution = await board.world.run(await board.messaging(), await board.world.contact())
    assert await end(board, execution) == ("skipped", "contact_not_on_messenger")


@pytest.mark.parametrize(
    ("change", "code"),
    [("disabled_at = now()", "page_disabled"), ("kind = 'smtp'", "page_unknown")],
)
async def test_the_page_is_looked_at_when_the_step_is_done(
    board: Board, change: str, code: str
) -> None:
    person, workflow = await board.person(), await board.messaging()
    await board.pool.execute(f"UPDATE integrations SET {change}")
    assert await end(board, await board.world.run(workflow, person)) == ("failed", code)


@pytest.mark.parametrize(
    ("hours", "tag", "ends"),
    [
        (23.9, None, ("completed", None)),
        (24, None, ("failed", "outside_messaging_window")),
        (24, "ACCOUNT_UPDATE", ("completed", None)),
        (24 * 7 - 1, "HUMAN_AGENT", ("completed", None)),
        (24 * 7, "HUMAN_AGENT", ("failed", "outside_messaging_window")),
    ],
)
async def test_outside_the_window_only_a_permitted_tag_goes(
    board: Board, hours: float, tag: str | None, ends: tuple[str, str | None]
) -> None:
    person = await board.person()
    await board.advance(hours=hours)
    config: dict[str, Any] = {} if tag is None else {
        "messaging_type": "MESSAGE_TAG", "content": {"text": "x", "tag": tag},
    }  # fmt: skip
    execution = await board.world.run(await board.messaging(**config), person)
    assert await end(board, execution) == ends
    assert [message.body.get("tag") for message in board.fake.messages] == (
        [tag] if ends[0] == "completed" else []
    )


async def test_why_says_when_the_person_last_wrote(board: Board) -> None:
    person = await board.person()
    await board.advance(hours=25)
    (step,) = await board.world.steps(await board.world.run(await board.messaging(), person))
    admin = await board.desk.caller("Acme")
    (effect,) = (await admin.get(f"/api/v1/steps/{step['id']}/why"))["effects"]
    assert effect["why"].startswith("The person last wrote to the page on ")
    window = effect["decision"]["checks"][-1]
    assert (window["check"], window["passed"], window["tag"]) == ("messaging_window", False, None)


async def test_the_fallback_takes_who_may_not_be_written_to(board: Board) -> None:
    person = await board.person(wrote=False)
    workflow = await board.messaging(("add_tag", {"tag_name": "call them"}), fallback=1)
    execution = await board.world.run(workflow, person)
    steps = await board.world.steps(execution)
    assert [step["status"] for step in steps] == ["failed", "completed"]
    assert steps[0]["error_code"] == "outside_messaging_window"


async def test_who_has_opted_out_goes_to_the_fallback_whenever_it_is_said(board: Board) -> None:
    """Before the claim, and while the message waits for its dispatch."""
    person = await board.person()
    workflow = await board.messaging(("add_tag", {"tag_name": "call them"}), fallback=1)
    (enrolment,) = await board.world.enrol(workflow, person)
    await board.world.worker._steps["messenger"].answer()
    assert (await board.effect())["status"] == "pending"
    async with board.pool.acquire() as db:
        await opt_out(db, board.world.account_id, "messenger", ADDRESS, "stop")
    await board.world.settle()
    again = await board.world.run(workflow, person)
    for execution in (enrolment.execution_id, again):
        assert execution is not None
        assert await end(board, execution) == ("failed", "opted_out")
    assert board.fake.arrivals == 0


async def test_what_facebook_says_of_the_window_counts_too(board: Board) -> None:
    board.fake.always = Refuse(403, 10, 2018278)
    execution = await board.world.run(await board.messaging(), await board.person())
    assert await end(board, execution) == ("failed", "outside_messaging_window")


async def test_in_test_mode_nothing_leaves_loopback(board: Board) -> None:
    await board.pool.execute("UPDATE accounts SET is_test = true")
    await board.pool.execute(
        'UPDATE integrations SET settings = \'{"base_url": "https://192.0.2.1"}\''
    )
    await board.world.run(await board.messaging(), await board.person())
    assert (await board.effect())["result"]["status"] == "recorded"


# What goes wrong on the way


async def test_accepted_then_dropped_is_unknown_and_an_echo_settles_it(board: Board) -> None:
    board.fake.script = [Drop()]
    execution = await board.world.run(await board.messaging(), await board.person())
    assert await end(board, execution) == ("failed", "outcome_unknown")
    (message,) = board.fake.messages
    assert await board.fake.echo(message) == 200
    effect = await board.effect()
    assert (effect["status"], effect["provider_id"]) == ("succeeded", message.mid)


async def test_no_answer_in_time_is_unknown_and_repeated_where_the_action_says_so(
    board: Board,
) -> None:
    person = await board.person()
    await board.pool.execute(
        "UPDATE integrations SET settings = settings || '{\"timeout_seconds\": 0.1}'"
    )
    board.fake.script = [Hang()]
    workflow = await board.messaging(on_unknown_outcome="repeat")
    execution = await board.world.run(workflow, person)
    await board.advance(seconds=2)
    assert await end(board, execution) == ("completed", None)


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "600"},
        {
            "X-Business-Use-Case-Usage": '{"1": [{"type": "messenger",'
            ' "estimated_time_to_regain_access": 10}]}'
        },
    ],
)
async def test_facebook_s_own_word_on_when_to_come_back_is_kept(
    board: Board, headers: dict[str, str]
) -> None:
    board.fake.script = [Refuse(429, 80006, headers=headers)]
    execution = await board.world.run(await board.messaging(), await board.person())
    await board.advance(seconds=560)  # the clock goes on beside
    assert board.fake.arrivals == 1
    await board.advance(seconds=40)
    assert await end(board, execution) == ("completed", None)


@pytest.mark.parametrize(
    ("refuse", "tries", "code"),
    [
        (Refuse(401, 190), 1, "facebook_190"),
        (Refuse(400, 100), 1, "facebook_100"),
        (Refuse(400, 551, 1545041), 1, "person_unavailable"),
        (Refuse(400, 100, 2018001), 1, "person_unknown"),
        (Refuse(500, 1200), 4, "facebook_1200"),
        (Refuse(400, 613), 6, "facebook_613"),
        (Refuse(400, 4711), 1, "facebook_4711"),
        (Refuse(500, 4711), 4, "facebook_4711"),
        (Refuse(500, 1), 1, "outcome_unknown"),
        (Refuse(504, None), 1, "outcome_unknown"),
    ],
)
async def test_refusals_follow_the_retry_table(
    board: Board, refuse: Refuse, tries: int, code: str
) -> None:
    await board.pool.execute("UPDATE integrations SET breaker_failures = 100")
    board.fake.always = refuse
    execution = await board.world.run(await board.messaging(), await board.person())
    for _ in range(tries):
        await board.advance(minutes=10)
    assert await end(board, execution) == ("failed", code)
    assert board.fake.arrivals == tries


async def test_a_provider_that_is_down_costs_no_attempt_while_it_is_held(board: Board) -> None:
    await board.pool.execute(
        "UPDATE integrations SET breaker_failures = 2, breaker_open_seconds = 60"
    )
    workflow = await board.messaging()
    people = [await board.person(f"88{n}") for n in range(5)]
    board.fake.always = Refuse(503, 2)
    for person in people:
        await board.world.run(workflow, person)
    assert board.fake.arrivals == 2
    board.fake.always = None
    await board.advance(seconds=61)
    await board.advance(seconds=61)
    assert len(board.fake.messages) == 5
    retried = "SELECT count(*) FROM effect_attempts WHERE outcome = 'retried'"
    assert await board.pool.fetchval(retried) == 2


async def test_a_person_who_is_another_contact_by_now_is_not_written_to(board: Board) -> None:
    person = await board.person()
    (enrolment,) = await board.world.enrol(await board.messaging(), person)
    await board.world.worker._steps["messenger"].answer()
    await board.pool.execute("UPDATE messenger_people SET contact_id = NULL")
    await board.world.settle()
    assert enrolment.execution_id is not None
    assert await end(board, enrolment.execution_id) == ("failed", "person_unlinked")
