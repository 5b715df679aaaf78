"""Retrying failed executions: each goes on from its failed step, by a new step row.

What has failed stays as history (rule 3 of `states`). An effect that may have gone out is not
repeated unless the caller accepts duplicates; what certainly has not is asked for anew and gets a
key of its own. A contact still has one live run per workflow and entry key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from runtime.database import Connection
from runtime.executions import queries as executions
from runtime.ids import new_id
from sql import load

queries = load("retrying")

TRIES: Final = 3

SENTENCES: Final[Mapping[str, str]] = {
    "no_such_execution": "There is no such execution.",
    "execution_not_failed": "Only a failed execution can be retried.",
    "no_failed_step": "It did not end by a failed step, but by the guard against loops.",
    "contact_erased": "The contact was erased.",
    "workflow_deleted": "The workflow was deleted.",
    "another_run_is_live": "Another run of the contact in this workflow is live.",
    "outcome_unknown": "Whether the step's effect went out is unknown: "
    "it may go out twice; accept_duplicates=true takes that in.",
    "partly_sent": "Some effects of the step went out and would go out again; "
    "accept_duplicates=true takes that in.",
}
"""Why an execution is not retried, for people, by code."""


@dataclass(slots=True)
class Retried:
    """Which executions go on, why the others do not, and the families to ring."""

    revived: list[UUID] = field(default_factory=list)
    refused: dict[UUID, str] = field(default_factory=dict)
    families: set[str] = field(default_factory=set)


async def retry(
    db: Connection,
    now: datetime,
    account_id: UUID,
    execution_ids: Sequence[UUID],
    *,
    accept_duplicates: bool = False,
) -> Retried:
    """Let failed executions go on from their failed steps, in the caller's transaction.

    Ring the families after the commit. A fixed number of statements for any number.
    """
    await db.execute(executions.lock_contacts_of_executions, account_id, list(execution_ids))
    for tries in range(1, TRIES + 1):
        try:
            async with db.transaction():
                return await _retry(db, now, account_id, execution_ids, accept_duplicates)
        except asyncpg.UniqueViolationError:
            # An enrolment, which locks no contact, has come between the look and the change.
            if tries == TRIES:
                raise
    raise AssertionError("unreachable")


async def _retry(
    db: Connection,
    now: datetime,
    account_id: UUID,
    execution_ids: Sequence[UUID],
    accept_duplicates: bool,
) -> Retried:
    rows = await db.fetch(queries.look, account_id, list(execution_ids), accept_duplicates)
    found = {row["id"]: row for row in rows}
    done = Retried(refused={i: "no_such_execution" for i in execution_ids if i not in found})
    done.refused |= {i: row["reason"] for i, row in found.items() if row["reason"]}
    able = [i for i, row in found.items() if not row["reason"]]
    if not able:
        return done
    revived = await db.fetch(queries.revive_executions, account_id, able)
    done.revived = [row["id"] for row in revived]
    steps = [found[i]["step_id"] for i in done.revived]
    await db.execute(queries.free_keys, steps)
    born = await db.fetch(queries.repeat_steps, steps, [new_id() for _ in steps], now)
    done.families = {row["family"] for row in born}
    await db.execute(queries.reopen_enrollments, done.revived)
    return done
