"""Refused enrolments, written down for those who ask later why a contact is not in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from runtime.database import Connection
from runtime.executions import Enrolment
from sql import load

queries = load("refusals")


async def write_down(
    db: Connection,
    now: datetime,
    account_id: UUID,
    workflow_id: UUID,
    enrolments: Sequence[Enrolment],
) -> None:
    """Keep the reasons of enrolments that began no run, in the caller's transaction.

    Of contacts that the account does not have nothing is kept.
    """
    refused = [e for e in enrolments if e.reason and e.reason != "no_such_contact"]
    if refused:
        await db.execute(
            queries.write_down,
            account_id,
            workflow_id,
            [e.contact_id for e in refused],
            [e.reason for e in refused],
            now,
        )
