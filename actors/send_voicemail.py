"""send_voicemail: call the contact and leave a recorded message on the answering machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field

from actors import voice_voicemail
from actors.addresses import PhoneNumber
from actors.call_outcomes import begun, done, ended, given, settle
from actors.phone_terms import Parties, PhoneTerms, each_with_parties
from actors.rendered import UnusableError
from runtime.outcomes import Dispatch, Outcome, Sleep
from runtime.registry import ActionType
from runtime.stage import Item, Stage
from sql import load

files = load("files")

BUSY_PAUSE: Final = timedelta(minutes=5)


class SendVoicemail(PhoneTerms):
    """What is played, who calls, and whether a busy line is tried again."""

    audio_file_id: UUID
    from_number: PhoneNumber
    machine_detection: bool = True
    retry_on_busy: bool = False
    max_retries: Annotated[int, Field(ge=0, le=10)] = 1


async def perform(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """Write each contact's call into the ledger; when it may go is decided just before it goes."""
    rows = await stage.db.fetch(
        files.files_by_ids,
        [item.account_id for item in items],
        [_config(item).audio_file_id for item in items],
    )
    audio = {(row["account_id"], row["id"]): row["media_type"] for row in rows}

    def call(item: Item, parties: Parties) -> Outcome:
        config = _config(item)
        media_type = audio.get((item.account_id, config.audio_file_id))
        if media_type is None:
            raise UnusableError("file_not_found", "audio_file_id: there is no such file any more")
        if not media_type.startswith("audio/"):
            raise UnusableError("file_not_audio", "audio_file_id: the file is no audio")
        effect = voice_voicemail.request(
            parties.sender,
            parties.to,
            config.audio_file_id,
            purpose=config.purpose,
            machine_detection=config.machine_detection,
            quiet_hours=config.quiet_hours,
            on_unknown="repeat" if config.on_unknown_outcome == "repeat" else None,
        )
        return Dispatch([effect], begun(stage, item.data.get("tries", 0)))

    return await each_with_parties(stage, items, call)


async def resume(stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    """End the steps whose call has ended; a busy line is tried again after a pause."""
    outcomes: dict[UUID, Outcome] = {}
    rested = [item for item in items if "effect_id" not in item.data]
    for item in items:
        if item not in rested:
            known = ended(item)
            outcomes[item.step_id] = (
                _after(stage, item, known) if isinstance(known, Mapping) else known
            )
    if rested:
        again = await perform(stage, rested)
        outcomes |= {item.step_id: o for item, o in zip(rested, again, strict=True)}
    return [outcomes[item.step_id] for item in items]


def _after(stage: Stage, item: Item, payload: Mapping[str, Any]) -> Outcome:
    config, tries = _config(item), item.data["tries"]
    if payload["outcome"] == "busy" and config.retry_on_busy and tries < config.max_retries:
        return Sleep(stage.now + BUSY_PAUSE, {"tries": tries + 1})
    return done(item, payload)


def _config(item: Item) -> SendVoicemail:
    config = item.config
    assert isinstance(config, SendVoicemail)
    return config


ACTION = ActionType(
    name="send_voicemail",
    family="voice",
    config=SendVoicemail,
    perform=perform,
    resume=resume,
    settle=settle,
    gives=given("machine, human, busy, no_answer or answered"),
    refers={"audio_file_id": "file"},
)
