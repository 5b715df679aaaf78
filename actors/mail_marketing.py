"""What marketing mail must carry: the sender's postal address, and a way out that works at once.

15 U.S.C. 7704(a)(3) and (5) (CAN-SPAM), and RFC 8058, which the large mailbox providers ask for.
The link holds no more than the mail's id, signed: it lives as long as the key that signed it.
"""

from __future__ import annotations

from html import escape
from typing import Final
from uuid import UUID

from runtime.house import House
from runtime.signing import Signer

PREFIX: Final = "/unsubscribe"


def signer_of(house: House) -> Signer:
    """Give what signs the links."""
    return house.vault.signer("unsubscribe")


def unsubscribe_url(house: House, effect_id: UUID) -> str:
    """Where the recipient of a mail unsubscribes."""
    return f"{house.public_url}{PREFIX}/{signer_of(house).sign(effect_id.bytes)}"


def footer_of(postal_address: str, url: str) -> tuple[str, str]:
    """Give address and link as they stand at the end of a mail, in its HTML and in its text."""
    lines = [line.strip() for line in postal_address.strip().splitlines()]
    html = (
        '<div style="font-size:12px;color:#666;margin-top:24px">'
        f'{"<br>".join(map(escape, lines))}<br><a href="{escape(url)}">Unsubscribe</a></div>'
    )
    return html, "\n\n-- \n" + "\n".join(lines) + f"\nUnsubscribe: {url}\n"
