"""email.message: the effect that gives one mail to an SMTP server.

A mail that may have been sent and may not is sent again: it bears the same Message-ID, by which
servers and mail programs know it. Any action makes one with `request`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import time
from email.utils import formatdate
from typing import Any, Final
from uuid import UUID

import idna

from actors.integrations import Sender
from actors.mail_bytes import (
    Attachment,
    address_header,
    attached,
    header,
    mail,
    plain_address_header,
    token_header,
)
from actors.mail_connections import Posts, posts
from actors.mail_conversation import Envelope
from actors.mail_links import Outline
from actors.mail_marketing import Recipient, footer_of, unsubscribe_url
from actors.mail_replies import Bounced
from actors.mail_reports import CHANNEL, MailReport, report_mails
from actors.mail_returns import EFFECT_HEADER
from actors.mail_templates import plain_of, read_template
from actors.mail_tracking import TRACKING, tracked
from actors.message_permission import PERMISSION, Purpose, check_messages, terms
from actors.sendgrid_events import smtpapi
from actors.test_mode import recorded
from runtime.effect import Effect, Result, Sent
from runtime.failures import Failure, Kind
from runtime.house import House
from runtime.outcomes import EffectRequest
from runtime.registry import EffectType
from runtime.storable import storable_text
from runtime.storage import MissingObjectError, StorageError, storage_of
from runtime.templates import TemplateError
from sql import load

files = load("files")

REMOVED: Final = Failure(
    Kind.INVALID_CONFIG, "integration_removed", "the integration was removed meanwhile"
)
MOST_ATTACHED_KEPT: Final = 8


def request(
    sender: Sender,
    to: str,
    *,
    subject: str,
    purpose: Purpose,
    content: Mapping[str, Any],
    from_name: str = "",
    reply_to: str | None = None,
    attachments: Sequence[UUID] = (),
    postal_address: str = "",
    gates_step: bool = True,
    track_opens: bool = False,
    track_clicks: bool = False,
    quiet_hours: tuple[time, time] | None = None,
    time_zone: str | None = None,
) -> EffectRequest:
    """Build the effect: a mail to a normalised address, from the sender's.

    `content` is `written(html, text)`, or `of_template(…)`. Marketing needs `postal_address`.
    `quiet_hours` and `time_zone`: see `message_permission.terms`.
    """
    return EffectRequest(
        kind=KIND,
        request={
            "subject": subject,
            "from_name": from_name,
            "from_email": sender.address,
            "reply_to": reply_to,
            "attachments": [str(id_) for id_ in attachments],
            "postal_address": postal_address if purpose == "marketing" else "",
            TRACKING: {"opens": track_opens, "clicks": track_clicks},
            **content,
            PERMISSION: terms(purpose, quiet_hours, time_zone),
        },
        integration_id=sender.integration_id,
        channel=CHANNEL,
        address=to,
        gates_step=gates_step,
    )


def written(html: str, text: str | None = None) -> dict[str, Any]:
    """Content as it is to be sent; without a text one is made of the HTML."""
    return {"html": html, "text": plain_of(html) if text is None else text}


def of_template(template_id: UUID, version: int, context: Mapping[str, Any]) -> dict[str, Any]:
    """Content to be rendered when it is sent; `context` is JSON."""
    return {"template": {"id": str(template_id), "version": version}, "context": context}


@dataclass(slots=True)
class Tools:
    """What all mails of one pool share."""

    posts: Posts
    house: House
    attached: OrderedDict[tuple[UUID, tuple[str, ...]], bytes] = field(default_factory=OrderedDict)


async def send(effect: Effect, tools: Tools) -> Result:
    """Build the mail and give it to the server of its integration."""
    post = await tools.posts.of(effect.integration_id)
    if post is None:
        return REMOVED
    assert effect.address is not None, "a mail is addressed"
    asked = effect.request
    if post.host is None:
        return recorded(to=effect.address, subject=asked["subject"])
    content = await _content(effect, tools)
    if isinstance(content, Failure):
        return content
    attachments = await _attachments(effect, tools)
    if isinstance(attachments, Failure):
        return attachments
    envelope, message_id = _envelope(effect, tools.house, content, attachments)
    if post.settings.is_sendgrid:
        told = token_header("X-SMTPAPI", smtpapi(effect.id))
        envelope = replace(envelope, content=told + envelope.content)
    posted = await post.send(envelope)
    match posted:
        case Failure():
            return posted
        case Bounced():
            return await _bounced(posted, effect, tools)
    reply = storable_text(posted.reply)
    return Sent({"message_id": message_id, "reply": reply, "delivery": "sent"})


async def _bounced(bounced: Bounced, effect: Effect, tools: Tools) -> Failure:
    report = MailReport(
        effect.id,
        "bounced",
        "smtp",
        detail={"code": str(bounced.code), "enhanced": bounced.enhanced},
        payload={"is_hard": bounced.is_hard, "code": bounced.enhanced or str(bounced.code)},
        key="hard" if bounced.is_hard else "soft",
        suppresses="hard_bounce" if bounced.is_hard else None,
    )
    # The sweep finds what this has made ready: nothing here has a bell.
    await report_mails(tools.house.pool, effect.account_id, [report])
    said = f"{bounced.code} {bounced.enhanced}" if bounced.enhanced else f"{bounced.code}"
    return Failure(Kind.REFUSED, "bounced", f"the server refused the recipient ({said})")


Content = tuple[str, str, Outline | None, Mapping[str, bytes]]
"""HTML, text, the HTML's outline where it is known, and those lines that are encoded already."""


