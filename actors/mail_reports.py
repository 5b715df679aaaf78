"""What becomes of mails after a server took them: told by us, by SendGrid, by mails that come back.

Reports may come in any order, repeated, and thousands at once. Each is kept once; the effect says
the furthest that is known; the contact's runs are told by an event; whoever cannot be reached or
does not want to be is not written to again. Opens and clicks of machines are kept and flagged: they
satisfy no wait. Neither the reader's address nor the program is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from actors.mail_machines import SOON
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.deliveries import rank
from runtime.dispatching import opt_out_all
from runtime.events import IncomingEvent, take_in
from runtime.performing import TRANSIENT
from sql import load

queries = load("mail_reports")
addresses = load("events")

CHANNEL: Final = "email"
LINK: Final = "link"
TRIES: Final = 3
SKEW: Final = timedelta(minutes=1)
"""How far the clocks of others may be behind ours; what is further behind says nothing."""

Status = Literal[
    "accepted", "deferred", "delivered", "bounced", "complained", "unsubscribed",
    "opened", "clicked", "machine_opened", "machine_clicked",
]  # fmt: skip

EVENTS: Final[Mapping[str, str]] = {
    "bounced": "email_bounced",
    "complained": "email_complained",
    "unsubscribed": "email_unsubscribed",
    "opened": "email_open",
    "clicked": "email_click",
    "machine_opened": "email_machine_open",
    "machine_clicked": "email_machine_click",
}
"""What a contact's runs are told."""


@dataclass(frozen=True, slots=True)
class MailReport:
    """One thing that is reported of a mail.

    `source` says who: smtp, tracking, link, sendgrid, dsn, arf, bounce. `key` tells events of one
    kind and mail apart; the same is taken in once. `suppresses`: why the address is not written to
    from now on.
    """

    effect_id: UUID
    status: Status
    source: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    suppresses: Literal["hard_bounce", "complaint", "unsubscribed"] | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TakenReports:
    """The mails that the reports speak of, by their ids, as they were found; what is to be rung."""

    effects: Mapping[UUID, asyncpg.Record]
    bells: Bells = field(default_factory=Bells)


async def report_mails(
    pool: asyncpg.Pool,
    account_id: UUID,
    reports: Sequence[MailReport],
    integration_id: UUID | None = None,
) -> TakenReports:
    """Take reports in as one transaction; a deadlock is tried again. Ring the bells after it."""
    for _ in range(TRIES - 1):
        with suppress(*TRANSIENT):
            return await _in_transaction(pool, account_id, reports, integration_id)
    return await _in_transaction(pool, account_id, reports, integration_id)


async def _in_transaction(
    pool: asyncpg.Pool,
    account_id: UUID,
    reports: Sequence[MailReport],
    integration_id: UUID | None,
) -> TakenReports:
    async with pool.acquire() as db, db.transaction():
        return await take_mail_reports(db, account_id, reports, integration_id)


async def take_mail_reports(
    db: Connection,
    account_id: UUID,
    reports: Sequence[MailReport],
    integration_id: UUID | None = None,
) -> TakenReports:
    """Take reports on mails of an account in, in the caller's transaction.

    A fixed number of statements for any number of reports; those on mails that the account (or its
    integration) does not have change nothing. Locks contacts, then steps, addresses and effects.
    """
    ids = sorted({report.effect_id for report in reports})
    rows = await db.fetch(queries.find_mails, account_id, ids, integration_id)
    if not rows:
        return TakenReports({})
    contacts = [row["contact_id"] for row in rows if row["contact_id"] is not None]
    await db.execute(addresses.lock_contacts, [account_id] * len(contacts), contacts)
    # Once more: an erasure that was waited for has taken the addresses away.
    rows = await db.fetch(queries.find_mails, account_id, ids, integration_id)
    mails = {row["id"]: row for row in rows}
    known = [_judged(r, mails[r.effect_id]) for r in reports if r.effect_id in mails]
    fresh, bells = await _tell(db, known, mails)
    bells |= await _suppress(db, account_id, fresh, mails)
    await _note(db, account_id, known)
    return TakenReports(mails, bells)


def _judged(report: MailReport, mail: asyncpg.Record) -> MailReport:
    """Flag as a machine's what was opened or followed within seconds of sending."""
    sent_at, at = mail["dispatched_at"], report.occurred_at
    is_reading = report.status in ("opened", "clicked")
    if not is_reading or sent_at is None or at is None or not -SKEW < at - sent_at < SOON:
        return report
    status: Any = f"machine_{report.status}"
    return replace(report, status=status, payload={**report.payload, "sign": "soon"})


async def _tell(
    db: Connection, reports: Sequence[MailReport], mails: Mapping[UUID, asyncpg.Record]
) -> tuple[list[MailReport], Bells]:
    """Tell the contacts' runs; gives the reports that were not told before.

    Whoever opts in again stays in, however often a provider repeats what came before. Only the
    person's own wish, by the link in a mail, counts each time.
    """
    events = [_event(report, mails[report.effect_id]) for report in reports]
    told = [event for event in events if event is not None]
    if not told:
        return list(reports), Bells()
    ids, bells = await take_in(db, told)
    taken = iter(ids)
    is_new = [event is None or next(taken) is not None for event in events]
    pairs = zip(reports, is_new, strict=True)
    return [report for report, new in pairs if new or report.source == LINK], bells


async def _suppress(
    db: Connection,
    account_id: UUID,
    reports: Sequence[MailReport],
    mails: Mapping[UUID, asyncpg.Record],
) -> Bells:
    wanted: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        address = mails[report.effect_id]["address"]  # an erased contact's is gone
        if report.suppresses is not None and address is not None:
            wanted[report.suppresses].add(address)
    bells = Bells()
    for reason in sorted(wanted):
        bells |= await opt_out_all(db, account_id, CHANNEL, sorted(wanted[reason]), reason)
    return bells


async def _note(db: Connection, account_id: UUID, reports: Sequence[MailReport]) -> None:
    """Keep the reports, and say on each mail how far it has come."""
    now = await current_instant(db)
    ids = sorted({report.effect_id for report in reports})
    stands = {
        row["id"]: row["delivery_status"]
        for row in await db.fetch(queries.lock_mails, account_id, ids)
    }
    await db.execute(
        queries.add_reports,
        account_id,
        [report.effect_id for report in reports],
        [report.source for report in reports],
        [report.status for report in reports],
        [dict(report.detail) for report in reports],
        now,
    )
    furthest: dict[UUID, str] = {}
    for report in reports:
        stand = furthest.get(report.effect_id, stands.get(report.effect_id))
        if rank(report.status) > rank(stand):
            furthest[report.effect_id] = report.status
    if furthest:
        statuses = list(furthest), list(furthest.values())
        await db.execute(queries.note_deliveries, account_id, *statuses)


def _event(report: MailReport, mail: asyncpg.Record) -> IncomingEvent | None:
    event_type = EVENTS.get(report.status)
    if event_type is None or mail["contact_id"] is None:
        return None
    return IncomingEvent(
        mail["account_id"],
        event_type,
        mail["contact_id"],
        {"effect_id": str(mail["id"]), **report.payload},
        action_id=mail["action_id"],
        execution_id=mail["execution_id"],
        dedupe_key=f"{event_type}:{mail['id']}:{report.key}"[:200],
        occurred_at=report.occurred_at,
    )
