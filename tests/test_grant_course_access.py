"""Courses: granted once, extended or left, dripping and expiring by timers, revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from actors import registry
from runtime.settings import Settings
from tests import mail_board
from tests.api_desk import Desk, open_desk
from tests.backstage import Backstage
from tests.counterparts.smtp.server import post_office
from tests.world import World

GRANT = registry.actions["grant_course_access"]
REVOKE = registry.actions["revoke_course_access"]
WorldWith = Callable[..., Awaitable[World]]


async def course(
    pool: asyncpg.Pool, account_id: UUID, *drips: int, regrant: str = "extend"
) -> UUID:
    course_id: UUID = await pool.fetchval(
        "INSERT INTO courses (account_id, name, regrant) VALUES ($1, 'Welding', $2) RETURNING id",
        account_id,
        regrant,
    )
    for position, days in enumerate(drips):
        await pool.execute(
            "INSERT INTO lessons (account_id, course_id, name, position, drip_after_days)"
            " VALUES ($1, $2, 'Lesson', $3, $4)",
            account_id, course_id, position, days,
        )  # fmt: skip
    return course_id


async def granted(world: World, contact_id: UUID, **config: Any) -> None:
    workflow = await world.workflow(("grant_course_access", config))
    await world.activate(workflow)
    steps = await world.steps(await world.run(workflow, contact_id))
    assert [step["status"] for step in steps] == ["completed"], steps[0]["error_code"]


async def events(pool: asyncpg.Pool) -> list[str]:
    rows = await pool.fetch("SELECT event_type FROM domain_events ORDER BY id")
    return [row["event_type"] for row in rows if "access" in row[0] or "lesson" in row[0]]


async def test_lessons_drip_for_ninety_days_and_then_the_access_ends(world_with: WorldWith) -> None:
    world = await world_with(registry)
    course_id = await course(world.pool, world.account_id, 0, 30, 60, 120)
    contact_id = await world.contact()
    await granted(world, contact_id, course_id=str(course_id), duration_days=90)
    assert await events(world.pool) == ["access_granted", "lesson_opened"]
    await world.advance(days=29)
    assert (await events(world.pool)).count("lesson_opened") == 1
    await world.advance(days=1)
    assert (await events(world.pool)).count("lesson_opened") == 2
    await world.advance(days=30)
    assert (await events(world.pool)).count("lesson_opened") == 3
    await world.advance(days=29)
    assert "access_expired" not in await events(world.pool)
    await world.advance(days=1)
    assert (await events(world.pool))[-1] == "access_expired"
    await world.advance(days=90)
    assert (await events(world.pool)).count("lesson_opened") == 3
    assert await world.pool.fetchval("SELECT count(*) FROM timers") == 0
    (grant,) = await world.pool.fetch("SELECT * FROM course_grants")
    assert grant["status"] == "expired"
    assert grant["ended_at"] == grant["granted_at"] + timedelta(days=90)


async def test_an_extended_access_ends_later_by_its_timer(world_with: WorldWith) -> None:
    world = await world_with(registry)
    course_id = await course(world.pool, world.account_id)
    contact_id = await world.contact()
    for _ in range(2):
        await granted(world, contact_id, course_id=str(course_id), duration_days=10)
    await world.advance(days=11)
    assert await world.pool.fetchval("SELECT status FROM course_grants") == "active"
    await world.advance(days=9)
    assert await world.pool.fetchval("SELECT status FROM course_grants") == "expired"
    assert (await events(world.pool)).count("access_expired") == 1


@pytest.mark.parametrize(
    ("regrant", "change", "days"), [("extend", "extended", 12), ("leave", "left", 5)]
)
async def test_granting_twice_extends_or_leaves_and_never_doubles(
    backstage: Backstage, regrant: str, change: str, days: int
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    config = {"course_id": str(await course(backstage.pool, account.id, 0, regrant=regrant))}
    first = await backstage.perform(GRANT, (account, contact, {**config, "duration_days": 5}))
    again = await backstage.perform(GRANT, (account, contact, {**config, "duration_days": 7}))
    assert (first.result["change"], again.result["change"]) == ("granted", change)
    assert first.result["grant_id"] == again.result["grant_id"]
    (grant,) = await backstage.rows("course_grants", account)
    left = grant["expires_at"] - grant["granted_at"]
    assert left == timedelta(days=days)
    (timer,) = await backstage.rows("timers", account)
    assert timer["due_at"] == grant["expires_at"]


async def test_concurrent_batches_grant_once_and_in_four_statements(backstage: Backstage) -> None:
    account = await backstage.account()
    contacts = await backstage.contacts(account, 20)
    config = {"course_id": str(await course(backstage.pool, account.id, 0, 1))}
    batch = [(account, contact, config) for contact in contacts]
    both = await asyncio.gather(*(backstage.perform(GRANT, *batch) for _ in range(2)))
    assert [done.statements for done in both] == [4, 4]
    changes = sorted(result["change"] for done in both for result in done.results)
    assert changes == ["extended"] * 20 + ["granted"] * 20
    assert len(await backstage.rows("course_grants", account)) == 20
    assert len(await backstage.rows("lesson_progress", account)) == 20


async def test_without_dripping_all_lessons_open_at_once(backstage: Backstage) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    course_id = await course(backstage.pool, account.id, 0, 30)
    config = {"course_id": str(course_id), "drip_content": False}
    done = await backstage.perform(GRANT, (account, contact, config))
    assert (done.result["lessons_opened"], done.result["expires_at"]) == (2, None)
    assert await backstage.rows("timers", account) == []


@pytest.mark.parametrize(("retain", "kept"), [(True, 1), (False, 0)])
async def test_revoking_keeps_or_deletes_progress_and_takes_timers_away(
    backstage: Backstage, *, retain: bool, kept: int
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account, first_name="Ada")
    config = {"course_id": str(await course(backstage.pool, account.id, 0, 30))}
    await backstage.perform(GRANT, (account, contact, {**config, "duration_days": 90}))
    assert len(await backstage.rows("timers", account)) == 2
    why = {"retain_progress": retain, "revocation_reason": "{{contact.first_name}} left"}
    done = await backstage.perform(REVOKE, (account, contact, {**config, **why}))
    assert done.result["lessons_forgotten"] == 1 - kept
    assert [event.event_type for event in done.events] == ["access_revoked"]
    (grant,) = await backstage.rows("course_grants", account)
    assert (grant["status"], grant["reason"]) == ("revoked", "Ada left")
    assert await backstage.rows("timers", account) == []
    assert len(await backstage.rows("lesson_progress", account)) == kept
    again = await backstage.perform(REVOKE, (account, contact, {**config, **why}))
    assert again.reason == "not_granted"


async def test_a_course_of_another_account_is_not_found(backstage: Backstage) -> None:
    account, other = await backstage.account(), await backstage.account()
    contacts = await backstage.contacts(account, 2)
    foreign = str(await course(backstage.pool, other.id))
    for action in (GRANT, REVOKE):
        done = await backstage.perform(
            action,
            (account, contacts[0], {"course_id": foreign}),
            (account, contacts[1], {"course_id": str(uuid4())}),
        )
        assert done.reasons == ["course_not_found"] * 2
    assert await backstage.rows("course_grants", account) == []


async def test_a_timer_passes_over_what_a_batch_holds_and_comes_again(
    world_with: WorldWith,
) -> None:
    world = await world_with(registry)
    course_id = await course(world.pool, world.account_id)
    await granted(world, await world.contact(), course_id=str(course_id), duration_days=1)
    async with world.pool.acquire() as db, db.transaction():
        await db.execute("SELECT FROM course_grants FOR UPDATE")
        await world.advance(days=1)
    assert await world.pool.fetchval("SELECT status FROM course_grants") == "active"
    await world.advance(seconds=1)
    assert await world.pool.fetchval("SELECT status FROM course_grants") == "expired"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def test_courses_and_lessons_are_made_and_listed(desk: Desk, backstage: Backstage) -> None:
    caller, other = await desk.caller(), await desk.caller("Other")
    made = await caller.post("/api/v1/courses", {"name": "Welding", "regrant": "leave"})
    body = {"course_id": made["id"], "name": "Sparks", "drip_after_days": 3}
    lesson = await caller.post("/api/v1/lessons", body)
    lessons = await caller.get("/api/v1/lessons", course_id=made["id"])
    assert [one["id"] for one in lessons["items"]] == [lesson["id"]]
    assert (await other.get("/api/v1/lessons"))["items"] == []
    await other.refused("POST", "/api/v1/lessons", body)
    grants = await caller.get(f"/api/v1/courses/{made['id']}/grants")
    assert grants["items"] == []


async def test_who_gets_or_loses_access_is_told_by_mail_if_it_is_asked_for(
    world_with: WorldWith,
) -> None:
    world = await world_with(public_url=mail_board.PUBLIC_URL)
    course_id = str(await course(world.pool, world.account_id))
    revoke = {"course_id": course_id, "send_notice": True, "revocation_reason": "It is <over>."}
    workflow = await world.workflow(
        ("grant_course_access", {"course_id": course_id, "duration_days": 2}),
        ("grant_course_access", {"course_id": course_id}),
        ("revoke_course_access", revoke),
    )

    async def fates(**contact: Any) -> list[str]:
        steps = await world.steps(await world.run(workflow, await world.contact(**contact)))
        results = [step["result_data"] for step in steps]
        return [result.get("welcome_mail") or result["notice_mail"] for result in results]

    assert await fates(email="bo@x.test") == ["no_sender", "not_asked", "no_sender"]
    async with post_office() as office, world.worker._effects["email"].open():
        id_ = await mail_board.add_integration(world, office.port)
        await world._add(
            "sender_addresses",
            account_id=world.account_id,
            kind="smtp",
            address="school@acme.com",
            integration_id=id_,
            ordinal=1,
        )
        assert await fates() == ["no_email", "not_asked", "no_email"]
        assert await fates(email="cy@x.test") == ["queued", "not_asked", "queued"]
        await world.settle()
        await office.has_come(2)
        subjects = sorted(mail.message["Subject"] for mail in office.mails)
        assert subjects == ["Welcome to Welding", "Your access to Welding has ended"]
        assert {mail.recipients for mail in office.mails} == {("cy@x.test",)}
        (ended,) = [m for m in office.mails if "ended" in m.message["Subject"]]
        assert "It is &lt;over&gt;." in ended.body("html")
