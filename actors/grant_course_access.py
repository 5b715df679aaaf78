"""grant_course_access: give the contact access to a course, for a time or for good."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from actors.fields import Config
from runtime.registry import ActionType


class GrantCourseAccess(Config):
    """The course, the kind of access and its length in days (None: for a lifetime)."""

    course_id: UUID
    access_level: Literal["full", "preview", "limited"] = "full"
    # A century: an expiry past the year 9999 could be stored and never be read back.
    duration_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    drip_content: bool = True
    send_welcome: bool = True


ACTION = ActionType(name="grant_course_access", family="membership", config=GrantCourseAccess)
