"""A fake SMTP server that speaks its protocol: keeps the mails that come, misbehaves as scripted.

In a test's or the demo's own process:

    async with post_office() as office:
        office.of_recipient["gone@x.test"] = NO_SUCH_USER      # at RCPT, whenever it is written to
        office.script["content"] = [Drop(), None]              # the first mail, taken; the second
        …                                                      # an integration to office.port
        await office.has_come(2)
        office.mails[0].message["Message-ID"], office.counts()

With `tls` (tests.counterparts.smtp.certificates) it offers STARTTLS, or with `is_implicit` speaks
TLS from the first byte; with `users` it wants a login. In a process of its own, with its counts
over HTTP: `python -m tests.counterparts.smtp` (see `__main__`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

from tests.counterparts.smtp.script import Misbehaviour, Stage
from tests.counterparts.smtp.session import LARGEST_MAIL, Session


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that was taken."""

    sender: str
    recipients: Sequence[str]
    content: bytes
    user: str | None = None
    """Who was logged in."""

    @property
    def message(self) -> EmailMessage:
        """The mail, read by the standard library."""
        read = message_from_bytes(self.content, policy=SMTP)
        assert isinstance(read, EmailMessage)
        return read

    def body(self, subtype: str) -> str:
        """What its part for `plain` or `html` says."""
        part = self.message.get_body((subtype,))
        assert part is not None, f"no {subtype} in it"
        said: str = part.get_content()
        return said


@dataclass
class PostOffice:
    """The server: what came, and how it is to behave."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    keeps_mails: bool = True
    """A benchmark only counts."""
    taken: Counter[str] = field(default_factory=Counter)
    """How many mails each recipient got."""
    refusals: Counter[str] = field(default_factory=Counter)
    """How often each code of 400 and above was said."""
    connections: int = 0
    logins: int = 0
    script: dict[Stage, list[Misbehaviour | None]] = field(default_factory=dict)
    """For what comes next at each stage, one each; None: as it should be."""
    always: dict[Stage, Misbehaviour] = field(default_factory=dict)
    """Behind the script."""
    of_recipient: dict[str, Misbehaviour] = field(default_factory=dict)
    """At RCPT, by address, before the script."""
    users: dict[str, str] = field(default_factory=dict)
    """Passwords by name; with any of them, nobody sends without a login."""
    auth_ways: tuple[str, ...] = ("PLAIN", "LOGIN")
    tls: ssl.SSLContext | None = None
    requires_tls: bool = False
    takes_unicode: bool = True
    takes_pipelines: bool = True
    sessions: set[Session] = field(default_factory=set)
    delayed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to answer what was delayed."""
    _met: Counter[Stage] = field(default_factory=Counter)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    # What tests and the demo do with it

    def counts(self) -> dict[str, int]:
        """What came, in numbers."""
        return {
            "mails": self.taken.total(),
            "recipients": len(self.taken),
            "refusals": self.refusals.total(),
            "connections": self.connections,
            "logins": self.logins,
        }

    async def has_come(self, mails: int) -> None:
        """Wait until so many mails have been taken."""
        await self._until(lambda: self.taken.total() >= mails)

    async def has_reached(self, stage: Stage, times: int = 1) -> None:
        """Wait until conversations have come to this stage so often, whatever became of them."""
        await self._until(lambda: self._met[stage] >= times)

    async def is_left(self) -> None:
        """Wait until every connection has ended."""
        await self._until(lambda: not self.sessions)

    def reached(self, stage: Stage) -> int:
        """How often conversations have come to this stage."""
        return self._met[stage]

    def hang_up(self) -> None:
        """Close every connection, as a server does with idle ones."""
        for session in list(self.sessions):
            if session.transport is not None:
                session.transport.close()

    # What its sessions do with it

    def leave(self, session: Session) -> None:
        """Forget a connection that has ended."""
        self.sessions.discard(session)
        self._changed.set()

    def offers(self, *, is_secure: bool) -> Iterable[str]:
        """The extensions, as EHLO is told them."""
        yield from ("8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {LARGEST_MAIL}")
        if self.takes_pipelines:
            yield "PIPELINING"
        if self.takes_unicode:
            yield "SMTPUTF8"
        if self.tls is not None and not is_secure:
            yield "STARTTLS"
        if self.users and (is_secure or not self.requires_tls):
            yield " ".join(("AUTH", *self.auth_ways))

    def misbehaviour(self, stage: Stage, address: str) -> Misbehaviour | None:
        """Say how to misbehave now, if at all."""
        self._met[stage] += 1
        self._changed.set()
        if stage == "RCPT" and address in self.of_recipient:
            return self.of_recipient[address]
        if script := self.script.get(stage):
            return script.pop(0)
        return self.always.get(stage)

    def take(self, sender: str, recipients: Sequence[str], content: bytes, user: str | None) -> int:
        """Take a mail; gives its number."""
        self.taken.update(recipients)
        if self.keeps_mails:
            self.mails.append(Mail(sender, tuple(recipients), content, user))
        self._changed.set()
        return self.taken.total()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with something of a session later."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def end(self) -> None:
        """Break what is open, stop what was begun."""
        for session in list(self.sessions):
            session.drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def post_office(
    port: int = 0, *, tls: ssl.SSLContext | None = None, is_implicit: bool = False
) -> AsyncIterator[PostOffice]:
    """Serve a fake SMTP server on loopback, on a free port unless one is given."""
    office = PostOffice(tls=None if is_implicit else tls)
    listening = await asyncio.get_running_loop().create_server(
        lambda: Session(office, is_secure=is_implicit),
        "127.0.0.1",
        port,
        ssl=tls if is_implicit else None,
    )
    office.port = listening.sockets[0].getsockname()[1]
    try:
        yield office
    finally:
        listening.close()
        await office.end()
