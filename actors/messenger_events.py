"""What Facebook tells of a page's people, read from its webhooks: messages, buttons, receipts.

Read is what is known (developers.facebook.com/docs/messenger-platform/reference/webhook-events);
everything else is passed over, so that Facebook does not tell it again and again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

MOST_MIDS: Final = 1000
LONGEST_TEXT: Final = 2000
_LATEST_MS: Final = 4_102_444_800_000  # the year 2100: what is beyond is no instant


@dataclass(frozen=True, slots=True)
class PersonEvent:
    """One thing that happened between a page and a person.

    `key`: what they do comes once under it. `opens`: it opens the 24 hours. `ref`: of the m.me
    link that they followed. `echo_of`: the effect that a message of ours came from, with its `mid`.
    """

    page: str
    psid: str
    at: datetime | None = None
    key: str | None = None
    opens: bool = False
    text: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    ref: str | None = None
    echo_of: UUID | None = None
    mid: str | None = None
    delivered_until: datetime | None = None
    read_until: datetime | None = None
    mids: tuple[str, ...] = ()


def read_events(body: Any) -> Iterator[PersonEvent]:
    """Read all events of a webhook's body."""
    if not isinstance(body, dict) or body.get("object") != "page":
        return
    for entry in _list(body.get("entry")):
        page = _word(_dict(entry).get("id"))
        for item in _list(_dict(entry).get("messaging")):
            if page and (event := _read(page, _dict(item))) is not None:
                yield event


def _read(page: str, item: Mapping[str, Any]) -> PersonEvent | None:
    message = _dict(item.get("message"))
    is_echo = message.get("is_echo") is True
    psid = _word(_dict(item.get("recipient" if is_echo else "sender")).get("id"))
    if not psid.isdecimal():
        return None
    at = _instant(item.get("timestamp"))
    if is_echo:
        effect_id = _uuid(message.get("metadata"))
        mid = _word(message.get("mid"))
        return PersonEvent(page, psid, echo_of=effect_id, mid=mid) if effect_id and mid else None
    if message:
        return _message(page, psid, at, message)
    if postback := _dict(item.get("postback")):
        return _pressed(page, psid, at, postback)
    if "delivery" in item or "read" in item:
        return _receipt(page, psid, item)
    return _came(page, psid, at, item)


def _message(
    page: str, psid: str, at: datetime | None, message: Mapping[str, Any]
) -> PersonEvent | None:
    mid = _word(message.get("mid"))
    if not mid:
        return None
    text = _text(message.get("text"))
    attachments = [
        {
            "type": _word(_dict(one).get("type")),
            "url": _text(_dict(_dict(one).get("payload")).get("url")),
        }
        for one in _list(message.get("attachments"))[:10]
    ]
    payload = {"message_id": mid, "body": text, "attachments": attachments}
    if reply := _dict(message.get("quick_reply")):
        payload["payload"] = _text(reply.get("payload"))
    ref = _ref(_dict(message.get("referral")))
    return PersonEvent(page, psid, at, mid, True, text, payload, ref)


def _pressed(page: str, psid: str, at: datetime | None, postback: Mapping[str, Any]) -> PersonEvent:
    title, pressed = _text(postback.get("title")), _text(postback.get("payload"))
    key = _word(postback.get("mid")) or f"postback:{page}:{psid}:{at and at.timestamp()}:{pressed}"
    payload = {"message_id": key, "body": title, "payload": pressed, "attachments": []}
    ref = _ref(_dict(postback.get("referral")))
    return PersonEvent(page, psid, at, key[:300], True, pressed or title, payload, ref)


def _receipt(page: str, psid: str, item: Mapping[str, Any]) -> PersonEvent:
    delivery, read = _dict(item.get("delivery")), _dict(item.get("read"))
    mids = tuple(w for m in _list(delivery.get("mids"))[:MOST_MIDS] if (w := _word(m)))
    delivered, seen = _instant(delivery.get("watermark")), _instant(read.get("watermark"))
    return PersonEvent(page, psid, delivered_until=delivered, read_until=seen, mids=mids)


def _came(page: str, psid: str, at: datetime | None, item: Mapping[str, Any]) -> PersonEvent | None:
    """Read a followed link, a plug-in's opt-in, or a reaction: they say nothing to answer."""
    if referral := _dict(item.get("referral")):
        is_link = referral.get("source") == "SHORTLINK"
        return PersonEvent(page, psid, at, opens=is_link, ref=_ref(referral))
    if optin := _dict(item.get("optin")):
        return PersonEvent(page, psid, at, ref=_ref(optin))
    return PersonEvent(page, psid, at, opens=True) if item.get("reaction") else None


def _ref(referral: Mapping[str, Any]) -> str | None:
    return _text(referral.get("ref")) or None


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Read a text; what PostgreSQL cannot store is left out."""
    if not isinstance(value, str):
        return ""
    return value[:LONGEST_TEXT].replace("\x00", "").encode(errors="ignore").decode()


def _word(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 300 and text.isprintable() and " " not in text else ""


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(_text(value))
    except ValueError:
        return None


def _instant(value: Any) -> datetime | None:
    if not isinstance(value, int) or not 0 < value < _LATEST_MS:
        return None
    return datetime.fromtimestamp(value / 1000, UTC)
