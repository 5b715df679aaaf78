"""One connection to the fake SMTP server: RFC 5321, pipelining, STARTTLS, AUTH, SMTPUTF8.

By hand on asyncio's protocols, not by aiosmtpd: that took 1.05 ms of CPU for a mail where the
client took 0.79, so that a benchmark would have measured it. Strict where real servers are: a bare
CR or LF, a line over 998 octets, or eight bits that were not announced are refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from tests.counterparts.smtp.script import Delay, Drop, Misbehaviour, Say, Stage

if TYPE_CHECKING:
    from tests.counterparts.smtp.server import PostOffice

LONGEST_COMMAND: Final = 4_096
LARGEST_MAIL: Final = 35 << 20

_PATH: Final = re.compile(rb"(?i:FROM|TO):\s*<([^<>\x00-\x20\x7f]*)>((?: [!-~]+)*)")


class Session(asyncio.Protocol):
    """The server's side of a connection; `office` has the script and keeps what comes."""

    def __init__(self, office: PostOffice, *, is_secure: bool) -> None:
        self._office = office
        self._is_secure = is_secure
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._looked_until = 0
        self._out: list[bytes] = []
        self._is_held = False
        self._takes_content = False
        self._greeted = False
        self.user: str | None = None
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._parameters: frozenset[bytes] = frozenset()
        self._answered: Callable[[bytes], None] | None = None

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._office.sessions.add(self)
        self._office.connections += 1
        self._at("connect", lambda: self._say("220 post.test ESMTP"))
        self._flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget what was begun."""
        self.transport = None
        self._office.leave(self)

    def data_received(self, data: bytes) -> None:
        """Take commands and content as they come, also several at once (RFC 2920)."""
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._is_held and self.transport is not None:
            if not (self._content() if self._takes_content else self._command()):
                break
        self._flush()

    def _flush(self) -> None:
        if self._out and self.transport is not None:
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def _say(self, *lines: str) -> None:
        for line in lines[:-1]:
            self._out.append(f"{line[:3]}-{line[4:]}\r\n".encode())
        self._out.append(f"{lines[-1]}\r\n".encode())
        if lines[-1].startswith(("4", "5")):
            self._office.refusals[lines[-1][:3]] += 1

    def drop(self) -> None:
        """Break the connection without a word."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    def _at(self, stage: Stage, act: Callable[[], None], address: str = "") -> None:
        """Do what was asked for, unless the script has something else in mind."""
        match self._office.misbehaviour(stage, address):
            case None:
                act()
            case Say(line):
                self._say(line)
                if line.startswith("421") and self.transport is not None:
                    self._flush()
                    self.transport.close()
            case other:
                self._is_held = True
                self._misbehave(other, act, keeps=stage == "content")

    def _misbehave(self, what: Misbehaviour, act: Callable[[], None], *, keeps: bool) -> None:
        if isinstance(what, Drop):
            if keeps:
                act()
            self._out.clear()
            self.drop()
        elif isinstance(what, Delay):
            act()
            self._office.begin(self._answer_later())

    async def _answer_later(self) -> None:
        said, self._out = self._out, []
        await self._office.delayed.wait()
        self._out = said + self._out
        self._is_held = False
        self._go_on()

    # What a client says

    def _command(self) -> bool:
        end = self._buffer.find(b"\r\n", self._looked_until)
        if end < 0:
            self._looked_until = max(0, len(self._buffer) - 1)
            if len(self._buffer) > LONGEST_COMMAND:
                self._say("500 5.5.6 line too long")
                self._buffer.clear()
                self._looked_until = 0
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._looked_until = 0
        if self._answered is not None:
            answered, self._answered = self._answered, None
            answered(line)
            return True
        verb, _, rest = line.partition(b" ")
        word = verb.upper().decode("ascii", "replace")
        act = getattr(self, f"_on_{word.lower()}", None) if word.isalpha() else None
        if act is None:
            self._say("500 5.5.2 unknown command")
        else:
            act(rest)
        return True

    def _on_ehlo(self, name: bytes) -> None:
        def act() -> None:
            self._greeted = True
            self._reset()
            offers = [f"250 {offer}" for offer in self._office.offers(is_secure=self._is_secure)]
            self._say("250 post.test", *offers)

        if not name.strip():
            return self._say("501 5.5.4 who is there?")
        return self._at("EHLO", act)

    def _on_helo(self, _name: bytes) -> None:
        self._greeted = True
        self._reset()
        self._say("250 post.test")

    def _on_starttls(self, _rest: bytes) -> None:
        def act() -> None:
            self._is_held = True
            assert self.transport is not None
            self.transport.pause_reading()
            self._say("220 2.0.0 go ahead")
            self._flush()
            self._office.begin(self._start_tls())

        if self._office.tls is None or self._is_secure:
            return self._say("503 5.5.1 no STARTTLS here")
        return self._at("STARTTLS", act)

    async def _start_tls(self) -> None:
        assert self.transport is not None
        assert self._office.tls is not None
        self._buffer.clear()  # what was said in the clear does not count (RFC 3207, 4.2)
        loop = asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                self.transport, self, self._office.tls, server_side=True, ssl_handshake_timeout=10
            )
        except OSError:  # the client did not like the certificate, or went away
            return
        assert isinstance(secure, asyncio.Transport)
        self.transport = secure
        self._is_secure = True
        self._greeted = False
        self._is_held = False
        self._go_on()

    def _on_auth(self, rest: bytes) -> None:
        way, _, given = rest.partition(b" ")
        way = way.upper()
        if way.decode("ascii", "replace") not in self._office.auth_ways:
            return self._say("504 5.5.4 not by this")
        if way == b"PLAIN":
            if given:
                return self._plain(given)
            self._answered = self._plain
            return self._say("334 ")
        self._answered = self._login_user
        if given:
            self._answered = None
            return self._login_user(given)
        return self._say("334 VXNlcm5hbWU6")

    def _plain(self, given: bytes) -> None:
        _, _, pair = _decoded(given).partition(b"\0")
        user, _, password = pair.partition(b"\0")
        self._log_in(user, password)

    def _login_user(self, given: bytes) -> None:
        user = _decoded(given)
        self._answered = lambda password: self._log_in(user, _decoded(password))
        self._say("334 UGFzc3dvcmQ6")

    def _log_in(self, user: bytes, password: bytes) -> None:
        def act() -> None:
            if self._office.users.get(user.decode()) != password.decode():
                return self._say("535 5.7.8 wrong name or password")
            self.user = user.decode()
            self._office.logins += 1
            return self._say("235 2.7.0 welcome")

        self._at("AUTH", act)

    def _on_mail(self, rest: bytes) -> None:
        path = _PATH.fullmatch(rest)
        if not self._greeted:
            return self._say("503 5.5.1 who is there?")
        if self._office.requires_tls and not self._is_secure:
            return self._say("530 5.7.0 STARTTLS first")
        if self._office.users and self.user is None:
            return self._say("530 5.7.0 log in first")
        if path is None or rest[:4].upper() != b"FROM" or self._sender is not None:
            return self._say("501 5.5.4 MAIL FROM:<…> once")
        parameters = frozenset(path[2].upper().split())
        if not path[1].isascii() and b"SMTPUTF8" not in parameters:
            return self._say("553 5.6.7 without SMTPUTF8")

        def act() -> None:
            self._sender, self._parameters = path[1].decode(), parameters
            self._say("250 2.1.0 sender ok")

        return self._at("MAIL", act, path[1].decode())

    def _on_rcpt(self, rest: bytes) -> None:
        path = _PATH.fullmatch(rest)
        if self._sender is None:
            return self._say("503 5.5.1 MAIL first")
        if path is None or rest[:2].upper() != b"TO" or not path[1]:
            return self._say("501 5.5.4 RCPT TO:<…>")
        if not path[1].isascii() and b"SMTPUTF8" not in self._parameters:
            return self._say("553 5.6.7 without SMTPUTF8")
        address = path[1].decode()

        def act() -> None:
            self._recipients.append(address)
            self._say("250 2.1.5 recipient ok")

        return self._at("RCPT", act, address)

    def _on_data(self, _rest: bytes) -> None:
        def act() -> None:
            self._takes_content = True
            self._say("354 end with a dot")

        if not self._recipients:
            return self._say("503 5.5.1 no valid recipients")
        return self._at("DATA", act)

    def _content(self) -> bool:
        if self._buffer.startswith(b".\r\n"):
            end, behind = 0, 3
        else:
            end = self._buffer.find(b"\r\n.\r\n", self._looked_until) + 2
            behind = end + 3
        if end == 1:
            self._looked_until = max(0, len(self._buffer) - 4)
            return False
        content = bytes(self._buffer[:end])
        del self._buffer[:behind]
        self._looked_until = 0
        self._takes_content = False
        content = content.removeprefix(b".").replace(b"\r\n.", b"\r\n")

        def act() -> None:
            assert self._sender is not None
            number = self._office.take(self._sender, self._recipients, content, self.user)
            self._say(f"250 2.0.0 taken as {number}")

        if complaint := self._complaint(content):
            self._say(complaint)
        else:
            self._at("content", act, self._recipients[0])
        self._reset()
        return True

    def _complaint(self, content: bytes) -> str | None:
        if len(content) > LARGEST_MAIL:
            return "552 5.3.4 the mail is too large"
        ends = content.count(b"\r\n")
        if content.count(b"\n") != ends or content.count(b"\r") != ends:
            return "550 5.6.11 a bare line break"
        if max(map(len, content.split(b"\r\n"))) > 998:
            return "550 5.6.0 a line is longer than 998 octets"
        if not content.isascii() and not self._parameters & {b"BODY=8BITMIME", b"SMTPUTF8"}:
            return "554 5.6.1 eight bits that were not announced"
        return None

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []
        self._parameters = frozenset()

    def _on_rset(self, _rest: bytes) -> None:
        self._reset()
        self._say("250 2.0.0 forgotten")

    def _on_noop(self, _rest: bytes) -> None:
        self._say("250 2.0.0 ok")

    def _on_quit(self, _rest: bytes) -> None:
        self._say("221 2.0.0 bye")
        self._flush()
        if self.transport is not None:
            self.transport.close()


def _decoded(given: bytes) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        return b""
