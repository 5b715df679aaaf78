"""Mails by bare loops, with the client and over as many connections as Callboard's.

`build_and_send` is how everybody does it: Jinja2, an EmailMessage for each recipient, and
`send_message`. `send_bytes` is as fast as the client can be: mails that are ready. They run on
asyncio's own loop; on uvloop the client takes the same 0.62 ms of CPU for a mail, as measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from email.message import EmailMessage
from email.utils import formataddr, formatdate, make_msgid
from typing import Final, TypeVar

import aiosmtplib
import jinja2

from actors.mail_templates import plain_of
from bench._mailing import CONNECTIONS, FROM, FROM_NAME, HTML, SUBJECT

Recipient = tuple[str, str]
"""An address and a first name."""

_Mail = TypeVar("_Mail")

_JINJA: Final = jinja2.Environment(autoescape=True)
_PLAIN: Final = jinja2.Environment()  # noqa: S701 - plain text is not escaped


class Builder:
    """What a loop has at hand that renders for each recipient."""

    def __init__(self) -> None:
        self._html = _JINJA.from_string(HTML)
        self._text = _PLAIN.from_string(plain_of(HTML))
        self._subject = _PLAIN.from_string(SUBJECT)

    def build(self, recipient: Recipient) -> EmailMessage:
        """Render a mail and make it a tree."""
        address, first_name = recipient
        context = {"contact": {"email": address, "first_name": first_name}}
        message = EmailMessage()
        message["From"] = formataddr((FROM_NAME, FROM))
        message["To"] = address
        message["Subject"] = self._subject.render(context)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain="acme.example")
        message.set_content(self._text.render(context))
        message.add_alternative(self._html.render(context), subtype="html")
        return message


async def build_and_send(port: int, recipients: Sequence[Recipient]) -> float:
    """Seconds for mails that are built one by one."""
    builder = Builder()

    async def send(client: aiosmtplib.SMTP, recipient: Recipient) -> None:
        await client.send_message(builder.build(recipient))

    return await _race(port, recipients, send)


async def send_bytes(port: int, recipients: Sequence[Recipient]) -> float:
    """Seconds for mails that were built before."""
    builder = Builder()
    ready = [(address, builder.build((address, name)).as_bytes()) for address, name in recipients]

    async def send(client: aiosmtplib.SMTP, mail: tuple[str, bytes]) -> None:
        await client.sendmail(FROM, [mail[0]], mail[1])

    return await _race(port, ready, send)


async def _race(
    port: int, mails: Iterable[_Mail], send: Callable[[aiosmtplib.SMTP, _Mail], Awaitable[None]]
) -> float:
    clients = [
        aiosmtplib.SMTP(hostname="127.0.0.1", port=port, use_tls=False, start_tls=False)
        for _ in range(CONNECTIONS)
    ]
    for client in clients:
        await client.connect()
    left = iter(mails)

    async def go_on(client: aiosmtplib.SMTP) -> None:
        for mail in left:
            await send(client, mail)

    began = time.perf_counter()
    await asyncio.gather(*map(go_on, clients))
    seconds = time.perf_counter() - began
    for client in clients:
        await client.quit()
    return seconds
