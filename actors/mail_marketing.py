"""What marketing mail must carry: the sender's postal address, and a way out that works at once.

15 U.S.C. 7704(a)(3) and (5) (CAN-SPAM), and RFC 8058, which the large mailbox providers ask for.
The link holds no more than the mail's id, signed: it lives as long as the key that signed it.
"""

from __future__ import annotations

import re
from html import escape
from typing import Final
from uuid import UUID

from runtime.house import House
from runtime.signing import Signer

PREFIX: Final = "/unsubscribe"
# A comment goes as far as a mail program takes it to go: to the end, where nothing closes it.
_COMMENT: Final = r"<!--(?:-?>|.*?(?:--!?>|(?P<open>\Z)))"
_PLACES: Final = re.compile(rf"{_COMMENT}|(?P<end></body\s*>)", re.IGNORECASE | re.DOTALL)


def signer_of(house: House) -> Signer:
    """Give what signs the links."""
    return house.vault.signer("unsubscribe")


def unsubscribe_url(house: House, effect_id: UUID) -> str:
    """Where the recipient of a mail unsubscribes."""
    return f"{house.public_url}{PREFIX}/{signer_of(house).sign(effect_id.bytes)}"


def with_footer(html: str, text: str, postal_address: str, url: str) -> tuple[str, str]:
    """Put address and link at the end of both bodies, before the last `</body>` if there is one.

    Never within a comment, where nobody would see them.
    """
    lines = [line.strip() for line in postal_address.strip().splitlines()]
    footer = (
        '<div style="font-size:12px;color:#666;margin-top:24px">'
        f'{"<br>".join(map(escape, lines))}<br><a href="{escape(url)}">Unsubscribe</a></div>'
    )
    place = len(html)
    for match in _PLACES.finditer(html):
        if match["end"] is not None or (match["open"] is not None and place == len(html)):
            place = match.start()
    html = html[:place] + footer + html[place:]
    return html, text.rstrip("\n") + "\n\n-- \n" + "\n".join(lines) + f"\nUnsubscribe: {url}\n"
