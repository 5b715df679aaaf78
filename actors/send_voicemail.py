"""send_voicemail: call the contact and leave a recorded message on the answering machine."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from actors.addresses import PhoneNumber
from actors.fields import Config
from runtime.registry import ActionType


class SendVoicemail(Config):
    """What is played, who calls, and whether a busy line is tried again."""

    audio_file_id: UUID
    from_number: PhoneNumber
    machine_detection: bool = True
    retry_on_busy: bool = False
    max_retries: Annotated[int, Field(ge=0, le=10)] = 1


ACTION = ActionType(name="send_voicemail", family="voice", config=SendVoicemail)
