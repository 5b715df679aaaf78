"""grant_course_access: give the contact access to a course, for a time or for good.

A contact has one active access to a course. Granted again it is made longer by the new duration,
with the new level (for good stays for good), or left as it is, as the course's `regrant` has it.
Lessons open at once, or each its `drip_after_days` after the grant, kept by timers; what was open
before stays open. Who is granted access anew is welcomed by mail, if the config says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
from pydantic import Field

from actors import course_mails
from actors.course_grants import open_and_set, queries
from actors.fields import Config
from actors.rendered import UnusableError
from runtime.ids import new_id
from runtime.outcomes import Done, Outcome
from runtime.registry import ActionType
from runtime.stage import Item, Stage


class GrantCourseAccess(Config):
    """The course, the kind of access and its length in days (None: for a lifetime)."""

    course_id: UUID
    access_level: Literal["full", "preview", "limited"] = "full"
    # A century: an expiry past the year 9999 could be stored and never be read back.
    duration_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    drip_content: bool = True
    send_welcome: bool = True


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Grant them all; four statements for any number of items."""
    senders = await course_mails.find_senders(
        stage, {item.account_id for item in items if _config(item).send_welcome}
    )
    columns = zip(*map(_row, items), strict=True)
    rows = await stage.db.fetch(queries.grant_access, *columns, stage.now)
    granted = sorted(row["id"] for row in rows if row["id"])
    opened: dict[tuple[UUID, UUID], list[str]] = {}
    for lesson in await open_and_set(stage, granted):
        key = lesson["contact_id"], lesson["course_id"]
        opened.setdefault(key, []).append(str(lesson["lesson_id"]))
    return [
        _outcome(
            stage, item, row, opened.get((item.contact_id, _config(item).course_id), []), senders
        )
        for item, row in zip(items, rows, strict=True)
    ]


def _row(item: Item) -> tuple[Any, ...]:
    config = _config(item)
    return (
        new_id(),
        item.account_id,
        item.contact_id,
        config.course_id,
        config.access_level,
        config.duration_days,
        config.drip_content,
        item.step_id,
    )


def _change(row: asyncpg.Record) -> str:
    if row["is_new"]:
        return "granted"
    # One that is over, and whose timer is yet to fire, is not left to end.
    return "extended" if row["regrant"] == "extend" or row["was_over"] else "left"


def _outcome(
    stage: Stage,
    item: Item,
    row: asyncpg.Record,
    lessons: Sequence[str],
    senders: course_mails.Senders,
) -> Outcome:
    if row["regrant"] is None:
        return UnusableError("course_not_found", "there is no such course").outcome
    course_id, change = str(_config(item).course_id), _change(row)
    told = {
        "grant_id": str(row["id"]),
        "course_id": course_id,
        "access_level": row["access_level"],
        "expires_at": row["expires_at"].isoformat() if row["expires_at"] else None,
        "change": change,
    }
    if change != "left":
        stage.emit(item, "access_granted", told)
    for lesson_id in lessons:
        stage.emit(item, "lesson_opened", {"course_id": course_id, "lesson_id": lesson_id})
    welcome: course_mails.Fate = "not_asked"
    if _config(item).send_welcome and change == "granted":
        welcome = _welcome(stage, item, row, senders)
    return Done({**told, "lessons_opened": len(lessons), "welcome_mail": welcome})


def _welcome(
    stage: Stage, item: Item, row: asyncpg.Record, senders: course_mails.Senders
) -> course_mails.Fate:
    name, until = row["name"], row["expires_at"]
    lines = [f"You have access to {name} now."]
    if until is not None:
        lines.append(f"It lasts until {until:%Y-%m-%d %H:%M} UTC.")
    return course_mails.write(stage, item, senders, f"Welcome to {name}", lines)


def _config(item: Item) -> GrantCourseAccess:
    assert isinstance(item.config, GrantCourseAccess)
    return item.config


ACTION = ActionType(
    name="grant_course_access",
    family="membership",
    config=GrantCourseAccess,
    perform=perform,
    gives={
        "grant_id": "the access",
        "course_id": "its course",
        "access_level": "full, preview or limited",
        "expires_at": "when it ends; null: never",
        "change": "granted, extended or left",
        "lessons_opened": "how many lessons opened at once",
        "welcome_mail": course_mails.FATES,
    },
    emits=frozenset({"access_granted", "lesson_opened"}),
    refers={"course_id": "course"},
)
