"""Opens and clicks on their way in: whatever comes while a batch is stored is the next batch.

A newsletter is opened by thousands within minutes, and each of them waits for a picture. So the
reports of one process go through one task and one connection, as many at once as have come. Who
reads a mail waits for a few seconds at most; the report goes on without its reader.
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
from runtime import log
from runtime.bells import Bells

logger = log.get(__name__)

PATIENCE_SECONDS: Final = 5.0
MOST_AT_ONCE: Final = 500
MOST_WAITING: Final = 20_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What somebody, or something, did with a mail; `report` says it, as of an instant."""

    effect_id: UUID
    report: Callable[[datetime], MailReport]
    done: asyncio.Future[None]


class Readers:
    """Takes readings in for one process."""

    def __init__(self, pool: asyncpg.Pool, ring: Callable[[Bells], Awaitable[None]]) -> None:
        self._pool = pool
        self._ring = ring
        self._waiting: list[Reading] = []
        self._task: asyncio.Task[None] | None = None

    async def take(self, effect_id: UUID, report: Callable[[datetime], MailReport]) -> None:
        """Store what was done with a mail, and wait until it is, or for PATIENCE_SECONDS."""
        if len(self._waiting) >= MOST_WAITING:
            logger.warning("mail.report_lost", effect_id=str(effect_id), error="too_many_waiting")
            return
        reading = Reading(effect_id, report, asyncio.get_running_loop().create_future())
        self._waiting.append(reading)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        await asyncio.wait([reading.done], timeout=PATIENCE_SECONDS)

    async def end(self) -> None:
        """Store what still waits."""
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        while self._waiting:
            part = self._waiting[:MOST_AT_ONCE]
            del self._waiting[:MOST_AT_ONCE]
            await self._store(part)
            for reading in part:
                if not reading.done.done():
                    reading.done.set_result(None)

    async def _store(self, part: Sequence[Reading]) -> None:
        try:
            await self._report(part)
        except Exception as error:  # noqa: BLE001 - one bad reading takes no other along
            if len(part) > 1:
                for reading in part:
                    await self._store([reading])
                return
            name = type(error).__name__
            logger.warning("mail.report_lost", effect_id=str(part[0].effect_id), error=name)

    async def _report(self, part: Sequence[Reading]) -> None:
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


READERS = web.AppKey("mail_readers", Readers)
