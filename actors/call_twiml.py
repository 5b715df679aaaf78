"""What Twilio is told to do when a call is answered: TwiML by the official library.

A voicemail is played behind the greeting; a person, or whoever may be one, hears a sentence and the
line is ended. A fax is hung up on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
from twilio.twiml.voice_response import Dial, VoiceResponse

from actors.voice_voicemail import KIND as VOICEMAIL
from runtime.database import Connection
from runtime.file_links import signed_url
from runtime.house import House
from sql import load

queries = load("calls")

GREETING_SECONDS: Final = 10
"""How long a greeting may go on that has begun, where its end was not detected."""
AUDIO_GOOD_FOR: Final = timedelta(minutes=15)
MOST_SECONDS: Final = 4 * 3600

TO_A_PERSON: Final = "Hello, this is {name}. We only wanted to leave you a message. Goodbye."
"""An artificial voice says at once on whose behalf it calls: 47 CFR 64.1200(b)(1)."""

# Every answer of machine detection; unknown is treated as a person.
_MACHINES: Final = frozenset({"machine_end_beep", "machine_end_silence", "machine_end_other"})


async def find_call(
    db: Connection | asyncpg.Pool, account_id: UUID, effect_id: UUID, integration_id: UUID
) -> asyncpg.Record | None:
    """Find the effect that a call was placed for."""
    row: asyncpg.Record | None = await db.fetchrow(
        queries.call, account_id, effect_id, integration_id
    )
    return row


def twiml_for(
    house: House, call: asyncpg.Record, answered_by: str | None, now: datetime, after_url: str
) -> VoiceResponse:
    """Say what is to be done with a call that was answered, and by whom.

    `after_url`: where Twilio asks how to go on once the other end was dialled.
    """
    if call["kind"] == VOICEMAIL:
        until = now + AUDIO_GOOD_FOR
        file_id = UUID(call["request"]["audio_file_id"])
        audio_url = signed_url(house, call["account_id"], file_id, until)
        return _voicemail(audio_url, answered_by, call["account_name"])
    return _connected(call["request"], after_url)


def _voicemail(audio_url: str, answered_by: str | None, name: str) -> VoiceResponse:
    response = VoiceResponse()
    if answered_by == "fax":
        pass
    elif answered_by is None or answered_by in _MACHINES:
        response.play(audio_url)
    elif answered_by == "machine_start":
        response.pause(length=GREETING_SECONDS)
        response.play(audio_url)
    else:
        response.say(TO_A_PERSON.format(name=name))
    response.hangup()
    return response


def _connected(request: Mapping[str, Any], after_url: str) -> VoiceResponse:
    response = VoiceResponse()
    noun, value = request["destination"]["noun"], request["destination"]["value"]
    if noun == "queue":
        response.enqueue(value)
        return response
    if noun == "url":
        response.redirect(value, method="POST")
        return response
    dial = Dial(
        action=after_url,
        caller_id=request["from"],
        timeout=request["ring_seconds"],
        time_limit=MOST_SECONDS,
    )
    if noun == "application":
        dial.application(value)
    else:
        dial.number(value)
    response.append(dial)
    return response


def twiml_after_dialling() -> VoiceResponse:
    """End a call whose other end has hung up, or never answered."""
    response = VoiceResponse()
    response.hangup()
    return response
