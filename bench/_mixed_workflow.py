"""The workflow of `bench mixed`: all 24 types of action, each once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench._demo_workflow import SALES_LINE, SMS_FROM, TAG, Action, Parts, first_days, welcome

_AT_ANY_HOUR: Final = {"purpose": "transactional", "respect_quiet_hours": False}


def journey(parts: Parts) -> list[Action]:
    """Give the actions. Nobody waits for a clock but at the beginning, and then all together."""
    return [
        Action("wait_time", {"duration": 1, "unit": "minutes"}),
        *welcome(parts),
        *(action for action in first_days(parts) if action.action_type != "wait_for_event"),
        *_calls(parts),
        *_end(parts),
    ]


def _calls(parts: Parts) -> list[Action]:
    sender = {"from_number": SMS_FROM, **_AT_ANY_HOUR}
    past = {"date_type": "specific", "date_value": "2026-01-01"}
    return [
        Action("wait_until_date", {**past, "timezone_mode": "contact"}),
        Action("send_sms", {**sender, "message": "Offer: it ends on Friday. Shall we call you?"}),
        Action("wait_for_event", _reply),
        Action("send_voicemail", {**sender, "audio_file_id": parts.audio_file_id}),
        Action(
            "make_call",
            {**sender, "destination_type": "external", "destination_value": SALES_LINE},
        ),
    ]


def _reply(made: Mapping[str, str]) -> dict[str, Any]:
    return {
        "event_type": "sms_reply",
        "related_action_id": made["send_sms"],
        "timeout_duration": 2,
        "timeout_unit": "days",
        "timeout_action": "continue",
    }


def _end(parts: Parts) -> list[Action]:
    notice = {
        "recipient_type": "contact_owner",
        "channels": ["in_app"],
        "title": "{{contact.first_name}} has been through it all",
        "message": "{{steps.custom_code.output.greeting}}",
    }
    return [
        Action("send_notification", notice),
        Action("revoke_course_access", {"course_id": parts.course_id}),
        Action("remove_tag", {"tag_name": TAG}),
        Action("remove_from_campaign", {"campaign_id": parts.campaign_id}),
    ]
