"""send_email: send an e-mail template to the contact.

What is sent is the template's newest version when the action is performed; the mail then keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from pydantic import Field

from actors import email_message
from actors.addresses import EmailAddress, SingleLine
from actors.contact_addresses import normalize_email
from actors.fields import Config
from actors.integration_kinds import normalize_address
from actors.integrations import Sender, SenderKey, find_senders
from actors.mail_templates import MailTemplate, read_templates
from actors.rendered import UnusableError, text_of
from runtime.outcomes import Dispatch, Failed, Outcome, Skipped
from runtime.performing import template_context
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from runtime.templates import TemplateError
from sql import load

queries = load("email")
files = load("files")

MOST_ATTACHMENTS: Final = 20
LARGEST_ATTACHED: Final = 20 << 20
"""Bytes of all attachments; what servers commonly take is 25 MB, and base64 adds a third."""

SMTP: Final = "smtp"
LONGEST_LINE: Final = 900
NO_EMAIL: Final = Skipped("contact_has_no_email")


class SendEmail(Config):
    """The template, the lines around it, and what is tracked; attachments are file ids."""

    template_id: UUID
    subject: SingleLine
    from_name: SingleLine
    from_email: EmailAddress
    reply_to: EmailAddress | None = None
    track_opens: bool = True
    track_clicks: bool = True
    attachments: Annotated[list[UUID], Field(max_length=MOST_ATTACHMENTS)] = Field(
        default_factory=list
    )


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write each contact's mail into the ledger; a fixed number of statements for any number."""
    keys = [_sender_key(item) for item in items]
    senders = await find_senders(stage, [key for key in keys if isinstance(key, tuple)])
    rows = await _find_templates(stage, items)
    wanted = {(row["account_id"], row["id"], row["version"]) for row in rows.values()}
    templates = await read_templates(stage.db, wanted)
    sizes = await _find_sizes(stage, items)
    outcomes: list[Outcome] = []
    for item, key in zip(items, keys, strict=True):
        try:
            if isinstance(key, Failed):
                outcomes.append(key)
                continue
            row = rows.get((item.account_id, _config(item).template_id))
            outcomes.append(_mail(item, senders.get(key), row, templates, sizes))
        except UnusableError as error:
            outcomes.append(error.outcome)
    return outcomes


def _config(item: Item) -> SendEmail:
    assert isinstance(item.config, SendEmail)
    return item.config


def _sender_key(item: Item) -> SenderKey | Failed:
    try:
        return item.account_id, SMTP, normalize_address(SMTP, item.values["from_email"])
    except UnusableError as error:
        return UnusableError("sender_unusable", f"from_email: {error.message}").outcome


async def _find_templates(
    stage: Stage, items: Sequence[Item]
) -> dict[tuple[UUID, UUID], asyncpg.Record]:
    wanted = sorted({(item.account_id, _config(item).template_id) for item in items})
    accounts, ids = map(list, zip(*wanted, strict=True))
    rows = await stage.db.fetch(queries.find_templates, accounts, ids)
    return {(row["account_id"], row["id"]): row for row in rows}


async def _find_sizes(stage: Stage, items: Sequence[Item]) -> dict[tuple[UUID, UUID], int]:
    wanted = sorted({(item.account_id, id_) for item in items for id_ in _config(item).attachments})
    if not wanted:
        return {}
    accounts, ids = map(list, zip(*wanted, strict=True))
    rows = await stage.db.fetch(files.files_by_ids, accounts, ids)
    return {(row["account_id"], row["id"]): row["size"] for row in rows}


def _mail(
    item: Item,
    sender: Sender | None,
    row: asyncpg.Record | None,
    templates: Mapping[tuple[UUID, UUID, int], MailTemplate],
    sizes: Mapping[tuple[UUID, UUID], int],
) -> Outcome:
    to = item.contact["email_normalized"]
    if to is None:
        return NO_EMAIL
    if sender is None:
        raise UnusableError("sender_unknown", "no integration sends from this from_email")
    if row is None:
        raise UnusableError("template_unknown", "there is no such template, or it was deleted")
    if row["purpose"] == "marketing" and not row["postal_address"].strip():
        message = "marketing mail must carry the account's postal address, which is not set"
        raise UnusableError("postal_address_missing", message)
    attachments = _config(item).attachments
    _check_attachments(item.account_id, attachments, sizes)
    subject = text_of(item.values["subject"], "subject", LONGEST_LINE)
    if subject is None:
        raise UnusableError("subject_empty", "subject is empty after rendering")
    template = templates[row["account_id"], row["id"], row["version"]]
    effect = email_message.request(
        sender,
        to,
        subject=subject,
        from_name=text_of(item.values["from_name"], "from_name", LONGEST_LINE) or "",
        reply_to=_reply_to(item),
        purpose=row["purpose"],
        content=_content(template, row, template_context(item)),
        attachments=attachments,
        postal_address=row["postal_address"],
        track_opens=_config(item).track_opens,
        track_clicks=_config(item).track_clicks,
    )
    return Dispatch([effect])


def _reply_to(item: Item) -> str | None:
    text = (item.values.get("reply_to") or "").strip()
    try:
        return normalize_email(text) if text else None
    except UnusableError as error:
        raise UnusableError("reply_to_unusable", f"reply_to: {error.message}") from None


def _check_attachments(
    account_id: UUID, ids: Sequence[UUID], sizes: Mapping[tuple[UUID, UUID], int]
) -> None:
    total = 0
    for id_ in ids:
        if (account_id, id_) not in sizes:
            raise UnusableError("attachment_unknown", "an attachment is unknown or was deleted")
        total += sizes[account_id, id_]
    if total > LARGEST_ATTACHED:
        raise UnusableError(
            "attachments_too_large", f"attachments are over {LARGEST_ATTACHED} bytes"
        )


def _content(
    template: MailTemplate, row: asyncpg.Record, context: Mapping[str, Any]
) -> dict[str, Any]:
    """Keep what the template reads, to be rendered outside this transaction; else the result.

    What JSON does not have, such as instants, would be read back as something else.
    """
    values = projected(template.fields, context)
    if values is not None:
        return email_message.of_template(row["id"], row["version"], values)
    try:
        return email_message.written(*template.render(context))
    except TemplateError as error:
        raise UnusableError(error.code, str(error)) from None


def projected(paths: frozenset[str], context: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give what stands at these paths, as a context of its own; None if not all of it is JSON."""
    kept: dict[str, Any] = {}
    for path in sorted(paths):
        source: Any = context
        target = kept
        *way, last = path.split(".")
        for key in way:
            if type(source) is not dict and source is not context:
                return None
            source = source.get(key)
            if source is None:
                break
            target = target.setdefault(key, {})
            if type(target) is not dict or target is source:
                return None
        if source is None:
            continue
        if type(source) is not dict and source is not context:
            return None
        if last not in source:
            continue
        if not _is_json(source[last]) or isinstance(target.get(last), dict):
            return None
        target[last] = source[last]
    return kept


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or type(value) in (str, bool, int, float)


ACTION = ActionType(
    name="send_email",
    family="email",
    config=SendEmail,
    perform=perform,
    refers={"template_id": "template", "attachments[]": "file"},
    gives={
        "message_id": "the Message-ID of the mail",
        "reply": "what the server said when it took the mail",
        "status": "recorded, in test mode: nothing was sent",
        "to": "the address, in test mode",
        "subject": "its subject, in test mode",
        "is_test": "true in test mode",
        "delivery": "how far it had come then: sent",
    },
)
