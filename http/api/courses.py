"""Courses, their lessons, and who has access to them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import INT32_MAX, Name, left_out
from api.lists import List, Page, page_of
from api.problems import conflict, not_found
from api.resources import (
    Handlers,
    Resource,
    Values,
    contact_queries,
    emit,
    lock_contact,
    routes_of,
)
from api.shown import Shown
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from sql import load

queries = load("api_courses")

Regrant = Literal["extend", "leave"]
Status = Literal["active", "expired", "revoked"]
Days = Annotated[int, Field(ge=0, le=36_500)]
Position = Annotated[int, Field(ge=0, le=INT32_MAX)]


class NewCourse(Body):
    """A course to be; `regrant` says what becomes of an access that is granted again."""

    name: Name
    regrant: Regrant = "extend"


class CourseChange(Body):
    """What is to be different about a course."""

    name: Name = left_out()
    regrant: Regrant = left_out()


class ShownCourse(Shown):
    """A course."""

    id: UUID
    name: str
    regrant: Regrant
    created_at: datetime
    updated_at: datetime


class NewLesson(Body):
    """A lesson to be; it opens so many days of 24 hours after the grant."""

    course_id: UUID
    name: Name
    position: Position = 0
    drip_after_days: Days = 0


class LessonChange(Body):
    """What is to be different; lessons that are open stay open."""

    name: Name = left_out()
    position: Position = left_out()
    drip_after_days: Days = left_out()


class LessonPage(Page):
    """Which lessons to list."""

    course_id: UUID | None = None


class ShownLesson(Shown):
    """A lesson of a course."""

    id: UUID
    course_id: UUID
    name: str
    position: int
    drip_after_days: int
    created_at: datetime
    updated_at: datetime


class ContactGrantPage(Page):
    """Which grants of a contact to list."""

    status: Status | None = None


class GrantPage(ContactGrantPage):
    """Which grants of a course to list."""

    contact_id: UUID | None = None


class ShownGrant(Shown):
    """An access to a course; `step_id` is the step that granted it first."""

    id: UUID
    course_id: UUID
    contact_id: UUID
    status: Status
    access_level: Literal["full", "preview", "limited"]
    drip: bool
    granted_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    reason: str | None
    step_id: UUID | None


class ShownProgress(Shown):
    """A lesson that is open."""

    lesson_id: UUID
    opened_at: datetime
    completed_at: datetime | None


class ShownContactGrant(ShownGrant):
    """An access of a contact, with the lessons of the course that were opened to it."""

    course_name: str
    progress: list[ShownProgress]


async def _lock_out(call: Call, db: Connection, before: Values) -> None:
    await db.execute(queries.lock_course_out, call.account_id, before["id"])


COURSES: Final = Resource(
    "course",
    "/api/v1/courses",
    queries,
    ("name", "regrant"),
    referred_by="id",
    spare=_lock_out,
)
LESSONS: Final = Resource(
    "lesson",
    "/api/v1/lessons",
    queries,
    ("course_id", "name", "position", "drip_after_days"),
    references={"course_id": "course"},
)
COURSE_LIST: Final = List(queries.courses, ShownCourse, "name")
LESSON_LIST: Final = List(queries.lessons, ShownLesson, "position")
GRANTS: Final = List(queries.grants, ShownGrant, "-granted_at")
CONTACT_GRANTS: Final = List(queries.contact_grants, ShownContactGrant, "-granted_at")


async def create(call: Call) -> web.Response:
    """Make a course."""
    return await COURSES.create(call, await call.body(NewCourse))


async def list_all(call: Call) -> web.Response:
    """List courses; sorts: name, created_at."""
    return answer(await COURSE_LIST.page(call.pool, call.parameters(Page), call.account_id))


async def read(call: Call) -> web.Response:
    """Read one course."""
    return await COURSES.read(call)


async def change(call: Call) -> web.Response:
    """Rename a course, or say what becomes of an access that is granted again."""
    return await COURSES.change(call, await call.body(CourseChange))


async def delete(call: Call) -> web.Response:
    """Delete a course; who has access to it loses it within moments (`access_revoked`)."""
    return await COURSES.delete(call)


async def create_lesson(call: Call) -> web.Response:
    """Make a lesson; it opens to those who have access already as well."""
    return await LESSONS.create(call, await call.body(NewLesson))


async def list_lessons(call: Call) -> web.Response:
    """List lessons; sorts: position, created_at."""
    return answer(await LESSON_LIST.page(call.pool, call.parameters(LessonPage), call.account_id))


async def read_lesson(call: Call) -> web.Response:
    """Read one lesson."""
    return await LESSONS.read(call)


async def change_lesson(call: Call) -> web.Response:
    """Rename a lesson, move it, or let it open at another time."""
    return await LESSONS.change(call, await call.body(LessonChange))


async def delete_lesson(call: Call) -> web.Response:
    """Delete a lesson; it opens to nobody any more."""
    return await LESSONS.delete(call)


async def list_grants(call: Call) -> web.Response:
    """List who was given access to a course, newest first."""
    page = call.parameters(GrantPage)
    course = await COURSES.find(call, call.pool)
    return answer(await GRANTS.page(call.pool, page, call.account_id, course["id"]))


async def list_contact_grants(call: Call) -> web.Response:
    """List the courses that a contact was given, with its progress, newest first."""
    page = call.parameters(ContactGrantPage)
    contact_id = call.id("contact_id")
    if await call.pool.fetchrow(contact_queries.contact, call.account_id, contact_id) is None:
        raise not_found("contact")
    return answer(await CONTACT_GRANTS.page(call.pool, page, call.account_id, contact_id))


async def complete_lesson(call: Call) -> web.Response:
    """Say that a contact has completed a lesson that is open to it.

    The first time, its runs hear of it: `lesson_completed`, and with the last lesson of the course
    `course_completed`.
    """
    contact_id, bells = call.id("contact_id"), Bells()
    async with call.transaction() as db:
        await lock_contact(db, call.account_id, contact_id)
        lesson = await LESSONS.find(call, db)
        now = await current_instant(db)
        row = await db.fetchrow(
            queries.complete_lesson, call.account_id, contact_id, lesson["id"], now
        )
        if row is None:
            message = (
                "The contact has no active access to the course, or the lesson is yet to open."
            )
            raise conflict("lesson_not_open", message)
        if row["is_new"]:
            course = {"course_id": str(row["course_id"])}
            events = [(contact_id, "lesson_completed", {**course, "lesson_id": str(lesson["id"])})]
            if row["is_last"]:
                events.append((contact_id, "course_completed", course))
            await emit(db, bells, call.account_id, events)
    await call.ring(bells.families, events=bells.events)
    return answer({name: row[name] for name in ShownProgress.model_fields})


ROUTES: Final = (
    *routes_of(
        COURSES,
        Permission.EDIT_SETTINGS,
        Handlers(create, list_all, read, change, delete, NewCourse, Page, CourseChange),
        ShownCourse,
    ),
    *routes_of(
        LESSONS,
        Permission.EDIT_SETTINGS,
        Handlers(
            create_lesson,
            list_lessons,
            read_lesson,
            change_lesson,
            delete_lesson,
            NewLesson,
            LessonPage,
            LessonChange,
        ),
        ShownLesson,
    ),
    Route(
        "GET",
        "/api/v1/courses/{course_id}/grants",
        list_grants,
        Permission.READ,
        parameters=GrantPage,
        answers={200: page_of(ShownGrant)},
    ),
    Route(
        "GET",
        "/api/v1/contacts/{contact_id}/courses",
        list_contact_grants,
        Permission.READ,
        parameters=ContactGrantPage,
        answers={200: page_of(ShownContactGrant)},
    ),
    Route(
        "POST",
        "/api/v1/contacts/{contact_id}/lessons/{lesson_id}/complete",
        complete_lesson,
        Permission.EDIT_CONTACTS,
        answers={200: ShownProgress},
        problems=frozenset({409}),
    ),
)
