"""A conversation with an SMTP server that aiosmtplib has opened: many mails, one after another.

aiosmtplib connects, secures the connection and logs in. It sends a mail by four commands, each of
which wakes the task that waits for its reply: 0.8 ms of CPU, of two round trips' time and more. So
the transport is taken over from it, and the commands go out together where the server takes that
(PIPELINING, RFC 2920), one after the other where not. Replies are dealt with as they come; the
task that gave the mail wakes once.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Final, cast

import aiosmtplib

from actors.mail_replies import Lost, Said, Stage

STAGES: Final[tuple[Stage, ...]] = ("MAIL", "RCPT", "DATA", "content")
IDLE_SECONDS: Final = 60.0
LARGEST_REPLY: Final = 32_768
_LEAVE_SECONDS: Final = 1.0
_UNFIT: Final = re.compile(r"[\x00-\x20\x7f<>]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A mail on its way; `is_unicode` where an address needs SMTPUTF8 (RFC 6531).

    `content` has CRLF for its line ends, one at its end.
    """

    sender: str
    recipient: str
    content: bytes
    is_unicode: bool = False


@dataclass(slots=True)
class _Giving:
    """A mail that is being given: what is yet to be said, and what was answered."""

    commands: list[bytes]
    content: bytes
    done: asyncio.Future[Said | Lost]
    skipped: int
    """Replies that come before the first of this mail's."""
    number: int = 0
    refused: Said | None = None
    is_out: bool = False


