"""Erasing a contact: what the law calls the right to be forgotten (GDPR, article 17).

Its runs end, what is pending is dropped, and whatever is personal is taken out of every table; a
tombstone stays, since history refers to it, and opt-outs stay as salted hashes, so that an address
that comes back is not written to either. Who adds a table that refers to contacts adds it here and
to contact_export; a test finds what was forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from runtime import executions
from runtime.bells import Bells
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.dispatching import lock_addresses, opt_out
from sql import load

queries = load("contact_erasure")

REASON: Final = "contact_erased"

# Effects first: whoever records an answer meanwhile holds their rows, and is waited for.
SCRUBS: Final = (
    queries.scrub_effects,
    queries.scrub_effect_attempts,
    queries.scrub_effect_reports,
    queries.scrub_executions,
    queries.scrub_steps,
    queries.scrub_attempts,
    queries.scrub_audit_log,
    queries.scrub_field_changes,
    queries.scrub_notes,
    queries.scrub_tasks,
    queries.scrub_opportunities,
    queries.scrub_notifications,
    queries.drop_kept_answers,
    queries.scrub_events,
    queries.scrub_enrollments,
    queries.end_course_grants,
    queries.drop_lesson_progress,
    queries.scrub_consents,
    queries.drop_people,
    queries.drop_tags,
    queries.drop_timers,
    queries.drop_files,
)


@dataclass(frozen=True, slots=True)
class Erased:
    """When a contact was erased, and whether that was just now."""

    at: datetime
    is_new: bool
    bells: Bells


async def erase(
    db: Connection, account_id: UUID, contact_id: UUID, *, suppress: bool = False
) -> Erased | None:
    """Erase a contact in the caller's transaction; None if the account has no such contact.

    Done again it changes nothing. `suppress` keeps all of its addresses from being written to
    from now on, as if they had opted out. Locks the addresses, then the contact: a batch or a
    dispatch that has it in hand is waited for, one that comes later finds it erased.
    """
    before = await _addresses(db, account_id, contact_id)
    await _lock(db, account_id, before)
    row = await db.fetchrow(queries.lock_contact, account_id, contact_id)
    if row is None:
        return None
    if row["erased_at"] is not None:
        return Erased(row["erased_at"], False, Bells())
    addresses = await _addresses(db, account_id, contact_id)
    if addresses != before:
        await _lock(db, account_id, addresses)  # changed while we waited
    now = await current_instant(db)
    live = [r["id"] for r in await db.fetch(queries.live_executions, account_id, contact_id)]
    await executions.cancel(db, now, account_id, live, REASON)
    await db.execute(queries.drop_effects, account_id, contact_id, now)
    bells = Bells()
    if suppress:
        for channel, address in addresses:
            bells |= await opt_out(db, account_id, channel, address, "erased")
    await hash_addresses(db, account_id, addresses)
    for scrub in SCRUBS:
        await db.execute(scrub, account_id, contact_id)
    await db.execute(queries.make_tombstone, account_id, contact_id, now)
    return Erased(now, True, bells)


Addresses = Sequence[tuple[str, str]]


async def _addresses(db: Connection, account_id: UUID, contact_id: UUID) -> Addresses:
    rows = await db.fetch(queries.addresses, account_id, contact_id)
    return [(row["channel"], row["address"]) for row in rows]


async def _lock(db: Connection, account_id: UUID, addresses: Addresses) -> None:
    if addresses:
        channels, names = zip(*addresses, strict=True)
        await lock_addresses(db, [account_id] * len(addresses), channels, names)


async def hash_addresses(db: Connection, account_id: UUID, addresses: Addresses) -> None:
    """Keep opt-outs of (channel, address) by their salted hashes alone; the addresses go."""
    columns = [channel for channel, _ in addresses], [address for _, address in addresses]
    await db.execute(queries.keep_hashes, account_id, *columns)
    await db.execute(queries.forget_addresses, account_id, *columns)
