"""revoke_course_access: take the contact's access to a course away.

A contact without active access is skipped as not_granted. `send_notice` tells the contact by mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from actors import course_mails
from actors.course_grants import REASON_LONGEST, queries
from actors.fields import Config, MergeText
from actors.rendered import UnusableError, each, text_of
from runtime.outcomes import Done, Failed, Outcome, Skipped
from runtime.registry import ActionType
from runtime.stage import Item, Stage


class RevokeCourseAccess(Config):
    """The course, whether progress is kept, why, and whether the contact is told by mail."""

    course_id: UUID
    retain_progress: bool = True
    revocation_reason: MergeText | None = None
    send_notice: bool = False


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """End them all in one statement."""
    reasons = each(items, _reason)
    able = [(i, r) for i, r in zip(items, reasons, strict=True) if not isinstance(r, Failed)]
    ended = {}
    senders = await course_mails.find_senders(
        stage, {item.account_id for item, _ in able if _config(item).send_notice}
    )
    if able:
        wanted = [
            (i.account_id, i.contact_id, _config(i).course_id, _config(i).retain_progress, reason)
            for i, reason in able
        ]
        columns = zip(*wanted, strict=True)
        rows = await stage.db.fetch(queries.revoke_access, *columns, stage.now)
        ended = {item.step_id: row for (item, _), row in zip(able, rows, strict=True)}
    return [
        reason
        if isinstance(reason, Failed)
        else _outcome(stage, item, reason, ended[item.step_id], senders)
        for item, reason in zip(items, reasons, strict=True)
    ]


def _reason(item: Item) -> str | None:
    return text_of(item.values["revocation_reason"], "revocation_reason", REASON_LONGEST)


def _outcome(
    stage: Stage,
    item: Item,
    reason: str | None,
    row: asyncpg.Record,
    senders: course_mails.Senders,
) -> Outcome:
    if not row["course_exists"]:
        return UnusableError("course_not_found", "there is no such course").outcome
    if row["id"] is None:
        return Skipped("not_granted")
    told = {
        "grant_id": str(row["id"]),
        "course_id": str(_config(item).course_id),
        "reason": reason,
        "lessons_forgotten": row["forgotten"],
    }
    stage.emit(item, "access_revoked", told)
    notice: course_mails.Fate = "not_asked"
    if _config(item).send_notice:
        subject = f"Your access to {row['name']} has ended"
        notice = course_mails.write(stage, item, senders, subject, [f"{subject}.", reason or ""])
    return Done({**told, "notice_mail": notice})


def _config(item: Item) -> RevokeCourseAccess:
    assert isinstance(item.config, RevokeCourseAccess)
    return item.config


ACTION = ActionType(
    name="revoke_course_access",
    family="membership",
    config=RevokeCourseAccess,
    perform=perform,
    gives={
        "grant_id": "the access that ended",
        "course_id": "its course",
        "reason": "why",
        "notice_mail": course_mails.FATES,
        "lessons_forgotten": "how many lessons' progress was deleted",
    },
    emits=frozenset({"access_revoked"}),
    refers={"course_id": "course"},
)
