"""Enrolling all contacts that carry a tag, in the background."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from actors.contact_filters import filter_of
from runtime import refusals
from runtime.executions import Entry, enrol, first_family
from runtime.operations import ItemError, OperationError, OperationType, Portion, Work
from sql import load

queries = load("enroll_by_tag")

PORTION: Final = 1_000
_FIRST: Final = UUID(int=0)
_SENTENCES: Final = {
    "already_enrolled": "The contact has a live run in this workflow.",
    "no_such_contact": "The contact was deleted meanwhile.",
    "workflow_has_no_actions": "The workflow has no actions.",
}


async def select(work: Work) -> Portion:
    """Read the next contacts that carry the tag, in the order of their ids.

    OperationError: tag_gone.
    """
    given, state = work.operation.parameters, work.operation.state
    tag_id, conditions = UUID(given["tag_id"]), filter_of(given).arguments()
    if await work.db.fetchrow(queries.tag, work.account_id, tag_id) is None:
        raise OperationError("tag_gone", "the tag was deleted")
    total = None
    if not state:
        total = await work.db.fetchval(queries.count_tagged, work.account_id, tag_id, *conditions)
    behind = UUID(state["behind"]) if state else _FIRST
    rows = await work.db.fetch(
        queries.tagged, work.account_id, tag_id, *conditions, behind, PORTION
    )
    ids = [row["contact_id"] for row in rows]
    return Portion(ids, {"behind": str(ids[-1] if ids else behind)}, len(ids) < PORTION, total)


async def perform(work: Work, items: Sequence[UUID]) -> list[list[ItemError]]:
    """Enrol the contacts; who has no run by it is told why. OperationError: workflow_not_active."""
    given = work.operation.parameters
    workflow_id = UUID(given["workflow_id"])
    version = await work.versions.active(work.account_id, workflow_id)
    if version is None:
        raise OperationError("workflow_not_active", "the workflow lets no contacts in any more")
    entry = Entry(given["entry_key"], given["priority"], given["context"])
    enrolments = await enrol(work.db, work.now, version, items, entry)
    await refusals.write_down(work.db, work.now, work.account_id, workflow_id, enrolments)
    reasons = Counter(e.reason for e in enrolments if e.reason)
    skipped = Counter(work.result.get("skipped", {})) + reasons
    begun = sum(e.execution_id is not None for e in enrolments)
    work.result |= {
        "enrolled": work.result.get("enrolled", 0) + begun,
        "skipped": dict(skipped),
    }
    if begun and (family := first_family(version)) is not None:
        work.bells.families.add(family)
    return [[where(e.contact_id, e.reason, _SENTENCES[e.reason])] if e.reason else []
            for e in enrolments]  # fmt: skip


def where(item: UUID, code: str, message: str) -> ItemError:
    """Say why a contact has no run by this operation."""
    return ItemError(code, message, item_id=item)


OPERATION: Final = OperationType("enroll_by_tag", select, perform, where)
