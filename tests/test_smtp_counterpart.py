"""The fake SMTP server against the standard library's client, and against what is no good SMTP."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.counterparts.smtp.certificates import make_certificates
from tests.counterparts.smtp.script import NO_SUCH_USER, Drop, Say
from tests.counterparts.smtp.server import PostOffice, post_office
from tests.processes import ROOT

MAIL = b"From: a@x.test\r\nSubject: x\r\n\r\n.\r\n..two\r\nend\r\n"


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with post_office() as office:
        yield office


async def by(client: Callable[..., Any], *arguments: Any) -> Any:
    """Have the blocking client do something, while the server lives on this loop."""
    return await asyncio.to_thread(client, *arguments)


async def test_it_takes_a_mail_as_it_was_given(office: PostOffice) -> None:
    client = await by(smtplib.SMTP, "127.0.0.1", office.port)
    await by(client.sendmail, "a@x.test", ["b@x.test", "c@x.test"], MAIL)
    await by(client.quit)
    (mail,) = office.mails
    assert (mail.sender, mail.recipients) == ("a@x.test", ("b@x.test", "c@x.test"))
    assert mail.content == MAIL
    assert mail.message["Subject"] == "x"
    assert (office.counts()["mails"], office.counts()["connections"]) == (2, 1)


async def test_it_does_what_the_script_says(office: PostOffice) -> None:
    office.of_recipient["gone@x.test"] = NO_SUCH_USER
    office.script = {"MAIL": [Say("451 4.3.0 later"), None], "content": [None, Drop()]}
    client = await by(smtplib.SMTP, "127.0.0.1", office.port)
    with pytest.raises(smtplib.SMTPSenderRefused):
        await by(client.sendmail, "a@x.test", ["b@x.test"], MAIL)
    refused = await by(client.sendmail, "a@x.test", ["b@x.test", "gone@x.test"], MAIL)
    assert refused["gone@x.test"][0] == 550
    with pytest.raises(smtplib.SMTPServerDisconnected):
        await by(client.sendmail, "a@x.test", ["b@x.test"], MAIL)
    assert (office.taken, office.refusals) == ({"b@x.test": 2}, {"451": 1, "550": 1})


@pytest.mark.parametrize("is_implicit", [False, True])
async def test_it_speaks_tls_and_wants_a_login(tmp_path: Path, *, is_implicit: bool) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    trusting = ssl.create_default_context(cafile=str(certificates.authority))
    async with post_office(tls=certificates.server, is_implicit=is_implicit) as office:
        office.users = {"ada": "secret"}
        office.requires_tls = True

        def send(password: str) -> None:
            client: smtplib.SMTP
            if is_implicit:
                client = smtplib.SMTP_SSL("localhost", office.port, context=trusting)
            else:
                client = smtplib.SMTP("localhost", office.port)
                assert client.docmd("EHLO x")[0] == 250
                assert client.docmd("MAIL", "FROM:<a@x.test>")[0] == 530
                client.starttls(context=trusting)
            with client:
                client.login("ada", password)
                client.sendmail("a@x.test", "b@x.test", MAIL)

        with pytest.raises(smtplib.SMTPAuthenticationError):
            await by(send, "wrong")
        await by(send, "secret")
    assert [mail.user for mail in office.mails] == ["ada"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a\nb\r\n", b"550"),
        (b"a\rb\r\n", b"550"),
        (b"x" * 1100 + b"\r\n", b"550"),
        (b"\xc3\xa9\r\n", b"554"),
        (b"", b"250"),
    ],
)
async def test_it_takes_commands_in_one_go_and_refuses_bad_content(
    office: PostOffice, content: bytes, code: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", office.port)
    writer.write(
        b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n"
        + content
        + b".\r\nRCPT TO:<x>\r\nFOO\r\nQUIT\r\n"
    )
    said = [line for line in (await reader.read()).split(b"\r\n") if line[3:4] == b" "]
    writer.close()
    assert [line[:3] for line in said] == [
        b"220", b"250", b"250", b"250", b"354", code, b"503", b"500", b"221",
    ]  # fmt: skip


async def test_in_a_process_of_its_own_it_is_counted_over_http() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.counterparts.smtp",
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    port, url = (await process.stdout.readline()).decode().split()
    client = await by(smtplib.SMTP, "127.0.0.1", int(port))
    await by(client.sendmail, "a@x.test", ["b@x.test"], MAIL)
    await by(client.quit)
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        counts = await reply.json()
    process.terminate()
    assert await process.wait() == 0
    assert counts == {"mails": 1, "recipients": 1, "refusals": 0, "connections": 1, "logins": 0}
