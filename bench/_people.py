"""Who the people of the demo are, and how each behaves.

Their number decides, so that what arrives and what comes back can be counted on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

from pydantic import TypeAdapter

Mailbox = Literal["reads", "gone", "bounces", "complains"]
Picks = Literal["person", "machine", "busy first", "nobody"]

# NANP numbers (area code 202, exchange 200 and up), one for each.
_FIRST_PHONE: Final = 12_022_000_000
_FIRST_PSID: Final = 7_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Person:
    """How somebody is reached, and what they do about it."""

    email: str
    phone: str
    psid: str
    """By what number the Facebook page knows them."""
    mailbox: Mailbox
    opens: bool
    clicks: bool
    picks: Picks
    """Who picks up the phone."""
    has_consented: bool
    """To marketing texts."""
    is_landline: bool
    """What is texted to it does not arrive."""
    replies: str | None
    writes: bool
    """To the Facebook page."""

    @classmethod
    def number(cls, n: int, email: str) -> Self:
        """Make the person of this number."""
        mailbox = _mailbox(n)
        has_consented, is_landline = n % 20 != 9, n % 50 == 11
        return cls(
            email=email,
            phone=f"+{_FIRST_PHONE + n}",
            psid=str(_FIRST_PSID + n),
            mailbox=mailbox,
            opens=mailbox == "reads" and n % 2 == 0,
            clicks=mailbox == "reads" and n % 4 == 0,
            picks=_picks(n),
            has_consented=has_consented,
            is_landline=is_landline,
            replies=_reply(n) if has_consented and not is_landline else None,
            writes=n % 10 != 8,
        )

    @classmethod
    def plain(cls, n: int, email: str) -> Self:
        """Make somebody for whom everything goes well, and who answers each text."""
        return cls(
            email=email,
            phone=f"+{_FIRST_PHONE + n}",
            psid=str(_FIRST_PSID + n),
            mailbox="reads",
            opens=False,
            clicks=False,
            picks="person",
            has_consented=False,
            is_landline=False,
            replies="Yes, please!",
            writes=True,
        )

    @property
    def answers_texts(self) -> bool:
        """Whether they answer with anything else than STOP."""
        return self.replies is not None and not self.stops

    @property
    def stops(self) -> bool:
        """Whether they want no more texts."""
        return self.replies == "STOP"


def _mailbox(n: int) -> Mailbox:
    special: dict[int, Mailbox] = {10: "gone", 20: "bounces", 30: "complains"}
    return special.get(n % 50, "reads")


def _picks(n: int) -> Picks:
    if n % 10 == 4:
        return "busy first"
    if n % 10 == 7:
        return "nobody"
    return "machine" if n % 3 == 0 else "person"


def _reply(n: int) -> str | None:
    if n % 10 == 3:
        return "STOP"
    return "Yes, please!" if n % 5 == 1 else None


_PEOPLE: Final = TypeAdapter(list[Person])


def to_json(people: Sequence[Person]) -> list[dict[str, Any]]:
    """Give them as they go to another process."""
    return [asdict(person) for person in people]


def from_json(given: Any) -> list[Person]:
    """Read what `to_json` gave."""
    return _PEOPLE.validate_python(given)
