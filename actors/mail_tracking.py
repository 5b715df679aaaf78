"""Opens and clicks of mails: a picture of one pixel, and links that lead by way of us.

Every URL is a signed token of its own. That of a link holds the very target, so that it leads
there, and nowhere else, whatever has become of the mail since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from actors.mail_links import Link, Outline, outline_of, spliced
from actors.mail_marketing import ID_BYTES
from actors.mail_marketing import PREFIX as UNSUBSCRIBE
from runtime.house import House
from runtime.signing import Signer

OPENS: Final = "/t/o"
CLICKS: Final = "/t/c"
TRACKING: Final = "tracking"
"""The key of a request under which stands what is tracked: {"opens": true, "clicks": true}."""


def pixel(house: House, effect_id: UUID) -> str:
    """Give the picture that a mail program asks for when the mail is opened."""
    url = f"{house.public_url}{OPENS}/{_opens(house.vault.link_keys).sign(effect_id.bytes)}"
    return f'<img src="{url}" width="1" height="1" alt="" style="border:0">'


def click_urls(house: House, effect_id: UUID) -> Callable[[Link], str | None]:
    """Give what leads a mail's links by way of us; None for links that are ours already."""
    signer, base = _clicks(house.vault.link_keys), f"{house.public_url}{CLICKS}/"
    own = tuple(f"{house.public_url}{path}/" for path in (UNSUBSCRIBE, OPENS, CLICKS))
    raw = effect_id.bytes

    def url_of(link: Link) -> str | None:
        if link.target.startswith(own):
            return None
        return base + signer.sign(raw + link.target.encode(errors="replace"))

    return url_of


def opened_by(keys: Sequence[bytes], token: str) -> UUID | None:
    """Read whose pixel it is; None for a token that none of these keys has signed."""
    message = _opens(keys).verify(token)
    return UUID(bytes=message) if message is not None and len(message) == ID_BYTES else None


def clicked_by(keys: Sequence[bytes], token: str) -> tuple[UUID, str] | None:
    """Read whose link it is and where it leads; None for a token that none of these has signed."""
    message = _clicks(keys).verify(token)
    if message is None or len(message) <= ID_BYTES:
        return None
    return UUID(bytes=message[:ID_BYTES]), message[ID_BYTES:].decode()


def _opens(keys: Sequence[bytes]) -> Signer:
    return Signer(keys, "open")


def _clicks(keys: Sequence[bytes]) -> Signer:
    return Signer(keys, "click")


def tracked(
    html: str,
    house: House,
    effect_id: UUID,
    asked: Mapping[str, Any],
    at_end: str = "",
    *,
    outline: Outline | None = None,
) -> str:
    """Give a mail's HTML with what is tracked (see TRACKING), and more at its end.

    `outline` is that of the HTML, if it is known; it may be found in it.
    Without a key to sign with nothing is tracked. Everything else stays as it is, byte by byte.
    """
    has_key = house.vault.has_key
    clicks = has_key and asked.get("clicks", False)
    if has_key and asked.get("opens", False):
        at_end += pixel(house, effect_id)
    if not (clicks or at_end):
        return html
    outline = outline or outline_of(html)
    if not clicks:
        return spliced(html, outline, [None] * len(outline.links), at_end)
    return spliced(html, outline, map(click_urls(house, effect_id), outline.links), at_end)
