"""Kept SMTP connections against a server that does what it likes, over plain text and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import mail_connections
from actors.integration_kinds import Smtp
from actors.integrations import Integration
from actors.mail_connections import Post
from actors.mail_conversation import Conversation, Envelope
from actors.mail_replies import BROKEN, NO_CONNECTION, NO_TLS, NO_UNICODE, TIMED_OUT, Bounced, Taken
from runtime.failures import Failure, Kind
from tests.counterparts.smtp.certificates import make_certificates
from tests.counterparts.smtp.script import Drop, Hang, Say, Stage
from tests.counterparts.smtp.server import PostOffice, post_office

HEAD = b"From: a@x.test\r\n\r\n"
FROM = "ada@acme.test"


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with post_office() as office:
        yield office


def posting(office: PostOffice, password: str = "secret", **settings: Any) -> Post:
    """An integration's connections to the server."""
    integration = Integration(
        id=uuid4(),
        account_id=uuid4(),
        kind="smtp",
        name="Mail",
        address=None,
        addresses=(),
        settings={},
        is_test=False,
        is_disabled=False,
        secrets={"password": password},
    )
    settings = {"security": "none", "timeout_seconds": 5.0, **settings}
    return Post(integration, Smtp(host="127.0.0.1", port=office.port, **settings), "127.0.0.1")


@pytest.fixture
async def post(office: PostOffice) -> AsyncIterator[Post]:
    post = posting(office)
    yield post
    await post.close()


def mail(number: int = 0, body: bytes = b"hello\r\n", **envelope: Any) -> Envelope:
    return Envelope(FROM, f"c{number}@x.test", HEAD + body, **envelope)


async def test_many_mails_share_few_connections(office: PostOffice) -> None:
    post = posting(office, connections=2)
    posted = await asyncio.gather(*(post.send(mail(n)) for n in range(20)))
    assert all(isinstance(one, Taken) for one in posted)
    assert office.connections == 2
    assert office.taken == {f"c{n}@x.test": 1 for n in range(20)}
    await post.close()
    await office.is_left()


@pytest.mark.parametrize("pipelines", [True, False])
async def test_a_refused_recipient_leaves_the_connection_to_the_next_mail(
    office: PostOffice, post: Post, pipelines: bool
) -> None:
    """DATA may be on its way already, or is not asked for; no mail without recipients is sent."""
    office.takes_pipelines = pipelines
    office.script["RCPT"] = [Say("550 5.1.1 gone"), Say("451 4.2.1 busy"), None]
    assert await post.send(mail(1)) == Bounced(550, "5.1.1", is_hard=True)
    assert isinstance(await post.send(mail(2)), Failure)
    assert isinstance(await post.send(mail(3)), Taken)
    assert (office.connections, office.taken) == (1, {"c3@x.test": 1})


