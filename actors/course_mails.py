"""Mails to contacts whose access to a course begins or ends: beside the step, which waits for none.

They are transactional, go from the account's default sender, and what stands in the way is told in
the step's result: no_email, no_sender.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final, Literal
from uuid import UUID

from actors import email_message
from actors.integrations import Sender, default_senders
from runtime.stage import Item, Stage

Senders = Mapping[tuple[UUID, str], Sender]
Fate = Literal["queued", "no_email", "no_sender", "not_asked"]

FATES: Final = "queued, not_asked, no_email, or no_sender where the account has no mail server"


async def find_senders(stage: Stage, account_ids: Iterable[UUID]) -> Senders:
    """Find whom these accounts send by; one statement, or none."""
    wanted = set(account_ids)
    return await default_senders(stage.db, wanted, ["smtp"] if wanted else [])


def write(stage: Stage, item: Item, senders: Senders, subject: str, lines: Iterable[str]) -> Fate:
    """Have a mail sent to the item's contact, a paragraph for each line; gives what comes of it."""
    to, sender = item.contact["email_normalized"], senders.get((item.account_id, "smtp"))
    if not to:
        return "no_email"
    if sender is None:
        return "no_sender"
    paragraphs = [line for line in lines if line]
    html = "".join(f"<p>{escape(line)}</p>" for line in paragraphs)
    content = email_message.written(
        f"<!DOCTYPE html><html><body>{html}</body></html>", "\n\n".join(paragraphs)
    )
    mail = email_message.request(
        sender, to, subject=" ".join(subject.split()), purpose="transactional",
        content=content, from_name=item.account.name, gates_step=False,
    )  # fmt: skip
    stage.notify(item, mail)
    return "queued"
