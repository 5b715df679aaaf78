"""Notifications: what the caller was told in the app, and how users want to be told things.

Everybody sees their own alone, whatever their role. The live ones: see notifications_live.
"""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import Field

from actors.quiet_hours import zone_named
from api.access import Permission
from api.answers import answer
from api.bodies import Body
from api.calls import Call, Route
from api.fields import Instant
from api.lists import List, Page, page_of
from api.problems import invalid, not_found
from api.shown import Shown
from runtime.configuration import Fault
from sql import load

queries = load("api_notifications")

Channel = Literal["in_app", "email", "sms"]


class NotificationPage(Page):
    """Which of one's own notifications to list."""

    is_read: bool | None = None
    contact_id: UUID | None = None


class ShownNotification(Shown):
    """A notification; `contact_id` is whom it speaks of, `read_at` when it was marked read."""

    id: UUID
    title: str
    message: str
    contact_id: UUID | None
    created_at: datetime
    read_at: datetime | None


class ShownUnread(Shown):
    """How many notifications one has not read."""

    unread: int


class ReadUntil(Body):
    """Up to which instant to mark as read what is not; null: all of it."""

    until: Instant | None = None


class ShownMarked(Shown):
    """How many were marked."""

    marked: int


class QuietHours(Body):
    """From when until when not to be disturbed, on the clock of a time zone (an IANA name)."""

    start: time
    end: time
    time_zone: Annotated[str, Field(max_length=64)]


class Preferences(Body):
    """On which channels to be told nothing; mails and texts wait for the end of quiet hours."""

    muted: Annotated[list[Channel], Field(max_length=3)] = Field(default_factory=list)
    quiet_hours: QuietHours | None = None


class ShownQuietHours(Shown):
    """From when until when not to be disturbed."""

    start: str
    end: str
    time_zone: str


class ShownPreferences(Shown):
    """How a user wants to be told; `updated_at` is null for one who never said."""

    muted: list[Channel]
    quiet_hours: ShownQuietHours | None
    updated_at: datetime | None


LIST: Final = List(queries.notifications, ShownNotification, "-created_at")


def _own(call: Call) -> tuple[UUID, UUID]:
    return call.account_id, call.caller.user_id


async def list_all(call: Call) -> web.Response:
    """List one's own notifications, newest first."""
    return answer(await LIST.page(call.pool, call.parameters(NotificationPage), *_own(call)))


async def read(call: Call) -> web.Response:
    """Read one of one's own notifications; that marks nothing."""
    row = await call.pool.fetchrow(queries.notification, *_own(call), call.id("notification_id"))
    return answer(_shown(row))


async def unread(call: Call) -> web.Response:
    """Count one's own unread notifications."""
    return answer({"unread": await call.pool.fetchval(queries.unread, *_own(call))})


async def mark_read(call: Call) -> web.Response:
    """Mark one of one's own notifications as read; again changes nothing."""
    async with call.transaction() as db:
        row = await db.fetchrow(queries.mark_read, *_own(call), call.id("notification_id"))
        return answer(_shown(row))


async def mark_all_read(call: Call) -> web.Response:
    """Mark one's own unread notifications as read, all or up to an instant."""
    until = (await call.body(ReadUntil)).until
    async with call.transaction() as db:
        marked = await db.fetchval(queries.mark_all_read, *_own(call), until)
    return answer({"marked": marked})


def _shown(row: asyncpg.Record | None) -> dict[str, Any]:
    if row is None:
        raise not_found("notification")
    return dict(row)


async def read_own_preferences(call: Call) -> web.Response:
    """Read how one wants to be told oneself."""
    return answer(await _preferences(call, call.pool, call.caller.user_id))


async def set_own_preferences(call: Call) -> web.Response:
    """Say how one wants to be told oneself."""
    return await _set(call, call.caller.user_id)


async def read_preferences(call: Call) -> web.Response:
    """Read how a user wants to be told."""
    return answer(await _preferences(call, call.pool, call.id("user_id")))


async def set_preferences(call: Call) -> web.Response:
    """Say how a user is to be told."""
    return await _set(call, call.id("user_id"))


async def _set(call: Call, user_id: UUID) -> web.Response:
    new = await call.body(Preferences)
    async with call.transaction() as db:
        before = await _preferences(call, db, user_id)
        quiet = new.quiet_hours
        hours = (quiet.start, quiet.end, _zone(quiet)) if quiet else (None, None, None)
        muted = sorted(set(new.muted))
        await db.execute(queries.set_preferences, call.account_id, user_id, muted, *hours)
        after = await _preferences(call, db, user_id)
        await call.record(db, "notification_preferences.set", ("user", user_id), before, after)
    return answer(after)


def _zone(quiet: QuietHours) -> str:
    zone = zone_named(quiet.time_zone)
    if zone is None:
        message = "This is no IANA time zone, such as Europe/Paris."
        raise invalid(Fault("quiet_hours.time_zone", "time_zone_unknown", message))
    if quiet.start == quiet.end or quiet.start.tzinfo or quiet.end.tzinfo:
        message = "Quiet hours have two different times without an offset."
        raise invalid(Fault("quiet_hours.end", "quiet_hours_unusable", message))
    return zone.key


async def _preferences(call: Call, db: Any, user_id: UUID) -> dict[str, Any]:
    row = await db.fetchrow(queries.preferences, call.account_id, user_id)
    if row is None:
        raise not_found("user")
    quiet = row["quiet_from"] is not None and {
        "start": row["quiet_from"].isoformat(),
        "end": row["quiet_until"].isoformat(),
        "time_zone": row["time_zone"],
    }
    return {
        "muted": row["muted"],
        "quiet_hours": quiet or None,
        "updated_at": row["updated_at"],
    }


_ALL: Final = "/api/v1/notifications"
_ONE: Final = f"{_ALL}/{{notification_id}}"
_OWN: Final = "/api/v1/me/notification-preferences"
_OF_USER: Final = "/api/v1/users/{user_id}/notification-preferences"
_READ: Final = Permission.READ
_SHOWN: Final = {200: ShownPreferences}

ROUTES: Final = (
    Route(
        "GET", _ALL, list_all, _READ,
        parameters=NotificationPage, answers={200: page_of(ShownNotification)},
    ),
    Route("GET", f"{_ALL}/unread", unread, _READ, answers={200: ShownUnread}),
    Route("POST", f"{_ALL}/read", mark_all_read, _READ, ReadUntil, answers={200: ShownMarked}),
    Route("GET", _ONE, read, _READ, answers={200: ShownNotification}),
    Route("POST", f"{_ONE}/read", mark_read, _READ, answers={200: ShownNotification}),
    Route("GET", _OWN, read_own_preferences, _READ, answers=_SHOWN),
    Route("PUT", _OWN, set_own_preferences, _READ, Preferences, answers=_SHOWN),
    Route("GET", _OF_USER, read_preferences, Permission.MANAGE_USERS, answers=_SHOWN),
    Route(
        "PUT", _OF_USER, set_preferences, Permission.MANAGE_USERS, Preferences, answers=_SHOWN
    ),
)  # fmt: skip
