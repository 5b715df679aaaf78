"""Opens and clicks: asked for over HTTP as mail programs do, by people and by machines."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.mail_machines import SOON, machine_sign
from actors.mail_reports import MailReport
from api.mail_readers import READERS
from runtime.deliveries import rank
from tests.mail_board import HTML, PUBLIC_URL, Board, open_board
from tests.stand_ins import WorldWith, blocked_or_done

A_MINUTE = {"minutes": 1}


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        yield board


async def sent(board: Board, *more: Any, html: str = HTML, **config: Any) -> Any:
    """Send a mail; a minute later it may have been read. Gives the execution."""
    execution = await board.run(await board.mailing(*more, html=html, **config), first_name="Bo")
    await board.world.advance(**A_MINUTE)
    return execution


async def test_an_opened_mail_is_an_event_and_a_status(board: Board) -> None:
    execution = await sent(board)
    assert (await board.effect())["delivery_status"] == "sent"
    for _ in range(3):
        picture = await board.ask(board.pixel())
        assert (picture.status, picture.headers["Content-Type"]) == (200, "image/gif")
        assert picture.body.startswith(b"GIF89a")
        assert "no-store" in picture.headers["Cache-Control"]
    (event,) = await board.events("email_open")
    (step,) = await board.world.steps(execution)
    assert (event["action_id"], event["execution_id"]) == (step["action_id"], execution)
    effect = await board.effect()
    assert event["payload"] == {"effect_id": str(effect["id"])}
    assert (effect["status"], effect["delivery_status"]) == ("succeeded", "opened")


async def test_a_link_leads_to_what_was_signed_and_is_an_event(board: Board) -> None:
    await sent(board)
    tracked, mail = board.links()
    assert tracked.startswith(f"{PUBLIC_URL}/t/c/")
    assert mail == "mailto:ada@acme.test"
    led = await board.ask(tracked)
    assert (led.status, led.headers["Location"]) == (302, "https://acme.test/a?b=1&c=2")
    assert "no-store" in led.headers["Cache-Control"]
    (event,) = await board.events("email_click")
    assert event["payload"]["url"] == "https://acme.test/a?b=1&c=2"
    assert (await board.effect())["delivery_status"] == "clicked"
    await board.ask(board.pixel())
    assert (await board.effect())["delivery_status"] == "clicked"
    assert await board.event_types() == ["email_click", "email_open"]


OUTLOOK = """<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "x">
<html xmlns:v="urn:schemas-microsoft-com:vml"><head><title>A &amp; B</title>
<style>a > b { color: red }</style></head><BODY bgcolor=#fff>
<!--[if mso]><v:roundrect href="https://acme.test/?a=1&amp;b=2" arcsize="8%"><center>
<a href="https://acme.test/mso">Go</a></center></v:roundrect><![endif]-->
<![if !mso]><A  HREF = 'https://acme.test/?a=1&amp;b=2&copy=3'
   style='x'>Go &rarr; {{contact.first_name}}</a><![endif]>
