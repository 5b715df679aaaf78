"""What a test or the demo tells the fake SMTP server to do: refuse, hang, drop, answer later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["connect", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "content"]
"""Where in a conversation; `content` is behind the dot that ends the mail."""


@dataclass(frozen=True, slots=True)
class Say:
    """Answer with this line, such as `550 5.1.1 no such user`; what was asked for is not done."""

    line: str


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Do what was asked for, and answer once the test lets it (`delayed`)."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the connection instead of answering; behind the content the mail has been taken."""


Misbehaviour = Say | Hang | Delay | Drop

NO_SUCH_USER: Final = Say("550 5.1.1 there is no such mailbox")
MAILBOX_FULL: Final = Say("552 5.2.2 the mailbox is full")
GREYLISTED: Final = Say("451 4.7.1 greylisted, come again")
