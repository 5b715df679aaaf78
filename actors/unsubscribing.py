"""Unsubscribing an address, be the mail still known or not.

Where the mail is known, its contact's runs are told. Where neither it nor any contact has the
address any more (the run is past its retention, the contact was erased), the wish is kept as an
erasure keeps it: by the salted hash of the address alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import asyncpg

from actors.contact_erasure import hash_addresses
from actors.mail_marketing import Recipient
from actors.mail_reports import CHANNEL, LINK, TRIES, MailReport, report_mails
from runtime.bells import Bells
from runtime.dispatching import opt_out
from runtime.performing import TRANSIENT
from sql import load

queries = load("email")

REASON: Final = "unsubscribed"


async def unsubscribed(pool: asyncpg.Pool, recipient: Recipient) -> Bells | None:
    """Write no more marketing mail to the recipient; None when the account is gone.

    Committed when it returns. Ring the bells then.
    """
    row = await pool.fetchrow(
        queries.standing, recipient.account_id, recipient.effect_id, recipient.address
    )
    if row is None:
        return None
    if row["is_of_mail"]:
        report = MailReport(recipient.effect_id, REASON, LINK, suppresses=REASON)
        taken = await report_mails(pool, recipient.account_id, [report])
        mail = taken.effects.get(recipient.effect_id)
        if mail is not None and mail["address"] is not None:
            return taken.bells
    for _ in range(TRIES - 1):
        with suppress(*TRANSIENT):
            return await _keep(pool, recipient, is_known=row["is_known"])
    return await _keep(pool, recipient, is_known=row["is_known"])


async def _keep(pool: asyncpg.Pool, recipient: Recipient, *, is_known: bool) -> Bells:
    account_id, address = recipient.account_id, recipient.address
    async with pool.acquire() as db, db.transaction():
        bells = await opt_out(db, account_id, CHANNEL, address, REASON)
        if not is_known:
            await hash_addresses(db, account_id, [(CHANNEL, address)])
    return bells
