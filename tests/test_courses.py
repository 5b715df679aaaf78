"""Courses over the API, and what grants of them come to, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from actors import registry
from actors.contact_erasure import erase
from runtime import clock
from runtime.settings import Settings
from runtime.timers import fire_due
from tests.api_desk import Caller, Desk, open_desk
from tests.backstage import Backstage
from tests.world import World

GRANT = registry.actions["grant_course_access"]
REVOKE = registry.actions["revoke_course_access"]
V1 = "/api/v1"
WorldWith = Callable[..., Awaitable[World]]


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@dataclass
class School:
    """A course with lessons, somebody who looks after it, and the engine."""

    world: World
    caller: Caller
    course_id: str
    lesson_ids: list[str]

    async def grant(self, **config: Any) -> UUID:
        """Give a new contact access."""
        contact_id = await self.world.contact()
        workflow = await self.world.workflow(
            ("grant_course_access", {"course_id": self.course_id, **config})
        )
        await self.world.run(workflow, contact_id)
        return contact_id

    async def complete(self, contact_id: UUID, lesson_id: str) -> Any:
        return await self.caller.post(f"{V1}/contacts/{contact_id}/lessons/{lesson_id}/complete")

    async def refused(self, contact_id: UUID, lesson_id: str) -> str:
        path = f"{V1}/contacts/{contact_id}/lessons/{lesson_id}/complete"
        return (await self.caller.refused("POST", path)).code

    async def events(self) -> list[str]:
        sql = "SELECT event_type, payload FROM domain_events ORDER BY id"
        return [row["event_type"] for row in await self.world.pool.fetch(sql)]

    async def courses_of(self, contact_id: UUID) -> list[dict[str, Any]]:
        page = await self.caller.get(f"{V1}/contacts/{contact_id}/courses")
        items: list[dict[str, Any]] = page["items"]
        return items


@pytest.fixture
async def school(world_with: WorldWith, desk: Desk) -> School:
    world = await world_with(registry)
    name = await world.pool.fetchval("SELECT name FROM accounts WHERE id = $1", world.account_id)
    caller = await desk.caller(name)
    course = await caller.post(f"{V1}/courses", {"name": "Welding"})
    lessons = [
        await caller.post(
            f"{V1}/lessons",
            {"course_id": course["id"], "name": f"Day {day}", "drip_after_days": day},
        )
        for day in (0, 0, 3)
    ]
    return School(world, caller, course["id"], [lesson["id"] for lesson in lessons])


async def patched(caller: Caller, path: str, **change: Any) -> Any:
    answer = await caller.call("PATCH", path, change)
    assert answer.status == 200, answer.data
    return answer.data


async def test_courses_and_lessons_are_changed(school: School) -> None:
    caller, course = school.caller, f"{V1}/courses/{school.course_id}"
    assert (await patched(caller, course, name="Soldering"))["regrant"] == "extend"
    assert (await patched(caller, course, regrant="leave"))["name"] == "Soldering"
    assert (await caller.get(course))["name"] == "Soldering"
    lesson = f"{V1}/lessons/{school.lesson_ids[2]}"
    changed = await patched(caller, lesson, name="Sparks", position=7)
    assert (changed["name"], changed["position"], changed["drip_after_days"]) == ("Sparks", 7, 3)
    for path, body, field in (
        (course, {"regrant": "double"}, "regrant"),
        (course, {"name": None}, "name"),
        (lesson, {"drip_after_days": -1}, "drip_after_days"),
        (lesson, {"course_id": school.course_id}, "course_id"),
    ):
        refusal = await caller.refused("PATCH", path, body)
        assert [path for path, _ in refusal.faults] == [field]


async def test_a_lesson_that_is_to_open_earlier_opens_to_those_who_have_access(
    school: School,
) -> None:
    contact_id = await school.grant()
    late = school.lesson_ids[2]
    assert await school.refused(contact_id, late) == "lesson_not_open"
    await patched(school.caller, f"{V1}/lessons/{late}", drip_after_days=1)
    await school.world.advance(days=1)
    [course] = await school.courses_of(contact_id)
    assert {lesson["lesson_id"] for lesson in course["progress"]} == set(school.lesson_ids)


async def test_a_deleted_lesson_opens_to_nobody(school: School) -> None:
    contact_id = await school.grant()
    await school.caller.delete(f"{V1}/lessons/{school.lesson_ids[2]}")
    await school.world.advance(days=4)
    [course] = await school.courses_of(contact_id)
    assert len(course["progress"]) == 2
    assert await school.refused(contact_id, school.lesson_ids[2]) == "lesson_not_found"


async def test_lessons_are_completed_once_and_the_last_completes_the_course(
    school: School,
) -> None:
    contact_id = await school.grant()
    first, second, third = school.lesson_ids
    done = await school.complete(contact_id, first)
    await school.world.advance(days=3)
    assert await school.complete(contact_id, first) == done
    await school.complete(contact_id, third)
    assert (await school.events()).count("lesson_completed") == 2
    assert "course_completed" not in await school.events()
    await school.complete(contact_id, second)
    assert (await school.events())[-2:] == ["lesson_completed", "course_completed"]
    [course] = await school.courses_of(contact_id)
    assert all(lesson["completed_at"] for lesson in course["progress"])
    assert (course["status"], course["course_name"]) == ("active", "Welding")
    active = await school.caller.get(f"{V1}/contacts/{contact_id}/courses", status="revoked")
    assert active["items"] == []


async def test_completing_a_course_starts_the_workflows_that_listen_for_it(
    school: School,
) -> None:
    world = school.world
    await world.workflow(
        ("add_tag", {"tag_name": "welder"}), trigger={"event_type": "course_completed"}
    )
    contact_id = await school.grant()
    await world.advance(days=3)
    for lesson_id in school.lesson_ids:
        await school.complete(contact_id, lesson_id)
    await world.settle()
    tagged = "SELECT count(*) FROM contact_tags WHERE contact_id = $1"
    assert await world.pool.fetchval(tagged, contact_id) == 1


async def test_without_access_nothing_is_completed(school: School, desk: Desk) -> None:
    contact_id = await school.grant(duration_days=1)
    first = school.lesson_ids[0]
    other = await desk.caller("Other")
    path = f"{V1}/contacts/{contact_id}/lessons/{first}/complete"
    assert (await other.refused("POST", path)).status == 404
    await clock.advance(school.world.pool, timedelta(days=1))  # its timer is yet to fire
    assert await school.refused(contact_id, first) == "lesson_not_open"
    stranger = await school.world.contact()
    assert await school.refused(stranger, first) == "lesson_not_open"


async def test_deleting_a_course_ends_the_access_to_it_and_says_so(school: School) -> None:
    for_good, for_a_week = await school.grant(), await school.grant(duration_days=7)
    await school.caller.delete(f"{V1}/courses/{school.course_id}?force=true")
    await school.world.settle()
    assert (await school.events()).count("access_revoked") == 2
    for contact_id in (for_good, for_a_week):
        [course] = await school.courses_of(contact_id)
        assert (course["status"], course["reason"]) == ("revoked", "The course was deleted.")
    assert await school.world.pool.fetchval("SELECT count(*) FROM timers") == 0
    await school.world.advance(days=8)
    assert (await school.events()).count("lesson_opened") == 4
    assert "access_expired" not in await school.events()


@pytest.mark.parametrize("duration", [None, 7])
async def test_a_lesson_that_was_about_to_open_does_not_undo_the_deletion(
    school: School, duration: int | None
) -> None:
    contact_id = await school.grant(**({"duration_days": duration} if duration else {}))
    await patched(school.caller, f"{V1}/lessons/{school.lesson_ids[2]}", drip_after_days=2)
    await school.caller.delete(f"{V1}/courses/{school.course_id}?force=true")
    await school.world.settle()
    [course] = await school.courses_of(contact_id)
    assert (course["status"], course["reason"]) == ("revoked", "The course was deleted.")
    assert await school.world.pool.fetchval("SELECT count(*) FROM timers") == 0


async def test_a_lesson_opens_after_a_deletion_that_is_given_up(school: School) -> None:
    world = school.world
    contact_id = await school.grant()
    async with world.pool.acquire() as db:
        deletion = db.transaction()
        await deletion.start()
        await db.execute("SELECT FROM courses WHERE id = $1 FOR UPDATE", UUID(school.course_id))
        async with asyncio.timeout(20):
            await world.advance(days=3)  # passed over, and set again
        await deletion.rollback()
    await world.advance(seconds=1)
    [course] = await school.courses_of(contact_id)
    assert len(course["progress"]) == 3


async def test_what_is_granted_while_the_course_is_deleted_ends_with_it(
    desk: Desk, backstage: Backstage
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    await backstage.pool.execute("UPDATE accounts SET name = 'School' WHERE id = $1", account.id)
    caller = await desk.caller("School")
    course_id = (await caller.post(f"{V1}/courses", {"name": "Welding"}))["id"]
    config = {"course_id": course_id}
    async with backstage.performing(GRANT, (account, contact, config)) as performed:
        assert performed.result["change"] == "granted"
        deleting = asyncio.create_task(caller.delete(f"{V1}/courses/{course_id}"))
        await backstage.until_somebody_waits_for_a_lock()
    await deleting
    await fire_due(backstage.pool, registry, backstage.pool.fetch, backstage.versions.active)
    (grant,) = await backstage.rows("course_grants", account)
    assert (grant["status"], grant["reason"]) == ("revoked", "The course was deleted.")
    late = await backstage.perform(GRANT, (account, contact, config))
    assert late.reason == "course_not_found"


async def test_who_is_being_erased_is_passed_over_and_nothing_is_left_to_happen(
    school: School,
) -> None:
    world = school.world
    contact_id = await school.grant(duration_days=9)
    async with world.pool.acquire() as db, db.transaction():
        await db.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", contact_id)
        async with asyncio.timeout(20):
            await world.advance(days=3)  # the lesson would open; it does not wait
        await erase(db, world.account_id, contact_id)
    await world.advance(days=30)
    assert await world.pool.fetchval("SELECT count(*) FROM timers") == 0
    assert await world.pool.fetchval("SELECT status FROM course_grants") == "revoked"
    assert (await school.events()).count("lesson_opened") == 2


@dataclass
class Access:
    """What a contact should have, by the words of the specification."""

    is_active: bool = False
    expires_at: datetime | None = None

    def grant(self, now: datetime, days: int | None, regrant: str) -> str:
        """Give access, and say what became of it."""
        until = None if days is None else now + timedelta(days=days)
        if not self.is_active:
            self.is_active, self.expires_at = True, until
            return "granted"
        is_over = self.expires_at is not None and self.expires_at <= now
        if regrant == "leave" and not is_over:
            return "left"
        if self.expires_at is not None and days is not None:
            until = max(self.expires_at, now) + timedelta(days=days)
        else:
            until = None
        self.expires_at = until
        return "extended"

    def pass_time(self, now: datetime) -> None:
        """Let the timers have fired."""
        if self.is_active and self.expires_at is not None and self.expires_at <= now:
            self.is_active = False


@pytest.mark.parametrize("regrant", ["extend", "leave"])
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_granted_and_revoked_there_is_one_access_of_the_right_length(
    backstage: Backstage, regrant: str, seed: int
) -> None:
    """Drawn at random: 30 contacts, 12 times, of which the timers miss some."""
    chance = random.Random(seed)
    account = await backstage.account()
    contacts = await backstage.contacts(account, 30)
    course_id = await backstage.add(
        "courses", account_id=account.id, name="Welding", regrant=regrant
    )
    accesses = {contact: Access() for contact in contacts}
    for _ in range(12):
        now = await clock.advance(backstage.pool, timedelta(days=chance.randint(0, 6)))
        if chance.random() < 0.7:
            await fire_due(
                backstage.pool, registry, backstage.pool.fetch, backstage.versions.active
            )
            for access in accesses.values():
                access.pass_time(now)
        granted = [contact for contact in contacts if chance.random() < 0.6]
        lengths = [chance.choice([1, 2, 5, 9, 9, None]) for _ in granted]
        config = {"course_id": str(course_id), "send_welcome": False}
        done = await backstage.perform(
            GRANT,
            *(
                (account, contact, {**config, "duration_days": days})
                for contact, days in zip(granted, lengths, strict=True)
            ),
        )
        for contact, days, result in zip(granted, lengths, done.results, strict=True):
            access = accesses[contact]
            assert result["change"] == access.grant(done.stage.now, days, regrant)
            until = result["expires_at"] and datetime.fromisoformat(result["expires_at"])
            assert until == access.expires_at
        revoked = [contact for contact in contacts if chance.random() < 0.2]
        done = await backstage.perform(
            REVOKE, *((account, contact, {"course_id": str(course_id)}) for contact in revoked)
        )
        for contact, reason in zip(revoked, done.reasons, strict=True):
            assert (reason is None) == accesses[contact].is_active
            accesses[contact].is_active = False
        rows = [r for r in await backstage.rows("course_grants", account) if not r["ended_at"]]
        assert {row["contact_id"]: row["expires_at"] for row in rows} == {
            contact: access.expires_at for contact, access in accesses.items() if access.is_active
        }
        assert len(rows) == len({row["contact_id"] for row in rows})
        timers = await backstage.rows("timers", account)
        assert {UUID(timer["dedupe_key"]): timer["due_at"] for timer in timers} == {
            row["id"]: row["expires_at"] for row in rows if row["expires_at"] is not None
        }
