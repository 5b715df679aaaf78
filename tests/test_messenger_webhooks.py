"""Messenger's webhook: the handshake, signatures, receipts in any order, what people write."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from actors.integrations import Integrations
from actors.messenger_events import PersonEvent
from actors.messenger_people import take_events
from runtime.house import House
from tests.counterparts.graph.server import PAGE, Delay, Drop
from tests.messenger_board import PSID, Board, open_board
from tests.stand_ins import WorldWith


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


def said(text: str, mid: str) -> dict[str, str]:
    return {"mid": f"m_{mid}", "text": text}


async def state(board: Board) -> list[Any]:
    tables = "messenger_people", "domain_events", "effect_reports", "inbound_texts", "effects"
    return [await board.pool.fetch(f"SELECT t::text FROM {t} t ORDER BY 1") for t in tables]


async def test_the_handshake_gives_the_challenge_for_the_token_alone(board: Board) -> None:
    assert await board.fake.subscribe() == (200, "1158201444")
    assert (await board.fake.subscribe("another"))[0] == 403


async def test_what_facebook_has_not_signed_changes_nothing(board: Board) -> None:
    before = await state(board)
    item = {"sender": {"id": PSID}, "message": {"mid": "m_1", "text": "STOP"}}
    assert await board.fake.post([item], secret="a guess") == 403
    for headers in ({}, {"X-Hub-Signature-256": "sha256="}, {"X-Hub-Signature-256": "ä"}):
        assert await board.fake.post_as(b'{"object": "page"}', headers) == 403
    board.fake.webhook = board.fake.webhook.replace(str(board.page_id), str(board.world.user_id))
    assert await board.fake.post([item]) == 403
    assert await state(board) == before


@pytest.mark.parametrize("order", [("deliver", "read"), ("read", "deliver"), ("read", "read")])
async def test_receipts_come_in_any_order_and_repeated(
    board: Board, order: tuple[str, str]
) -> None:
    await board.world.run(await board.messaging(), await board.person())
    (message,) = board.fake.messages
    await board.tick()
    for word in (*order, *order):
        assert await getattr(board.fake, word)(message) == 200
    effect = await board.effect()
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "read")
    rows = await board.pool.fetchval("SELECT count(*) FROM effect_reports")
    assert rows == len(set(order))


async def test_receipts_that_come_before_the_answer_is_recorded_are_not_lost(
    board: Board,
) -> None:
    """They name no message that we know yet: the person's mark is looked at again."""
    board.fake.script = [Delay()]
    (enrolment,) = await board.world.enrol(await board.messaging(), await board.person())
    settling = asyncio.create_task(board.world.settle())
    await board.fake.has_come(1)
    (message,) = board.fake.messages
    await board.tick()
    for word in ("deliver", "read"):
        assert await getattr(board.fake, word)(message) == 200
    board.fake.delayed.set()
    await settling
    await board.advance(seconds=30)
    effect = await board.effect()
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "read")
    assert enrolment.execution_id is not None
    assert await board.world.statuses(enrolment.execution_id) == ["completed"]
    assert await board.pool.fetchval("SELECT count(*) FROM timers") == 0


async def test_many_entries_in_any_order_and_repeated_are_taken_in_once_each(
    board: Board,
) -> None:
    psids = [f"88{n:03}" for n in range(6)]
    people = [await board.person(psid) for psid in psids]
    board.fake.script = [Drop()]
    workflow = await board.messaging()
    for person in people:
        await board.world.run(workflow, person)
    await board.tick()
    items = [item for message in board.fake.messages for item in board.fake.items_of(message)]
    items += [board.fake.item(psid, message=said("Gladly", psid)) for psid in psids]
    items += [board.fake.item(psids[0], message=said(word, word)) for word in ("STOP", "start")]
    items += [board.fake.item(psids[1], message=said("stop", "out"))]
    tangled = [*reversed(items[:18]), *items[18:]] * 2
    for status in await asyncio.gather(*[board.fake.post(tangled) for _ in range(3)]):
        assert status == 200
    effects = await board.pool.fetch("SELECT status, delivery_status FROM effects")
    assert {tuple(effect) for effect in effects} == {("succeeded", "read")}
    assert await board.pool.fetchval("SELECT count(*) FROM effect_reports") == 18
    assert len(await board.events("messenger_reply")) == 12
    out = "SELECT address FROM channel_addresses WHERE opted_out_at IS NOT NULL"
    assert await board.pool.fetchval(out) == f"{PAGE}:{psids[1]}"
    assert len(await board.events("messenger_opted_in")) == 1