async def _content(effect: Effect, tools: Tools) -> Content | Failure:
    asked = effect.request
    named = asked.get("template")
    if named is None:
        return asked["html"], asked["text"], None, {}
    key = effect.account_id, UUID(named["id"]), named["version"]
    template = await read_template(tools.house.pool, key)
    if template is None:
        return Failure(
            Kind.INVALID_CONFIG, "template_unknown", "the template was deleted meanwhile"
        )
    try:
        if not _is_touched(asked):
            return *template.render(asked["context"]), None, template.lines
        return *template.render_outlined(asked["context"]), template.lines
    except TemplateError as error:
        return Failure(Kind.INVALID_CONFIG, error.code, str(error))


def _is_touched(asked: Mapping[str, Any]) -> bool:
    """Whether anything is put into the HTML: where its links and its end are is of no use else."""
    is_tracked = any((asked.get(TRACKING) or {}).values())
    return is_tracked or bool(asked[PERMISSION]["purpose"] == "marketing")


async def _attachments(effect: Effect, tools: Tools) -> bytes | Failure:
    ids = tuple(effect.request["attachments"])
    if not ids:
        return b""
    key = (effect.account_id, ids)
    if key not in tools.attached:
        read = await _read(effect.account_id, [UUID(id_) for id_ in ids], tools.house)
        if isinstance(read, Failure):
            return read
        while len(tools.attached) >= MOST_ATTACHED_KEPT:
            tools.attached.popitem(last=False)
        tools.attached[key] = attached(read)
    return tools.attached[key]


async def _read(account_id: UUID, ids: Sequence[UUID], house: House) -> list[Attachment] | Failure:
    rows = await house.pool.fetch(files.files_by_ids, [account_id] * len(ids), list(ids))
    found = {row["id"]: row for row in rows}
    storage = storage_of(house.settings)
    read = []
    for id_ in ids:
        if id_ not in found:
            return Failure(Kind.INVALID_CONFIG, "attachment_unknown", "an attachment was deleted")
        try:
            content = await storage.read_whole(account_id, id_)
        except MissingObjectError:
            return Failure(Kind.INVALID_CONFIG, "attachment_missing", "an attachment is not stored")
        except StorageError:
            return Failure(Kind.SERVICE_UNAVAILABLE, "storage_unavailable", "no file can be read")
        read.append(Attachment(found[id_]["name"], found[id_]["media_type"], content))
    return read


def _envelope(
    effect: Effect, house: House, content: Content, attachments: bytes
) -> tuple[Envelope, str]:
    asked = effect.request
    html, text, outline, lines = content
    sender, recipient = on_the_wire(asked["from_email"]), on_the_wire(effect.address or "")
    reply_to = asked["reply_to"] and on_the_wire(asked["reply_to"])
    is_unicode = not (sender + recipient + (reply_to or "")).isascii()
    domain = sender.rpartition("@")[2]
    message_id = f"<{effect.id}@{domain}>"
    head = [
        address_header("From", asked["from_name"], sender),
        plain_address_header("To", recipient),
        header("Subject", asked["subject"]),
        token_header("Message-ID", message_id),
        token_header(EFFECT_HEADER, str(effect.id)),
        token_header("Date", formatdate()),
    ]
    if reply_to:
        head.append(plain_address_header("Reply-To", reply_to))
    footer = ""
    if asked[PERMISSION]["purpose"] == "marketing":
        url = unsubscribe_url(house, Recipient(effect.account_id, effect.id, effect.address or ""))
        footer, below = footer_of(asked["postal_address"], url)
        text = text.rstrip("\n") + below
        head.append(token_header("List-Unsubscribe", f"<{url}>"))
        head.append(token_header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    tracking = asked.get(TRACKING) or {}
    html = tracked(html, house, effect.id, tracking, footer, outline=outline)
    whole = mail(head, text, html, attachments, lines)
    return Envelope(sender, recipient, whole, is_unicode), message_id


def on_the_wire(address: str) -> str:
    """Give an address with its domain in ASCII (IDNA 2008); the local part may be any."""
    local, at, domain = address.rpartition("@")
    if domain.isascii():
        return address
    return f"{local}{at}{idna.encode(domain, uts46=True).decode()}"


@asynccontextmanager
async def tools(house: House) -> AsyncIterator[Tools]:
    """Open the connections that are kept."""
    async with posts(house) as opened:
        yield Tools(opened, house)


KIND: Final = "email.message"

EFFECT = EffectType(
    kind=KIND,
    family="email",
    send=send,
    on_unknown="repeat",
    open=tools,
    # Each command has a time of its own; this is for the wait for a connection that is free, too.
    timeout_seconds=600.0,
    check=check_messages,
)
