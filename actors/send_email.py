"""send_email: send an e-mail template to the contact."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from actors.addresses import EmailAddress, SingleLine
from actors.fields import Config
from runtime.registry import ActionType


class SendEmail(Config):
    """The template, the lines around it, and what is tracked; attachments are file ids."""

    template_id: UUID
    subject: SingleLine
    from_name: SingleLine
    from_email: EmailAddress
    reply_to: EmailAddress | None = None
    track_opens: bool = True
    track_clicks: bool = True
    attachments: list[UUID] = Field(default_factory=list)


ACTION = ActionType(
    name="send_email",
    family="email",
    config=SendEmail,
    refers={"template_id": "template", "attachments[]": "file"},
)
