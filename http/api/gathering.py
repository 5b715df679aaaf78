"""Requests whose work is done together: what comes while a batch is at work is the next batch.

A newsletter is opened by thousands within minutes, a provider calls back five times for each call,
and every request asks whose its token is. So what such requests of one process bring goes through
one task and one connection, as many at once as have come. Who comes alone does not wait.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

Asked = TypeVar("Asked")
Given = TypeVar("Given")

MOST_WAITING: Final = 20_000
PATIENCE_SECONDS: Final = 5.0
"""For a batch that only reads: a connection that is dead must not hold up all that come after."""


class FullError(Exception):
    """Too many wait already."""


class Gathering(Generic[Asked, Given]):
    """Has `act` done for what requests bring, for many of them at once.

    `act` gives one answer for each, in their order. It begins after the request came, so what it
    reads is no older than the request. Where it raises one of the errors `alone`, each is tried
    alone, so that a bad one takes no other along; what is raised then is what its own request gets.
    Any other error is everybody's.
    """

    def __init__(
        self,
        act: Callable[[Sequence[Asked]], Awaitable[Sequence[Given]]],
        most_at_once: int,
        most_waiting: int = MOST_WAITING,
        *,
        alone: tuple[type[Exception], ...] = (Exception,),
    ) -> None:
        self._act = act
        self._alone = alone
        self._most_at_once = most_at_once
        self._most_waiting = most_waiting
        self._waiting: list[tuple[Asked, asyncio.Future[Given]]] = []
        self._in_hand = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def unanswered(self) -> int:
        """How many have been brought and not answered."""
        return len(self._waiting) + self._in_hand

    def bring(self, asked: Asked) -> asyncio.Future[Given]:
        """Have it done soon, also if nobody waits for the answer; FullError when too many wait."""
        if self.unanswered >= self._most_waiting:
            raise FullError
        answer: asyncio.Future[Given] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._task is None or self._task.done():
            # The work is not that of the request that happens to begin it: nor are its log lines.
            self._task = asyncio.create_task(self._work(), context=contextvars.Context())
        return answer

    async def end(self) -> None:
        """Do what still waits."""
        if self._task is not None:
            await self._task

    async def _work(self) -> None:
        while self._waiting:
            part = self._waiting[: self._most_at_once]
            del self._waiting[: self._most_at_once]
            self._in_hand = len(part)
            await self._do(part)
            self._in_hand = 0

    async def _do(self, part: Sequence[tuple[Asked, asyncio.Future[Given]]]) -> None:
        try:
            given = await self._act([asked for asked, _ in part])
            assert len(given) == len(part), "an answer for each"
        except Exception as error:  # noqa: BLE001 - its own request gets it
            if len(part) > 1 and isinstance(error, self._alone):
                for one in part:
                    await self._do([one])
                return
            for _, answer in part:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), one_given in zip(part, given, strict=True):
            if not answer.done():  # whoever asked may have gone
                answer.set_result(one_given)