async def test_hundreds_of_events_cost_as_many_statements_as_a_few(
    board: Board, house: House
) -> None:
    integration = await Integrations(house).get(board.page_id)
    assert integration is not None

    async def statements(people: int) -> int:
        made: list[str] = []
        mid = f"m_{people}"
        events = [
            PersonEvent(PAGE, f"99{n}", key=f"{mid}{n}", opens=True, text="STOP")
            for n in range(people)
        ]
        now = board.fake.now
        events += [replace(event, key=None, text="", read_until=now) for event in events]
        async with board.pool.acquire() as db, db.transaction():
            with db.query_logger(lambda record: made.append(record.query)):
                await take_events(db, house, integration, events, now)
        return sum(query.startswith("/*") for query in made)  # asyncpg's own apart

    assert await statements(2) == await statements(300)


async def test_a_reply_comes_once_and_names_the_run_that_it_answers(board: Board) -> None:
    execution = await board.world.run(await board.messaging(), await board.person())
    for _ in range(3):
        assert await board.fake.write(PSID, "Gladly", mid="m_gladly") == 200
    hello, reply = await board.events("messenger_reply")
    assert (hello["payload"]["body"], reply["payload"]["body"]) == ("Hello", "Gladly")
    assert (hello["execution_id"], reply["execution_id"]) == (None, execution)


async def test_an_older_message_that_comes_late_does_not_shorten_the_window(board: Board) -> None:
    await board.person()
    newest = await board.pool.fetchval("SELECT last_inbound_at FROM messenger_people")
    old = newest.replace(year=newest.year - 1)
    await board.fake.write(PSID, "late", at=old)
    assert await board.pool.fetchval("SELECT last_inbound_at FROM messenger_people") == newest


async def test_stop_opts_out_start_opts_in_and_other_words_do_neither(board: Board) -> None:
    workflow, person = await board.messaging(), await board.person()

    async def ends() -> str:
        (step,) = await board.world.steps(await board.world.run(workflow, person))
        return str(step["status"])

    for word, status in (
        ("stop by at 5?", "completed"),
        ("STOP", "failed"),
        ("why?", "failed"),
        ("start", "completed"),
    ):
        assert await board.fake.write(PSID, word) == 200
        assert await ends() == status, word
    assert len(await board.events("messenger_opted_out")) == 1
    assert len(await board.events("messenger_opted_in")) == 1


async def test_a_pressed_button_opens_the_window(board: Board) -> None:
    await board.person(wrote=False)
    pressed = {"title": "Start", "payload": "GET_STARTED"}
    assert await board.fake.tell(PSID, postback=pressed) == 200
    assert await board.pool.fetchval("SELECT last_inbound_at FROM messenger_people") is not None
    assert len(await board.events("messenger_reply")) == 1


async def test_a_link_says_who_follows_it_and_a_forged_one_nothing(board: Board) -> None:
    admin = await board.desk.caller("Acme")
    made = await admin.post("/api/v1/contacts", {"first_name": "Ada"})
    path = f"/api/v1/contacts/{made['id']}/messenger"
    (invitation,) = (await admin.get(path))["invitations"]
    (ref,) = parse_qs(urlsplit(invitation["url"]).query)["ref"]
    forged = {"ref": ref[:-4] + "AAAA", "source": "SHORTLINK"}
    await board.fake.tell(PSID, referral=forged)
    assert (await admin.get(path))["people"] == []
    await board.fake.tell(PSID, referral={"ref": ref, "source": "SHORTLINK"})
    (person,) = (await admin.get(path))["people"]
    assert (person["page"], person["psid"]) == (PAGE, PSID)


async def test_a_person_is_linked_by_a_call_to_one_contact_only(board: Board) -> None:
    admin = await board.desk.caller("Acme")
    one, two = [await admin.post("/api/v1/contacts", {"first_name": n}) for n in ("Ada", "Bob")]
    body = {"page_id": str(board.page_id), "psid": PSID}
    shown = await admin.call("PUT", f"/api/v1/contacts/{one['id']}/messenger", body)
    assert shown.data["people"][0]["psid"] == PSID
    path = f"/api/v1/contacts/{two['id']}/messenger"
    assert (await admin.refused("PUT", path, body)).status == 409
    unknown = {**body, "page_id": str(board.world.user_id)}
    assert (await admin.refused("PUT", path, unknown)).status == 422
    link = f"/api/v1/contacts/{one['id']}/messenger/{board.page_id}"
    await admin.delete(link)
    assert (await admin.refused("DELETE", link)).code == "person_not_found"
    assert (await admin.call("PUT", path, body)).status == 200


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"sender": 5, "message": []},
        {"sender": {"id": "x y"}, "message": {"mid": "m"}},
        {"sender": {"id": PSID}, "message": {"mid": "m_2", "text": "\x00\ud800"}},
        {"sender": {"id": PSID}, "timestamp": 10**30, "postback": {"payload": 7}},
        {"sender": {"id": PSID}, "read": {"watermark": "soon"}},
    ],
)
async def test_what_makes_no_sense_is_passed_over(board: Board, item: dict[str, Any]) -> None:
    assert await board.fake.post([item]) == 200