async def test_an_empty_mail_ends_what_was_asked_for_too_early(office: PostOffice) -> None:
    """A server may say 354 though it refused every recipient (RFC 2920, 3.1)."""
    said = [
        (b"EHLO", b"250-x\r\n250 PIPELINING\r\n"),
        (b"MAIL", b"250 ok\r\n550 5.1.1 gone\r\n354 go on\r\n"),
        (b".", b"554 no valid recipients\r\n"),
    ]
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        for _, answer in said:
            heard.append(await reader.readuntil(b"\r\n"))
            if heard[-1].startswith(b"MAIL"):
                heard.append(await reader.readexactly(len(b"RCPT TO:<c0@x.test>\r\nDATA\r\n")))
            writer.write(answer)
        heard.append(await reader.readuntil(b"\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    office.port = server.sockets[0].getsockname()[1]
    post = posting(office)
    assert await post.send(mail()) == Bounced(550, "5.1.1", is_hard=True)
    await post.close()
    server.close()
    assert heard[3:] == [b".\r\n", b"QUIT\r\n"]


async def test_a_connection_closed_while_it_lay_idle_is_opened_anew_without_a_word(
    office: PostOffice, post: Post
) -> None:
    await post.send(mail(1))
    office.hang_up()
    assert isinstance(await post.send(mail(2)), Taken)
    office.script["MAIL"] = [Drop(), None]
    assert isinstance(await post.send(mail(3)), Taken)
    assert office.taken.total() == office.connections == 3


async def test_a_farewell_that_nobody_asked_for_is_no_answer(
    office: PostOffice, post: Post
) -> None:
    """Its connection is not used again, or the farewell would be taken for a reply."""
    await post.send(mail(1))
    (session,) = office.sessions
    (kept,) = post._idle
    assert session.transport is not None
    session.transport.write(b"250 taken, all of it\r\n")
    await kept._gone.wait()
    assert isinstance(await post.send(mail(2)), Taken)
    assert office.connections == 2


async def test_a_connection_wears_out(
    office: PostOffice, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of its mails, and by its age."""
    monkeypatch.setattr(mail_connections, "MOST_MAILS", 3)
    for number in range(7):
        assert isinstance(await post.send(mail(number)), Taken)
    assert office.connections == 3
    post._idle[0].began_at -= mail_connections.OLDEST_SECONDS
    await post.send(mail())
    assert post._idle == []


async def test_an_idle_connection_takes_its_leave(office: PostOffice, post: Post) -> None:
    await post.send(mail(1))
    (kept,) = post._idle
    kept.idle_seconds = 0.01
    kept._wait(kept.idle_seconds)
    await kept._gone.wait()
    assert isinstance(await post.send(mail(2)), Taken)
    assert office.connections == 2


async def test_a_mail_that_is_given_up_takes_its_connection_along(
    office: PostOffice, post: Post
) -> None:
    office.script["content"] = [Hang(), None]
    sending = asyncio.ensure_future(post.send(mail(1)))
    await office.has_reached("content")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert isinstance(await post.send(mail(2)), Taken)
    assert (office.connections, office.taken) == (2, {"c2@x.test": 1})


@pytest.mark.parametrize("stage", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "content"])
async def test_every_command_has_its_time(office: PostOffice, stage: Stage) -> None:
    office.always[stage] = Hang()
    post = posting(office, timeout_seconds=0.05)
    assert await post.send(mail()) == (BROKEN if stage == "content" else TIMED_OUT)
    office.always = {}
    assert isinstance(await post.send(mail()), Taken)
    await post.close()


class Slow(asyncio.Transport):
    """A line over which a mail goes out bit by bit."""

    left = 10

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def is_closing(self) -> bool:
        return self.left < 0

    def abort(self) -> None:
        self.left = -1

    def write(self, data: Any) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.left


async def test_a_large_mail_has_as_much_time_as_it_needs_while_it_goes_out() -> None:
    line = Slow()
    conversation = Conversation(line, frozenset({"pipelining"}), timeout_seconds=0.0)
    giving = asyncio.ensure_future(conversation.give(mail()))
    await asyncio.sleep(0)
    for left in (9, 5, 1):
        line.left = left
        conversation._deadline = 0.0
        conversation._ring()
        assert not line.is_closing()
    conversation._deadline = 0.0
    conversation._ring()
    assert line.is_closing()
    answer: Any = await giving
    assert answer.is_silent


@pytest.mark.parametrize("stage", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "content"])
async def test_a_connection_that_drops_before_the_content_is_none(
    office: PostOffice, post: Post, stage: Stage
) -> None:
    office.script[stage] = [Drop()]
    assert await post.send(mail()) == (BROKEN if stage == "content" else NO_CONNECTION)


Answer = tuple[Stage, str, Kind | None, str]
"""What is said to what, the kind of failure (None: a bounce), and its code or how hard it is."""

ANSWERS: list[Answer] = [
    ("connect", "421 4.3.2 shutting down", Kind.SERVICE_UNAVAILABLE, "smtp_421"),
    ("connect", "554 5.7.1 no service for you", Kind.SERVICE_UNAVAILABLE, "smtp_554"),
    ("MAIL", "451 4.3.0 try later", Kind.SERVICE_UNAVAILABLE, "smtp_451"),
    ("MAIL", "421 4.7.0 too many", Kind.SERVICE_UNAVAILABLE, "smtp_421"),
    ("MAIL", "550 5.7.1 sender rejected", Kind.INVALID_CONFIG, "smtp_sender_refused"),
    ("MAIL", "553 5.1.8 no such domain", Kind.INVALID_CONFIG, "smtp_sender_refused"),
    ("MAIL", "552 5.3.4 too large", Kind.REFUSED, "smtp_message_too_large"),
    ("MAIL", "530 5.7.0 log in first", Kind.AUTHENTICATION, "smtp_authentication_failed"),
    ("RCPT", "450 4.2.1 mailbox busy", Kind.RATE_LIMIT, "smtp_deferred"),
    ("RCPT", "421 4.7.0 too many", Kind.SERVICE_UNAVAILABLE, "smtp_421"),
    ("RCPT", "550 5.1.8 bad sender domain", Kind.INVALID_CONFIG, "smtp_sender_refused"),
    ("RCPT", "550 no such user", None, "hard"),
    ("RCPT", "551 5.1.6 has moved", None, "hard"),
    ("RCPT", "550 5.2.1 disabled", None, "hard"),
    ("RCPT", "552 5.2.2 full", None, "soft"),
    ("RCPT", "550 5.7.1 blocked by policy", None, "soft"),
    ("RCPT", "554 5.7.1 relay denied", None, "soft"),
    ("DATA", "451 4.3.0 try later", Kind.RATE_LIMIT, "smtp_deferred"),
    ("content", "452 4.3.1 disk full", Kind.RATE_LIMIT, "smtp_deferred"),
    ("content", "421 4.3.2 shutting down", Kind.SERVICE_UNAVAILABLE, "smtp_421"),
    ("content", "550 5.1.1 no such user", None, "hard"),
    ("content", "550 5.2.1 disabled", None, "hard"),
    ("content", "552 5.2.2 full", None, "soft"),
    ("content", "550 5.7.26 not authenticated", Kind.REFUSED, "smtp_message_refused"),
    ("content", "554 5.6.0 bad content", Kind.REFUSED, "smtp_message_refused"),
    ("content", "550 spam", Kind.REFUSED, "smtp_message_refused"),
    ("content", "550 5.1.7 bad sender", Kind.INVALID_CONFIG, "smtp_sender_refused"),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer[0]} {answer[1]}")
async def test_what_a_server_says_means_what_it_says_it_to(
    office: PostOffice, post: Post, answer: Answer
) -> None:
    stage, line, kind, code = answer
    office.script[stage] = [Say(line)]
    posted = await post.send(mail())
    if kind is None:
        assert isinstance(posted, Bounced)
        assert posted.is_hard is (code == "hard")
    else:
        assert isinstance(posted, Failure)
        assert (posted.kind, posted.code) == (kind, code)
    assert isinstance(await post.send(mail()), Taken)


codes = st.integers(200, 599).map(str)
lines = st.lists(codes, min_size=1, max_size=3).map(
    lambda codes: "\r\n".join([f"{codes[0]}-x" for _ in codes[1:]] + [f"{codes[0]} 5.7.1 x"])
) | st.sampled_from(["hello", "25", "250", "250 \xff", "999 x", "-1 x", "250 a\r\n250 b", ""])


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["MAIL", "RCPT", "DATA", "content"]),
    lines,
    st.booleans(),
    st.sampled_from([0, 1]),
)
async def test_whatever_a_server_says_of_one_mail_the_next_one_goes_through(
    office: PostOffice, stage: Stage, line: str, pipelines: bool, before: int
) -> None:
    """No reply is ever taken for that to another command."""
    office.takes_pipelines = pipelines
    post = posting(office, timeout_seconds=0.2)
    for _ in range(before):
        assert isinstance(await post.send(mail(1)), Taken)
    office.script = {stage: [Say(line)]}
    assert isinstance(await post.send(mail(2)), Taken | Bounced | Failure)
    office.script = {}
    office.taken.clear()
    assert isinstance(await post.send(mail(3)), Taken)
    assert office.taken == {"c3@x.test": 1}
    await post.close()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([b".", b"..", b".\r\nQUIT", b"", b"x", b".x"]), max_size=6))
async def test_no_line_of_a_mail_is_taken_for_its_end(
    office: PostOffice, parts: list[bytes]
) -> None:
    post = posting(office)
    office.mails.clear()
    body = b"".join(part + b"\r\n" for part in parts)
    assert isinstance(await post.send(mail(body=body)), Taken)
    assert [one.content for one in office.mails] == [HEAD + body]
    await post.close()


async def test_no_address_brings_commands_along(office: PostOffice, post: Post) -> None:
    for address in ("a@x.test>\r\nRSET", "a b@x.test", "<a@x.test"):
        posted = await post.send(Envelope(FROM, address, HEAD))
        assert isinstance(posted, Failure), address
    assert isinstance(await post.send(mail()), Taken)
    assert office.taken == {"c0@x.test": 1}


async def test_addresses_beyond_ascii_are_only_for_servers_that_take_them(
    office: PostOffice, post: Post
) -> None:
    envelope = Envelope(FROM, "jörg@x.test", "To: jörg@x.test\r\n\r\n".encode(), is_unicode=True)
    assert isinstance(await post.send(envelope), Taken)
    assert office.taken == {"jörg@x.test": 1}
    office.takes_unicode = False
    office.hang_up()
    assert await post.send(envelope) == NO_UNICODE
    assert isinstance(await post.send(mail()), Taken)


# TLS and logins


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Certificates of an authority that this process trusts."""
    certificates = make_certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    return certificates


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("way", ["PLAIN", "LOGIN"])
async def test_a_mail_goes_over_tls_with_a_login(trusted: Any, security: Any, way: str) -> None:
    async with post_office(tls=trusted.server, is_implicit=security == "tls") as office:
        office.users, office.auth_ways = {"ada": "secret"}, (way,)
        office.requires_tls = True
        post = posting(office, security=security, username="ada")
        large = mail(2, (b"x" * 70 + b"\r\n") * 20_000)
        for one in (mail(1), large):
            assert isinstance(await post.send(one), Taken)
        assert (office.connections, office.logins) == (1, 1)
        assert office.mails[1].content == large.content
        wrong = posting(office, "wrong", security=security, username="ada")
        refused = await wrong.send(mail())
        assert isinstance(refused, Failure)
        assert (refused.kind, refused.code) == (Kind.AUTHENTICATION, "smtp_authentication_failed")
        office.script["AUTH"] = [Say("454 4.7.0 not now")]
        later = await wrong.send(mail())
        assert isinstance(later, Failure)
        assert later.kind is Kind.SERVICE_UNAVAILABLE
        await post.close()
        await office.is_left()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_nothing_is_said_to_a_server_that_cannot_prove_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: Any
) -> None:
    """By another name, or vouched for by nobody that we trust."""
    other_name = make_certificates(tmp_path, "another.test")
    unknown = make_certificates(tmp_path / "unknown")
    monkeypatch.setenv("SSL_CERT_FILE", str(other_name.authority))
    for certificates in (other_name, unknown):
        async with post_office(tls=certificates.server, is_implicit=security == "tls") as office:
            assert await posting(office, security=security).send(mail()) == NO_TLS
            assert office.reached("MAIL") == 0


@pytest.mark.parametrize("lacking", [{"security": "starttls"}, {"username": "ada"}])
async def test_a_server_that_lacks_what_is_set_up_gets_no_mail(
    office: PostOffice, lacking: dict[str, Any]
) -> None:
    posted = await posting(office, **lacking).send(mail())
    assert isinstance(posted, Failure)
    assert posted.code == "smtp_not_supported"
    assert office.reached("MAIL") == 0


@pytest.mark.parametrize("stage", ["STARTTLS", "AUTH"])
async def test_tls_and_login_have_their_time_too(trusted: Any, stage: Stage) -> None:
    async with post_office(tls=trusted.server) as office:
        office.users = {"ada": "secret"}
        office.always[stage] = Hang()
        post = posting(office, security="starttls", username="ada", timeout_seconds=0.3)
        assert await post.send(mail()) == TIMED_OUT