@dataclass(eq=False)
class Conversation(asyncio.Protocol):
    """Speaks over a transport that is open; gives one mail at a time.

    `timeout_seconds` bounds the wait for each reply, and each halt while a mail goes out. Idle for
    IDLE_SECONDS, it takes its leave.
    """

    transport: asyncio.Transport
    extensions: frozenset[str]
    timeout_seconds: float
    idle_seconds: float = IDLE_SECONDS
    mails: int = 0
    began_at: float = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _buffer: bytearray = field(default_factory=bytearray)
    _text: list[str] = field(default_factory=list)
    _owed: int = 0
    _giving: _Giving | None = None
    _must_reset: bool = False
    _timer: asyncio.TimerHandle | None = None
    _deadline: float = 0.0
    _unsent: int = 0
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.began_at = self._loop.time()
        self._wait(self.idle_seconds)
        self.transport.set_protocol(self)

    @classmethod
    def taken_over(cls, client: aiosmtplib.SMTP, timeout_seconds: float) -> Conversation:
        """Go on with a connection that a client has opened; the client is of no more use."""
        assert client.transport is not None, "it is connected"
        transport = cast("asyncio.Transport", client.transport)  # uvloop's are no subclasses
        return cls(transport, frozenset(client.esmtp_extensions), timeout_seconds)

    @property
    def is_open(self) -> bool:
        """Whether another mail can be tried over it."""
        return not self.transport.is_closing()

    async def give(self, envelope: Envelope) -> Said | Lost:
        """Give a mail; whatever comes of it is a value.

        ValueError: an address cannot stand on a command line. If this is cancelled, the
        connection is of no more use.
        """
        assert self._giving is None, "one mail at a time"
        commands = self._commands(envelope)
        if not self.is_open:
            return Lost(is_out=False, is_silent=False)
        self.mails += 1
        resets, self._must_reset = int(self._must_reset), False
        commands = [b"RSET\r\n"] * resets + commands
        at_once = len(commands) if "pipelining" in self.extensions else 1
        done = self._loop.create_future()
        giving = _Giving(commands[at_once:], envelope.content, done, resets)
        self._giving = giving
        self._write(b"".join(commands[:at_once]), len(commands[:at_once]))
        try:
            return await giving.done
        finally:
            self._giving = None
            self._wait(self.idle_seconds)

    def _commands(self, envelope: Envelope) -> list[bytes]:
        options = ""
        if "size" in self.extensions:
            options += f" SIZE={len(envelope.content)}"
        if envelope.is_unicode:
            options += " SMTPUTF8 BODY=8BITMIME"
        sender, recipient = _quoted(envelope.sender), _quoted(envelope.recipient)
        return [
            f"MAIL FROM:{sender}{options}\r\n".encode(),
            f"RCPT TO:{recipient}\r\n".encode(),
            b"DATA\r\n",
        ]

    async def leave(self) -> None:
        """Say QUIT, wait a moment for the answer, and close."""
        if self.is_open and self._giving is None:
            self.transport.write(b"QUIT\r\n")
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    await self._gone.wait()
            except TimeoutError:
                pass
        self.abort()

    def abort(self) -> None:
        """Break the connection off, with whatever was on its way over it."""
        if self._timer is not None:
            self._timer.cancel()
        self.transport.abort()

    # What comes from the transport

    def data_received(self, data: bytes) -> None:
        """Take replies; what was not asked for when it was sent is a farewell, or no SMTP."""
        self._buffer += data
        owed = self._owed
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            if not line[:3].isdigit() or not owed or self._giving is None:
                return self._break()
            self._text.append(line[4:].decode("utf-8", "replace").strip())
            if line[3:4] != b"-":
                text, self._text = "\n".join(self._text), []
                owed -= 1
                self._owed -= 1
                self._replied(self._giving, int(line[:3]), text)
        if len(self._buffer) + sum(map(len, self._text)) > LARGEST_REPLY:
            return self._break()
        return None

    def connection_lost(self, _exc: Exception | None) -> None:
        """Say that no reply will come."""
        self._gone.set()
        self._lose(is_silent=False)
        if self._timer is not None:
            self._timer.cancel()

    def _break(self) -> None:
        self._gone.set()
        self._lose(is_silent=False)
        self.abort()

    def _lose(self, *, is_silent: bool) -> None:
        giving = self._giving
        if giving is not None and not giving.done.done():
            # Where the mail was refused before the connection went, that stands.
            giving.done.set_result(giving.refused or Lost(giving.is_out, is_silent))

    # The mail that is being given

    def _replied(self, giving: _Giving, code: int, text: str) -> None:
        if giving.done.done():
            return None
        self._wait(self.timeout_seconds)
        if giving.skipped:
            giving.skipped -= 1
            return self._say_next(giving)
        stage = STAGES[giving.number]
        giving.number += 1
        is_good = code == {"DATA": 354}.get(stage, 250) or (stage == "RCPT" and code == 251)
        if not is_good and giving.refused is None:
            giving.refused = Said(stage, code, text)
        if code == 421:  # it closes the channel (RFC 5321, 3.8)
            giving.done.set_result(Said(stage, code, text))
            self.transport.close()
        elif stage == "content":
            giving.done.set_result(giving.refused or Said(stage, code, text))
        elif stage == "DATA" and code == 354:
            self._give_content(giving)
        elif giving.refused is None:
            self._say_next(giving)
        elif giving.commands or stage == "DATA":
            # Not all was said yet, or it was, and no content is wanted.
            self._must_reset = True
            giving.done.set_result(giving.refused)
        return None

    def _say_next(self, giving: _Giving) -> None:
        if giving.commands:
            self._write(giving.commands.pop(0))

    def _give_content(self, giving: _Giving) -> None:
        if giving.refused is not None:  # DATA was on its way already (RFC 2920, 3.1)
            self._must_reset = True
            self._write(b".\r\n")
            return
        giving.is_out = True
        content = giving.content.replace(b"\r\n.", b"\r\n..")
        self._write((b"." if content.startswith(b".") else b"") + content + b".\r\n")

    def _write(self, data: bytes, replies: int = 1) -> None:
        self._owed += replies
        self.transport.write(data)
        self._unsent = self.transport.get_write_buffer_size()
        self._wait(self.timeout_seconds)

    # How long it waits

    def _wait(self, seconds: float) -> None:
        # One timer that looks at its deadline when it rings; not one for every command.
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        unsent = self.transport.get_write_buffer_size()
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
        elif unsent < self._unsent:  # a large mail goes out over a slow line
            self._unsent = unsent
            self._wait(self.timeout_seconds)
        elif self._giving is None:
            self.transport.write(b"QUIT\r\n")
            self.transport.close()
        else:
            self._lose(is_silent=True)
            self.transport.abort()


def _quoted(address: str) -> str:
    if _UNFIT.search(address):
        raise ValueError("an address holds what would end it on a command line")
    return f"<{address}>"
