"""Mails that come back: what a bounce or a complaint says of a mail of ours.

Read are delivery reports (RFC 3464), complaints (RFC 5965), and by flufl.bounce the common bounces
that follow no standard. Our mail is known by its Message-ID, or by a header of ours, in what came
back of it; a report that quotes neither is none of ours. Whoever wrote it may be hostile: no more
is read than bounds allow, and what no parser makes sense of is no report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from itertools import islice
from typing import Any, Final
from uuid import UUID

from flufl.bounce import all_failures

from actors.mail_reports import MailReport, Status

EFFECT_HEADER: Final = "X-Callboard-Effect"

# Reports say what they have to say at the beginning; behind it comes the mail itself.
MOST_LOOKED_AT: Final = 256 << 10
MOST_LINES: Final = 5_000
LONGEST_LINE: Final = 998  # RFC 5322, 2.1.1
MOST_BOUNDARIES: Final = 40
MOST_PARTS: Final = 100
MOST_MAILS: Final = 20

_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MESSAGE_ID: Final = re.compile(rf"<({_ID})@[^<>\s]{{1,255}}>", re.IGNORECASE)
_BARE_ID: Final = re.compile(rf"\s*({_ID})\s*\Z", re.IGNORECASE)
_QUOTED: Final = re.compile(
    rf"^[> \t]*(?:Message-ID:\s*<({_ID})@|{EFFECT_HEADER}:\s*({_ID}))",
    re.IGNORECASE | re.MULTILINE,
)
_STATUS: Final = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_REPLY_CODE: Final = re.compile(r"\b([245]\d\d)[ -]")

# Permanent failures that say that there is no such mailbox (RFC 3463): bad addresses, disabled
# mailboxes, hosts that nobody knows, and those that say nothing more. Full mailboxes, sizes,
# contents and policies are of this mail or this day.
_HARD: Final = re.compile(r"5\.(?:0\.0|1\.(?!7$|8$)\d+|2\.[01]|4\.4)")

_COMPLAINTS: Final = frozenset({"abuse", "fraud"})
_ACTIONS: Final[dict[str, Status]] = {
    "failed": "bounced",
    "delayed": "deferred",
    "delivered": "delivered",
    "relayed": "accepted",
    "expanded": "accepted",
}
_WEIGHT: Final[tuple[Status, ...]] = ("accepted", "delivered", "deferred", "bounced")


@dataclass(frozen=True, slots=True)
class Returned:
    """What a mail that came back says: of which of our mails (the likeliest first), and what.

    `addresses`: bounces of no standard name them; only a mail to one of them is meant.
    """

    effect_ids: tuple[UUID, ...]
    report: MailReport
    addresses: frozenset[str] = frozenset()

    def of(self, effect_id: UUID) -> MailReport:
        """The report, of this mail."""
        return replace(self.report, effect_id=effect_id)


def read_return(raw: bytes) -> Returned | None:
    """Read a mail that came back; None for one that is no report, or of no mail of ours."""
    lines = raw[:MOST_LOOKED_AT].splitlines()[:MOST_LINES]
    bounded = b"\n".join(line[:LONGEST_LINE] for line in lines) + b"\n"
    # Each nested part has one of these, and costs a look at every line within.
    if bounded.lower().count(b"boundary") > MOST_BOUNDARIES:
        return None
    try:
        return _read(message_from_bytes(bounded, policy=compat32), bounded)
    except Exception:  # noqa: BLE001 - parsers stumble over hostile mails in any way there is
        return None


def _read(mail: Message, bounded: bytes) -> Returned | None:
    parts = list(islice(mail.walk(), MOST_PARTS))
    effect_ids = tuple(islice(dict.fromkeys(_effect_ids(mail, parts, bounded)), MOST_MAILS))
    if not effect_ids:
        return None
    for part in parts:
        match part.get_content_type():
            case "message/feedback-report":
                report = _complaint(part)
            case "message/delivery-status":
                report = _delivery(part)
            case _:
                continue
        return None if report is None else Returned(effect_ids, report)
    return _of_no_standard(mail, effect_ids)


def _effect_ids(mail: Message, parts: Sequence[Message], bounded: bytes) -> Iterator[UUID]:
    """Our mails that are named: by the mail that came back with it, by its threads, in its text."""
    for part in parts:
        if part.get_content_type() == "message/rfc822" and part.is_multipart():
            yield from _ids_of(part.get_payload(0))  # type: ignore[arg-type]
        elif part.get_content_type() == "text/rfc822-headers":
            yield from _ids_of(message_from_bytes(_content(part), policy=compat32))
    for name in ("In-Reply-To", "References"):
        yield from (UUID(found) for found in _MESSAGE_ID.findall(_header(mail, name)))
    for message_id, bare in _QUOTED.findall(bounded.decode("ascii", "replace")):
        yield UUID(message_id or bare)


def _ids_of(original: Message) -> Iterator[UUID]:
    if found := _BARE_ID.match(_header(original, EFFECT_HEADER)):
        yield UUID(found[1])
    if found := _MESSAGE_ID.search(_header(original, "Message-ID")):
        yield UUID(found[1])


def _header(mail: Message, name: str) -> str:
    return str(mail.get(name, ""))


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _blocks(part: Message) -> list[Message]:
    """The blocks of fields in a part of the type message/…, which parsers take for mails."""
    payload: Any = part.get_payload()
    if isinstance(payload, list):
        return payload[:MOST_MAILS]
    texts = re.split(r"\n\s*\n", str(payload))[:MOST_MAILS]
    return [message_from_bytes(text.encode(), policy=compat32) for text in texts]


def _complaint(part: Message) -> MailReport | None:
    """Whoever complains is not written to again; other feedback (not-spam, …) is passed over."""
    kinds = {_header(block, "Feedback-Type").strip().lower() for block in _blocks(part)}
    if "opt-out" in kinds:
        return MailReport(_NOBODY, "unsubscribed", "arf", suppresses="unsubscribed")
    if not kinds & _COMPLAINTS:
        return None
    return MailReport(_NOBODY, "complained", "arf", suppresses="complaint")


def _delivery(part: Message) -> MailReport | None:
    """The gravest of what is said of recipients; our mails have one."""
    found = []
    for block in _blocks(part):
        status = _ACTIONS.get(_header(block, "Action").strip().lower())
        if status is not None:
            found.append((status, block))
    if not found:
        return None
    status, block = max(found, key=lambda pair: _WEIGHT.index(pair[0]))
    code = _code(block)
    detail = {"code": code} if code else {}
    if status != "bounced":
        return MailReport(_NOBODY, status, "dsn", detail)
    is_hard = _is_hard(code, _header(block, "Diagnostic-Code"))
    return _bounced("dsn", code, is_hard=is_hard)


def _code(block: Message) -> str | None:
    """The status; what the server said itself where the reporter knows no more than `5.0.0`."""
    told = _STATUS.search(_header(block, "Status")[:100])
    said = _STATUS.search(_header(block, "Diagnostic-Code")[:1_000])
    if told is not None and told[0] != f"{told[1]}.0.0":
        return told[0]
    return (said or told or [None])[0]


def _is_hard(code: str | None, diagnostic: str) -> bool:
    reply = _REPLY_CODE.search(diagnostic[:1_000])
    if code is None:
        return reply is not None and reply[1] in ("550", "551", "553")
    if code == "5.0.0" and reply is not None:
        return reply[1] in ("550", "551", "553")
    return _HARD.fullmatch(code) is not None


def _bounced(source: str, code: str | None, *, is_hard: bool) -> MailReport:
    return MailReport(
        _NOBODY,
        "bounced",
        source,
        {"code": code} if code else {},
        {"is_hard": is_hard, "code": code},
        key="hard" if is_hard else "soft",
        suppresses="hard_bounce" if is_hard else None,
    )


def _of_no_standard(mail: Message, effect_ids: tuple[UUID, ...]) -> Returned | None:
    temporary, permanent = all_failures(mail)
    if permanent:
        return Returned(effect_ids, _bounced("bounce", None, is_hard=True), _addresses(permanent))
    if temporary:
        report = MailReport(_NOBODY, "deferred", "bounce")
        return Returned(effect_ids, report, _addresses(temporary))
    return None


def _addresses(found: Any) -> frozenset[str]:
    told = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in found]
    return frozenset(text.strip().lower() for text in told)


_NOBODY: Final = UUID(int=0)
