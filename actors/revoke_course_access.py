"""revoke_course_access: take the contact's access to a course away."""

from __future__ import annotations

from uuid import UUID

from actors.fields import Config, MergeText
from runtime.registry import ActionType


class RevokeCourseAccess(Config):
    """The course, whether progress is kept, and why."""

    course_id: UUID
    retain_progress: bool = True
    revocation_reason: MergeText | None = None


ACTION = ActionType(name="revoke_course_access", family="membership", config=RevokeCourseAccess)
