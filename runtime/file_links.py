"""Links to files for people and providers: signed, and good until an instant.

Nobody needs a token of the API for them, so that a provider can fetch a voicemail's recording and
a reader of a mail an attachment.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from runtime.house import House

PATH: Final = "/f"
PURPOSE: Final = "file"

_MESSAGE: Final = struct.Struct(">16s16sQ")  # account, file, the last second in which it is good


@dataclass(frozen=True, slots=True)
class FileLink:
    """What a link leads to, and until when."""

    account_id: UUID
    file_id: UUID
    until: datetime


def signed_url(house: House, account_id: UUID, file_id: UUID, until: datetime) -> str:
    """Write the link to a file, good until an instant of our clock (in whole seconds).

    A LookupError if the house has no secret keys.
    """
    message = _MESSAGE.pack(account_id.bytes, file_id.bytes, int(until.timestamp()))
    return f"{house.public_url}{PATH}/{house.vault.signer(PURPOSE).sign(message)}"


def read_token(house: House, token: str) -> FileLink | None:
    """Read the token of a link, expired or not; None if we did not write it."""
    message = house.vault.signer(PURPOSE).verify(token)
    if message is None or len(message) != _MESSAGE.size:
        return None
    account_id, file_id, seconds = _MESSAGE.unpack(message)
    until = datetime.fromtimestamp(seconds, UTC)
    return FileLink(UUID(bytes=account_id), UUID(bytes=file_id), until)
