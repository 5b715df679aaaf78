"""Opt-outs over the API: what holds, who said so, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.contact_erasure import erase
from runtime.dispatching import lock_addresses
from runtime.settings import Settings
from tests.api_desk import Caller, open_desk
from tests.stand_ins import Counterpart, WorldWith, blocked_or_done, counterpart
from tests.world import World

V1 = "/api/v1"
MAIL, PHONE = "ada@example.com", "+14155550199"
SAID = {"source": "by phone", "wording": "Write to me again, please."}
MAILING = ("webhook_call", {"channel": "email", "address": "{{contact.email}}"})


@pytest.fixture
async def side() -> AsyncIterator[Counterpart]:
    async with counterpart() as side:
        yield side


@pytest.fixture
async def world(side: Counterpart, world_with: WorldWith) -> World:
    return await world_with(side.registry())


@pytest.fixture
async def editor(world: World, settings: Settings) -> AsyncIterator[Caller]:
    async with open_desk(world.pool, settings, world.registry) as desk:
        yield await desk.caller("Acme", "editor")


async def put(caller: Caller, contact: Any, channel: str, **body: str) -> list[dict[str, Any]]:
    body = {"source": "by phone", **body}
    answer: dict[str, Any] = await caller.put(f"{V1}/contacts/{contact}/opt-outs/{channel}", body)
    items: list[dict[str, Any]] = answer["items"]
    return items


async def lift(caller: Caller, contact: Any, channel: str) -> int:
    path = f"{V1}/contacts/{contact}/opt-outs/{channel}/lift"
    return (await caller.call("POST", path, SAID)).status


async def statuses(world: World, contact: Any) -> list[str]:
    rows = await world.pool.fetch(
        "SELECT status FROM effects WHERE contact_id = $1 ORDER BY id", contact
    )
    return [row["status"] for row in rows]


async def test_who_asks_is_not_written_to_until_they_say_otherwise(
    world: World, editor: Caller
) -> None:
    ada = await world.contact(email=MAIL)
    workflow = await world.workflow(MAILING)
    await world.enrol(workflow, ada)
    await world.worker._steps["webhook"].answer()
    [shown] = await put(editor, ada, "email")
    await world.settle()
    assert (shown["address"], shown["reason"], shown["scope"]) == (MAIL, "by_request", "all")
    assert await statuses(world, ada) == ["suppressed"]
    assert (await editor.get(f"{V1}/contacts/{ada}/opt-outs"))["items"] == [shown]
    await world.run(workflow, ada)
    assert await statuses(world, ada) == ["suppressed"] * 2
    assert await lift(editor, ada, "email") == 204
    assert (await editor.get(f"{V1}/contacts/{ada}/opt-outs"))["items"] == []
    assert await lift(editor, ada, "email") == 404
    await world.run(workflow, ada)
    assert await statuses(world, ada) == ["suppressed", "suppressed", "succeeded"]


async def test_it_counts_for_the_address_whoever_has_it(world: World, editor: Caller) -> None:
    one, other = [await world.contact(phone=PHONE) for _ in range(2)]
    await put(editor, one, "sms", scope="marketing")
    [shown] = (await editor.get(f"{V1}/contacts/{other}/opt-outs"))["items"]
    assert (shown["channel"], shown["scope"], shown["reason"]) == (
        "sms",
        "marketing",
        "unsubscribed",
    )
    [wider] = await put(editor, other, "sms")
    assert (wider["scope"], wider["reason"]) == ("all", "by_request")
    assert (await put(editor, one, "sms", scope="marketing"))[0]["scope"] == "all"


async def test_it_is_written_down_who_said_what(world: World, editor: Caller) -> None:
    ada = await world.contact(email=MAIL)
    await put(editor, ada, "email")
    await lift(editor, ada, "email")
    rows = await world.pool.fetch(
        "SELECT action, before, after FROM audit_log WHERE entity_id = $1 ORDER BY id", ada
    )
    assert [row["action"] for row in rows] == ["opted_out", "opt_out_lifted"]
    assert rows[1]["before"]["opt_outs"][0]["address"] == MAIL
    assert rows[1]["after"] == {"opt_outs": [], "channel": "email", **SAID}


async def test_what_cannot_be_is_refused(world: World, editor: Caller) -> None:
    nobody, ada = await world.contact(first_name="Bo"), await world.contact(email=MAIL)
    path = f"{V1}/contacts/{nobody}/opt-outs"
    refusal = await editor.refused("PUT", f"{path}/email", {"source": "by phone"})
    assert (refusal.status, refusal.code) == (409, "no_address_on_channel")
    assert (await editor.get(path))["items"] == []
    pigeon = await editor.refused("PUT", f"{path}/pigeon", {"source": "by phone"})
    assert (pigeon.status, pigeon.code) == (404, "channel_not_found")
    unsaid = await editor.refused("PUT", f"{V1}/contacts/{ada}/opt-outs/email", {"source": " "})
    assert [path for path, _ in unsaid.faults] == ["source"]
    async with world.pool.acquire() as db, db.transaction():
        await erase(db, world.account_id, ada)
    assert await lift(editor, ada, "email") == 404
    assert (await editor.refused("GET", f"{V1}/contacts/{ada}/opt-outs")).status == 404


async def test_a_withdrawal_waits_for_a_dispatch_to_the_person_on_messenger(
    world: World, editor: Caller
) -> None:
    ada = await world.contact(email=MAIL)
    await world.pool.execute(
        "INSERT INTO messenger_people (account_id, page, psid, contact_id)"
        " VALUES ($1, 'page', '7', $2)",
        world.account_id,
        ada,
    )
    said = {"channel": "messenger", "is_given": False, "source": "by phone"}
    async with world.pool.acquire() as db, db.transaction():
        told = [world.account_id], ["messenger"], ["page:7"]
        await lock_addresses(db, *told)
        withdrawing = asyncio.create_task(editor.post(f"{V1}/contacts/{ada}/consents", said))
        await blocked_or_done(world, withdrawing)
        assert not withdrawing.done()
    await withdrawing
