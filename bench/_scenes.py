"""What the people of the demo do: write to the page, read their mail, answer texts."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp

from bench._people import Person
from tests.counterparts.graph.server import Graph
from tests.counterparts.smtp.server import Mail, PostOffice
from tests.counterparts.twilio.server import Message, Twilio

One = TypeVar("One")

AT_ONCE: Final = 20
EVENTS_A_POST: Final = 100
_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_PIXEL: Final = re.compile(r'src="([^"]*/t/o/[^"]*)"')
_LINK: Final = re.compile(r'href="([^"]*/t/c/[^"]*)"')

_BOUNCE: Final = """From: MAILER-DAEMON@mx.example.com\r
To: {sender}\r
Subject: Undelivered Mail Returned to Sender\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r
\r
--b\r
Content-Type: text/plain\r
\r
Your message could not be delivered.\r
\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example.com\r
\r
Final-Recipient: rfc822; {to}\r
Action: failed\r
Status: 5.1.1\r
\r
--b\r
Content-Type: text/rfc822-headers\r
\r
Message-ID: {message_id}\r
\r
--b--\r
"""
_COMPLAINT: Final = """From: feedback@example.com\r
To: {sender}\r
Subject: FW: complaint\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r
\r
--b\r
Content-Type: text/plain\r
\r
This is an abuse report for a mail to {to}.\r
\r
--b\r
Content-Type: message/feedback-report\r
\r
Feedback-Type: abuse\r
User-Agent: Demo/1.0\r
Version: 1\r
\r
--b\r
Content-Type: text/rfc822-headers\r
\r
Message-ID: {message_id}\r
\r
--b--\r
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where Callboard is reached: its webhooks, and what a mail server needs to return mail."""

    returns_url: str
    token: str
    texts_webhook: str
    messenger_webhook: str
    webhook_secret: str
    sms_number: str


class Scenes:
    """Lets everybody act, some at once."""

    def __init__(
        self,
        phones: Twilio,
        page: Graph,
        office: PostOffice,
        people: Sequence[Person],
        setting: Setting,
    ) -> None:
        self._phones = phones
        self._page = page
        self._office = office
        self._people = people
        self._by_phone = {person.phone: person for person in people}
        self._setting = setting
        self._session = aiohttp.ClientSession(headers={"User-Agent": _BROWSER})
        self._places = asyncio.Semaphore(AT_ONCE)
        self._done: Counter[str] = Counter()

    async def play(self, name: str) -> dict[str, int]:
        """Play the scene of this name; gives how often something was done in it."""
        scenes = {"page": self._write, "mail": self._read_mail, "texts": self._answer_texts}
        self._done.clear()
        await scenes[name]()
        return dict(self._done)

    async def answer_at_once(self, message: Message) -> None:
        """Let the person who has just got a text answer it."""
        if (person := self._by_phone.get(message.to)) is not None:
            await self._answer(person)

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def _write(self) -> None:
        """Everybody who uses Messenger writes to the page: that opens its 24 hours."""
        page = self._page
        items = []
        for person in self._people:
            if person.writes:
                page.wrote_at[person.psid] = page.now
                said = {"mid": f"m_hello{person.psid}", "text": "Hello! Is the offer still open?"}
                items.append(page.item(person.psid, message=said))
        for begin in range(0, len(items), EVENTS_A_POST):
            _expect(await page.post(items[begin : begin + EVENTS_A_POST]), 200)
        self._done["wrote"] = len(items)

    async def _read_mail(self) -> None:
        """Mailboxes open, click, bounce and complain."""
        people = {person.email: person for person in self._people}
        mails = [mail for mail in self._office.mails if mail.recipients[0] in people]
        await self._each(lambda mail: self._treat(mail, people[mail.recipients[0]]), mails)

    async def _treat(self, mail: Mail, person: Person) -> None:
        match person.mailbox:
            case "bounces":
                await self._return(mail, _BOUNCE)
                self._done["bounced"] += 1
            case "complains":
                await self._return(mail, _COMPLAINT)
                self._done["complained"] += 1
            case _ if person.opens:
                await self._look(mail, clicks=person.clicks)

    async def _look(self, mail: Mail, *, clicks: bool) -> None:
        html = mail.body("html")
        pixel, link = _PIXEL.search(html), _LINK.search(html)
        if pixel is None or link is None:
            return  # not one that is tracked
        async with self._session.get(pixel[1]) as got:
            _expect(got.status, 200)
        self._done["opened"] += 1
        if clicks:
            async with self._session.get(link[1], allow_redirects=False) as got:
                _expect(got.status, 302)
            self._done["clicked"] += 1

    async def _return(self, mail: Mail, report: str) -> None:
        raw = report.format(
            sender=mail.sender, to=mail.recipients[0], message_id=mail.message["Message-ID"]
        )
        headers = {
            "Authorization": f"Bearer {self._setting.token}",
            "Content-Type": "message/rfc822",
        }
        async with self._session.post(
            self._setting.returns_url, data=raw.encode(), headers=headers
        ) as got:
            _expect(got.status, 200)

    async def _answer_texts(self) -> None:
        """Some say yes, some say STOP."""
        texted = {message.to for message in self._phones.messages}
        answering = [p for p in self._people if p.replies is not None and p.phone in texted]
        await self._each(self._answer, answering)

    async def _answer(self, person: Person) -> None:
        assert person.replies is not None
        told = await self._phones.text(
            self._setting.texts_webhook, person.phone, self._setting.sms_number, person.replies
        )
        _expect(told.status, 200)
        self._done["stopped" if person.stops else "replied"] += 1
        self._done["confirmed"] += "<Message>" in told.answer

    async def _each(self, act: Callable[[One], Awaitable[None]], what: Iterable[One]) -> None:
        async def in_turn(one: One) -> None:
            async with self._places:
                await act(one)

        await asyncio.gather(*(in_turn(one) for one in what))


def _expect(status: int, wanted: int) -> None:
    if status != wanted:
        raise RuntimeError(f"Callboard answered {status} instead of {wanted}")
