"""What marketing mail must carry: the sender's postal address, and a way out that works at once.

15 U.S.C. 7704(a)(3) and (5) (CAN-SPAM), and RFC 8058, which the large mailbox providers ask for.
The link holds all that it takes to keep its promise, sealed: the account, the mail, the address. So
it works when the mail is past its retention, when the contact is erased, and when the key that
sealed it was rotated away (see runtime.link_keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from uuid import UUID

from runtime.house import House
from runtime.signing import Sealer

PREFIX: Final = "/unsubscribe"
ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a link unsubscribes: the address that a mail of an account went to."""

    account_id: UUID
    effect_id: UUID
    address: str


def unsubscribe_url(house: House, recipient: Recipient) -> str:
    """Where the recipient of a mail unsubscribes."""
    message = recipient.account_id.bytes + recipient.effect_id.bytes + recipient.address.encode()
    return f"{house.public_url}{PREFIX}/{_sealer(house.vault.link_keys).seal(message)}"


def recipient_of(keys: Sequence[bytes], token: str) -> Recipient | None:
    """Read whom a link unsubscribes; None for a token that none of these keys has sealed."""
    message = _sealer(keys).open(token)
    if message is None or len(message) <= 2 * ID_BYTES:
        return None
    account_id, effect_id = message[:ID_BYTES], message[ID_BYTES : 2 * ID_BYTES]
    address = message[2 * ID_BYTES :].decode()
    return Recipient(UUID(bytes=account_id), UUID(bytes=effect_id), address)


def _sealer(keys: Sequence[bytes]) -> Sealer:
    return Sealer(keys, "unsubscribe")


def footer_of(postal_address: str, url: str) -> tuple[str, str]:
    """Give address and link as they stand at the end of a mail, in its HTML and in its text."""
    lines = [line.strip() for line in postal_address.strip().splitlines()]
    html = (
        '<div style="font-size:12px;color:#666;margin-top:24px">'
        f'{"<br>".join(map(escape, lines))}<br><a href="{escape(url)}">Unsubscribe</a></div>'
    )
    return html, "\n\n-- \n" + "\n".join(lines) + f"\nUnsubscribe: {url}\n"