<p><b><i>mis</b>nested</i> é &nbsp;&#8226; <a name=top>x</a> <a href=#top>up</a>
<a href="tel:+1">tel</a><td><a href=https://acme.test/bare>bare</a>
<br/><a href="https://acme.test/{{contact.first_name}}">you</a>
"""


@pytest.mark.parametrize("more", ["", "{% if contact.first_name %}!{% endif %}"])
async def test_all_but_the_links_stays_byte_by_byte(board: Board, more: str) -> None:
    await sent(board, html=OUTLOOK + more)
    html = board.html().replace("\r\n", "\n")
    urls = re.findall(rf"{re.escape(PUBLIC_URL)}/t/[\w/-]+", html)
    targets = [(await board.ask(url)).headers.get("Location") for url in urls]
    assert targets == [
        "https://acme.test/?a=1&b=2&copy=3", "https://acme.test/bare", "https://acme.test/Bo", None,
    ]  # fmt: skip
    for url, target in zip(urls[:3], targets, strict=False):
        html = html.replace(url, str(target).replace("&b", "&amp;b"))
    html = re.sub(r"<img [^>]*>", "", html)
    said = OUTLOOK.replace("{{contact.first_name}}", "Bo") + ("!" if more else "")
    assert html.rstrip("\n") == said.rstrip("\n")


async def test_what_is_not_to_be_tracked_is_not(board: Board) -> None:
    html = '<a href="https://acme.test/">A</a>'
    await sent(board, html=html, track_opens=False, track_clicks=False)
    assert board.html().rstrip() == html
    await board.run(await board.mailing(html=html, track_opens=False), email="c@x.test")
    assert "<img" not in board.html()
    assert board.links()[0].startswith(f"{PUBLIC_URL}/t/c/")


async def test_the_link_that_unsubscribes_is_left_alone(board: Board) -> None:
    await board.pool.execute("UPDATE accounts SET postal_address = '1 Way'")
    await sent(board, purpose="marketing")
    assert board.links()[-1].startswith(f"{PUBLIC_URL}/unsubscribe/")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_token_that_was_tampered_with_is_nothing(board: Board, method: str) -> None:
    await sent(board)
    link, pixel = board.links()[0], board.pixel()
    for url in (link, pixel):
        path, _, token = url.rpartition("/")
        other = "A" if token[20] != "A" else "B"
        forged = [
            token[:20] + other + token[21:], token[:-1], token + "A", "x" * 43, "a" * 3_000,
            "%00", "é",
        ]  # fmt: skip
        other_path = (
            path.replace("/t/c", "/t/o") if "/t/c" in path else path.replace("/t/o", "/t/c")
        )
        urls = [f"{path}/{one}" for one in forged] + [f"{other_path}/{token}"]
        told = [await board.ask(one, method) for one in urls]
        assert {one.status for one in told} == {404}
        assert len({one.body.partition(b"request_id")[0] for one in told}) == 1
    assert (await board.ask(link, "POST")).status == 405
    assert await board.event_types() == []


async def test_a_link_leads_on_when_its_mail_is_long_gone(board: Board) -> None:
    await sent(board)
    await board.pool.execute("DELETE FROM effects")
    assert (await board.ask(board.links()[0])).headers["Location"] == "https://acme.test/a?b=1&c=2"
    assert (await board.ask(board.pixel())).status == 200
    assert await board.event_types() == []


async def test_a_link_leads_on_while_the_database_is_away(board: Board) -> None:
    await sent(board)
    await board.pool.execute("ALTER TABLE effects RENAME TO gone")
    assert (await board.ask(board.links()[0])).status == 302
    assert (await board.ask(board.pixel())).status == 200
    await board.pool.execute("ALTER TABLE gone RENAME TO effects")


async def test_targets_beyond_ascii_are_written_as_headers_can_hold_them(board: Board) -> None:
    await sent(board, html="<a href=\"https://acme.test/é b?c={'d'}|e\r\nSet-Cookie: f=1\">A</a>")
    led = await board.ask(board.links()[0])
    assert led.headers["Location"] == "https://acme.test/%C3%A9%20b?c={'d'}|eSet-Cookie:%20f=1"
    assert "Set-Cookie" not in led.headers


# Machines

MACHINES: list[dict[str, str]] = [
    {"User_Agent": ""},
    {"User_Agent": "Mozilla/5.0"},
    {"User_Agent": "curl/8.5.0"},
    {"User_Agent": "Mozilla/5.0 (compatible; bingbot/2.0)"},
    {"User_Agent": "Mozilla/5.0 (Windows NT 10.0) HeadlessChrome/120.0"},
    {"Sec_Purpose": "prefetch;prerender"},
    {"X_Purpose": "preview"},
]
PEOPLE = [
    {"User_Agent": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko (via ggpht.com GoogleImageProxy)"},
    {"User_Agent": "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"},
    {"User_Agent": "Mozilla/5.0 (Linux; Android 13; CUBOT NOTE 50) AppleWebKit/537.36"},
]


async def test_machines_are_kept_and_flagged_and_satisfy_no_wait(board: Board) -> None:
    wait = {"event_type": "email_open", "timeout_duration": 2, "timeout_unit": "days"}
    execution = await board.run(await board.mailing(("wait_for_event", wait)))
    await board.ask(board.pixel())  # within seconds of sending
    await board.world.advance(**A_MINUTE)
    await board.ask(board.pixel(), "HEAD")
    for machine in MACHINES:
        await board.ask(board.pixel(), **machine)
        await board.ask(board.links()[0], **machine)
    await board.world.settle()
    assert await board.world.statuses(execution) == ["completed", "waiting"]
    assert set(await board.event_types()) == {"email_machine_open", "email_machine_click"}
    assert (await board.effect())["delivery_status"] == "sent"
    reports = await board.pool.fetch("SELECT status FROM effect_reports ORDER BY status")
    assert [row["status"] for row in reports] == ["machine_clicked", "machine_opened"]
    await board.ask(board.pixel(), **PEOPLE[0])
    await board.world.settle()
    assert await board.world.statuses(execution) == ["completed", "completed"]


@pytest.mark.parametrize("told", PEOPLE)
def test_picture_proxies_and_odd_telephones_are_people(told: dict[str, str]) -> None:
    assert machine_sign("GET", {"User-Agent": told["User_Agent"]}) is None


@pytest.mark.parametrize(("seconds", "event_type"), [(-3, "email_machine_open"), (0, "email_open")])
async def test_what_comes_within_seconds_of_sending_is_a_machine(
    board: Board, seconds: int, event_type: str
) -> None:
    await board.run(await board.mailing())
    sent_at = (await board.effect())["dispatched_at"]
    now = await board.pool.fetchval("SELECT current_instant()")
    # The clock goes on by itself besides.
    await board.world.advance(seconds=(SOON - (now - sent_at)).total_seconds() + seconds)
    await board.ask(board.pixel())
    assert await board.event_types() == [event_type]


# Waits, from end to end


@pytest.mark.parametrize(("event_type", "what"), [("email_open", "pixel"), ("email_click", "link")])
async def test_a_wait_ends_with_the_real_thing(board: Board, event_type: str, what: str) -> None:
    wait = {"event_type": event_type, "timeout_duration": 2, "timeout_unit": "days"}
    tag = ("add_tag", {"tag_name": "read"})
    first = await sent(board, ("wait_for_event", wait), tag)
    second = await board.run(await board.mailing(("wait_for_event", wait), tag), email="c@x.test")
    await board.world.advance(**A_MINUTE)
    url = board.pixel(0) if what == "pixel" else board.links(0)[0]
    await board.ask(url)
    await board.world.settle()
    assert await board.world.statuses(first) == ["completed"] * 3
    assert await board.world.statuses(second) == ["completed", "waiting"]
    _, waited, _ = await board.world.steps(first)
    assert waited["result_data"]["event"]["event_type"] == event_type


async def test_an_open_before_the_wait_begins_counts(board: Board) -> None:
    workflow = await board.mailing(
        ("wait_time", {"duration": 1, "unit": "hours"}), ("add_tag", {"tag_name": "x"})
    )
    (mail, *_) = await board.pool.fetch("SELECT id FROM workflow_actions ORDER BY position")
    wait = {
        "event_type": "email_open",
        "related_action_id": str(mail["id"]),
        "timeout_duration": 2,
        "timeout_unit": "days",
    }
    await board.world.add_actions(workflow, ("wait_for_event", wait))
    await board.pool.execute(
        "UPDATE workflow_actions SET position = 3 WHERE action_type = 'wait_for_event'"
    )
    await board.world.activate(workflow)
    execution = await board.run(workflow)
    await board.world.advance(**A_MINUTE)
    await board.ask(board.pixel())
    await board.world.advance(hours=2)
    assert await board.world.statuses(execution) == ["completed"] * 4


async def test_a_storm_of_one_reader_is_one_event(board: Board) -> None:
    await sent(board)
    told = await asyncio.gather(*(board.ask(board.links()[0]) for _ in range(40)))
    assert {one.status for one in told} == {302}
    assert await board.event_types() == ["email_click"]


async def test_readers_who_come_while_others_are_stored_are_stored_together(
    board: Board, conn: asyncpg.Connection
) -> None:
    """Thirty mails are opened at once, while their contacts are held: two commits, no more."""
    await board.template()
    workflow = await board.world.workflow(board.mail())
    for contact_id in await board.world.contacts(30):
        await board.world.enrol(workflow, contact_id)
    await board.world.settle()
    await board.world.advance(**A_MINUTE)
    async with conn.transaction():
        await conn.execute("SELECT FROM contacts FOR UPDATE")
        opening = [asyncio.create_task(board.ask(board.pixel(n))) for n in range(30)]
        everything = asyncio.gather(*opening)
        await blocked_or_done(board.world, everything)
    assert {one.status for one in await everything} == {200}
    stored = "SELECT count(DISTINCT xmin::text), count(*) FROM effect_reports"
    ((commits, reports),) = await board.pool.fetch(stored)
    assert reports == 30
    assert commits <= 3


async def test_one_reading_that_cannot_be_stored_takes_no_other_along(board: Board) -> None:
    await sent(board)
    effect_id = (await board.effect())["id"]

    def broken(_now: datetime) -> MailReport:
        raise ValueError

    readers = board.desk.client.app[READERS]
    told = [
        readers.take(effect_id, broken),
        board.ask(board.pixel()),
        readers.take(uuid4(), broken),
    ]
    await asyncio.gather(*told)
    assert await board.event_types() == ["email_open"]


async def test_nothing_of_the_reader_is_kept(board: Board) -> None:
    await sent(board)
    await board.ask(board.pixel(), X_Forwarded_For="203.0.113.77", User_Agent="Odd Reader/1.0")
    await board.ask(board.links()[0], User_Agent="Odd Crawler/1.0")
    rows = await board.pool.fetch(
        "SELECT to_jsonb(v)::text AS t FROM domain_events v"
        " UNION ALL SELECT to_jsonb(r)::text FROM effect_reports r"
        " UNION ALL SELECT to_jsonb(f)::text FROM effects f"
    )
    held = "".join(row["t"] for row in rows)
    assert "email_open" in held
    assert not any(word in held for word in ("203.0.113", "127.0.0.1", "Odd"))


WORDS = ["sent", "deferred", "delivered", "opened", "clicked", "bounced", "complained"]


@given(st.permutations(WORDS))
@settings(max_examples=20)
def test_the_words_of_a_mail_have_one_order(words: list[str]) -> None:
    assert sorted(words, key=rank) == WORDS
