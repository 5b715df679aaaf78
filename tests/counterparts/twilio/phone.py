"""A call at the fake Twilio: it rings, somebody answers, the TwiML is followed, it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

from tests.counterparts.twilio.script import Answer
from tests.counterparts.twilio.webhooks import Webhooks, text_params

MOST_DOCUMENTS = 10


@dataclass
class Call:
    """A call that was asked for, and what happened in it."""

    sid: str
    form: Mapping[str, Any]
    answer: Answer
    status: str = "queued"
    played: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Status, content type and content of every file that was played."""
    said: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    dialled: list[tuple[str, str]] = field(default_factory=list)
    """Noun and value of everything that the call was connected to."""
    dial_attributes: dict[str, str] = field(default_factory=dict)

    @property
    def to(self) -> str:
        """Who is called."""
        return str(self.form["To"])


class Phone:
    """Lets calls ring, and does what their TwiML says."""

    def __init__(self, account_sid: str, webhooks: Webhooks) -> None:
        self._account_sid = account_sid
        self._webhooks = webhooks

    async def ring(self, call: Call) -> None:
        """See a call through, from the first ring to its end."""
        await self._progress(call, "ringing")
        if call.answer.status == "completed":
            call.status = "in-progress"
            await self._progress(call, "answered")
            await self._talk(call)
        call.status = call.answer.status
        await self._tell_end(call)

    async def _progress(self, call: Call, event: str) -> None:
        wanted = call.form.get("StatusCallbackEvent") or ["completed"]
        if event in wanted and (url := call.form.get("StatusCallback")):
            status = {"answered": "in-progress"}.get(event, event)
            await self._webhooks.post(url, self._params(call, CallStatus=status))

    async def _talk(self, call: Call) -> None:
        if "Twiml" in call.form and "Url" not in call.form:
            await self._follow(call, ET.fromstring(call.form["Twiml"]))
        else:
            await self._ask(call, call.form["Url"], {})

    async def _ask(self, call: Call, url: str, more: Mapping[str, Any]) -> None:
        if len(call.verbs) > MOST_DOCUMENTS:
            raise AssertionError("the TwiML goes round in circles")
        told = await self._webhooks.post(url, self._params(call, CallStatus="in-progress", **more))
        if told.status == 200:
            await self._follow(call, ET.fromstring(told.answer))
        else:
            call.verbs.append(f"http {told.status}")

    async def _follow(self, call: Call, response: ET.Element) -> None:
        assert response.tag == "Response", response.tag
        for verb in response:
            call.verbs.append(verb.tag)
            match verb.tag:
                case "Play":
                    call.played.append(await self._webhooks.get(verb.text or ""))
                case "Say":
                    call.said.append(verb.text or "")
                case "Enqueue":
                    call.dialled.append(("Queue", verb.text or ""))
                case "Redirect":
                    call.dialled.append(("Redirect", verb.text or ""))
                case "Dial":
                    await self._dial(call, verb)
                    return
                case "Hangup":
                    return

    async def _dial(self, call: Call, verb: ET.Element) -> None:
        call.dialled += [(noun.tag, noun.text or "") for noun in verb]
        call.dial_attributes = dict(verb.attrib)
        if action := verb.get("action"):
            answer = call.answer
            seconds = answer.duration if answer.dial_status == "completed" else 0
            outcome = {"DialCallStatus": answer.dial_status, "DialCallDuration": seconds}
            await self._ask(call, action, outcome)

    async def _tell_end(self, call: Call) -> None:
        duration = call.answer.duration if call.status == "completed" else 0
        if url := call.form.get("StatusCallback"):
            ended = self._params(call, CallStatus=call.status, CallDuration=duration)
            await self._webhooks.post(url, ended)
        # A recording is ready some moments after the call has ended.
        if call.form.get("Record") and duration and (url := call.form["RecordingStatusCallback"]):
            recording = {
                "RecordingSid": f"RE{call.sid[2:]}",
                "RecordingUrl": f"https://api.twilio.com/recordings/RE{call.sid[2:]}",
                "RecordingStatus": "completed",
                "RecordingDuration": duration,
            }
            await self._webhooks.post(url, self._params(call, **recording))

    def _params(self, call: Call, **more: Any) -> dict[str, str]:
        # Twilio names who has answered where it asks what to do, and nowhere else for sure.
        detected = more.get("CallStatus") == "in-progress" and call.form.get("MachineDetection")
        return text_params(
            {
                "AccountSid": self._account_sid,
                "ApiVersion": "2010-04-01",
                "CallSid": call.sid,
                "From": call.form["From"],
                "To": call.to,
                "Direction": "outbound-api",
                "AnsweredBy": call.answer.answered_by if detected else None,
                **more,
            }
        )
