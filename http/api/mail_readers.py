"""Opens and clicks on their way in, many at once (see api.gathering).

Who reads a mail waits for a few seconds at most; the report goes on without its reader.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from aiohttp import web

from actors.mail_reports import MailReport, queries, report_mails
from api.gathering import FullError, Gathering
from runtime import log
from runtime.bells import Bells

logger = log.get(__name__)

PATIENCE_SECONDS: Final = 5.0
MOST_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """What somebody, or something, did with a mail; `report` says it, as of an instant."""

    effect_id: UUID
    report: Callable[[datetime], MailReport]


class Readers:
    """Takes readings in for one process."""

    def __init__(self, pool: asyncpg.Pool, ring: Callable[[Bells], Awaitable[None]]) -> None:
        self._pool = pool
        self._ring = ring
        self._readings = Gathering(self._report, MOST_AT_ONCE)

    async def take(self, effect_id: UUID, report: Callable[[datetime], MailReport]) -> None:
        """Store what was done with a mail, and wait until it is, or for PATIENCE_SECONDS."""
        try:
            stored = self._readings.bring(Reading(effect_id, report))
        except FullError:
            logger.warning("mail.report_lost", effect_id=str(effect_id), error="too_many_waiting")
            return
        stored.add_done_callback(lambda done: _say_if_lost(effect_id, done))
        await asyncio.wait([stored], timeout=PATIENCE_SECONDS)

    async def end(self) -> None:
        """Store what still waits."""
        await self._readings.end()

    async def _report(self, part: Sequence[Reading]) -> Sequence[None]:
        ids = list({reading.effect_id for reading in part})
        rows = {row["id"]: row for row in await self._pool.fetch(queries.find_accounts, ids)}
        of_account: dict[UUID, list[MailReport]] = defaultdict(list)
        for reading in part:
            row = rows.get(reading.effect_id)  # None: its run is past its retention
            if row is not None:
                of_account[row["account_id"]].append(reading.report(row["now"]))
        for account_id, reports in of_account.items():
            taken = await report_mails(self._pool, account_id, reports)
            await self._ring(taken.bells)
        return [None] * len(part)


def _say_if_lost(effect_id: UUID, stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        name = type(error).__name__
        logger.warning("mail.report_lost", effect_id=str(effect_id), error=name)


READERS = web.AppKey("mail_readers", Readers)
