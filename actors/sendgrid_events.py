"""SendGrid's event webhook: who has signed it, and what its events say of our mails.

The signature is ECDSA over the timestamp and the raw body, with the key that SendGrid shows for
the webhook (the integration's `webhook_public_key`). A mail to SendGrid's relay bears its effect's
id as a unique argument, which comes back with every event; without it, its Message-ID does.
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from actors.mail_machines import agent_sign
from actors.mail_reports import MailReport
from runtime.storable import storable_text

EFFECT: Final = "callboard_effect"
"""The unique argument that names the effect."""

OLDEST: Final = timedelta(hours=25)
"""SendGrid repeats for a day what was not taken; what is repeated changes nothing."""
AHEAD: Final = timedelta(minutes=10)

LONGEST_URL: Final = 2_000
_FIRST: Final = datetime(2010, 1, 1, tzinfo=UTC)
_MESSAGE_ID: Final = re.compile(r"<?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@", re.IGNORECASE)

# What SendGrid's own tracking would do to links and pixels that are ours already.
_OFF: Final = {"settings": {"enable": 0}}

# Reasons to drop a mail that say nothing of its address.
_OF_THE_MAIL: Final = re.compile(r"spam content|smtpapi|quota|virus", re.IGNORECASE)


def smtpapi(effect_id: UUID) -> str:
    """Write the X-SMTPAPI header: the effect's id, and that SendGrid is not to track on its own."""
    told = {
        "unique_args": {EFFECT: str(effect_id)},
        "filters": {"clicktrack": _OFF, "opentrack": _OFF},
    }
    return orjson.dumps(told).decode()


@lru_cache(maxsize=200)
def public_key(text: str) -> EllipticCurvePublicKey:
    """Read a public key as SendGrid shows it (base64 of DER); ValueError for anything else."""
    try:
        key = load_der_public_key(base64.b64decode(text.strip(), validate=True))
    except Exception as error:
        raise ValueError("this is no public key in base64, as SendGrid shows it") from error
    match key:
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return key
    raise ValueError("SendGrid's keys are of the curve P-256")


def is_signed(key: str, signature: str, timestamp: str, body: bytes) -> bool:
    """Whether the holder of the key has signed the body at this time."""
    try:
        signed = base64.b64decode(signature, validate=True)
        public_key(key).verify(signed, timestamp.encode() + body, ECDSA(SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def is_timely(timestamp: str, now: datetime) -> bool:
    """Whether a webhook was signed so lately that it is no replay."""
    at = _instant(int(timestamp)) if re.fullmatch(r"[0-9]{1,12}", timestamp) else None
    return at is not None and now - OLDEST <= at <= now + AHEAD


def report_of(event: Any, now: datetime) -> MailReport | None:
    """Read an event; None for what is no mail of ours, or nothing that we keep."""
    if not isinstance(event, Mapping) or (effect_id := _effect_id(event)) is None:
        return None
    reader = _READERS.get(_text(event, "event", 50))
    return None if reader is None else reader(event, effect_id, _occurred_at(event, now))


def _effect_id(event: Mapping[str, Any]) -> UUID | None:
    given = event.get(EFFECT)
    with suppress(ValueError):
        if isinstance(given, str) and len(given) <= 40:
            return UUID(given)
    found = _MESSAGE_ID.match(_text(event, "smtp-id", 400))
    return UUID(found[1]) if found else None


def _text(event: Mapping[str, Any], name: str, longest: int) -> str:
    value = event.get(name)
    return storable_text(value)[:longest] if isinstance(value, str) else ""


def _instant(seconds: float) -> datetime | None:
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds, UTC)
    return None


def _occurred_at(event: Mapping[str, Any], now: datetime) -> datetime:
    told = event.get("timestamp")
    is_number = isinstance(told, int | float) and not isinstance(told, bool)
    at = _instant(told) if is_number and told is not None else None
    return at if at is not None and _FIRST <= at <= now else now


def _stage(status: Any) -> Any:
    def read(event: Mapping[str, Any], effect_id: UUID, at: datetime) -> MailReport:
        return MailReport(effect_id, status, "sendgrid", _code(event), occurred_at=at)

    return read


def _code(event: Mapping[str, Any]) -> dict[str, Any]:
    code = _text(event, "status", 20)
    return {"code": code} if code else {}


def _bounce(event: Mapping[str, Any], effect_id: UUID, at: datetime) -> MailReport:
    """`blocked` and 4.x.x are of the moment; SendGrid itself writes to no other again."""
    is_hard = event.get("type") != "blocked" and not _text(event, "status", 20).startswith("4")
    return _bounced(effect_id, "hard_bounce" if is_hard else None, _code(event), at)


def _dropped(event: Mapping[str, Any], effect_id: UUID, at: datetime) -> MailReport:
    reason = _text(event, "reason", 200)
    if _OF_THE_MAIL.search(reason):
        suppresses = None
    elif "unsubscribed" in reason.lower():
        suppresses = "unsubscribed"
    else:
        suppresses = "complaint" if "spam" in reason.lower() else "hard_bounce"
    return _bounced(effect_id, suppresses, {"is_dropped": True, **_code(event)}, at)


def _bounced(effect_id: UUID, suppresses: Any, detail: dict[str, Any], at: datetime) -> MailReport:
    is_hard = suppresses == "hard_bounce"
    payload = {"is_hard": is_hard, "code": detail.get("code")}
    return MailReport(
        effect_id, "bounced", "sendgrid", detail, payload,
        key="hard" if is_hard else "soft", suppresses=suppresses, occurred_at=at,
    )  # fmt: skip


def _complaint(_event: Mapping[str, Any], effect_id: UUID, at: datetime) -> MailReport:
    return MailReport(effect_id, "complained", "sendgrid", suppresses="complaint", occurred_at=at)


def _unsubscribe(_event: Mapping[str, Any], effect_id: UUID, at: datetime) -> MailReport:
    return MailReport(
        effect_id, "unsubscribed", "sendgrid", suppresses="unsubscribed", occurred_at=at
    )


def _reading(what: str) -> Any:
    def read(event: Mapping[str, Any], effect_id: UUID, at: datetime) -> MailReport:
        sign = agent_sign(_text(event, "useragent", 1_000))
        if event.get("sg_machine_open") is True:
            sign = "sendgrid"
        payload = {"url": _text(event, "url", LONGEST_URL) or None, "sign": sign}
        status: Any = what if sign is None else f"machine_{what}"
        return MailReport(
            effect_id, status, "sendgrid",
            payload={name: value for name, value in payload.items() if value is not None},
            key=_text(event, "sg_event_id", 100) or f"{at:%Y%m%d%H%M%S}",
            occurred_at=at,
        )  # fmt: skip

    return read


_READERS: Final[Mapping[str, Any]] = {
    "processed": _stage("accepted"),
    "deferred": _stage("deferred"),
    "delivered": _stage("delivered"),
    "bounce": _bounce,
    "dropped": _dropped,
    "spamreport": _complaint,
    "unsubscribe": _unsubscribe,
    "group_unsubscribe": _unsubscribe,
    "open": _reading("opened"),
    "click": _reading("clicked"),
}
