"""The demo's workflow: all 24 types of action in one chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MAIL_FROM: Final = "hello@acme.example"
SMS_FROM: Final = "+14155550100"
SALES_LINE: Final = "+14155550123"

MAIL_HTML: Final = """<!DOCTYPE html>
<html><body style="font-family:sans-serif">
<p>Hi {{contact.first_name}},</p>
<p>you have been with us for a while, and we have something new for
{{contact.custom_fields.company}}.</p>
<p><a href="https://acme.example/offer?for={{contact.email}}&amp;from=mail">See the offer</a></p>
</body></html>
"""
SCRIPT: Final = """
const answer = steps.webhook_call.response.body;
const tier = answer.total > 350 ? "gold" : "silver";
return {tier, greeting: `${contact.first_name} has ${answer.orders} orders`};
"""
TAG: Final = "Welcome {{workflow.execution_date | date_format('YYYY-MM')}}"


@dataclass(frozen=True, slots=True)
class Parts:
    """The ids of what the actions refer to, and where the customer's system is."""

    team_id: str
    campaign_id: str
    pipeline_id: str
    stage_id: str
    template_id: str
    page_id: str
    audio_file_id: str
    course_id: str
    orders_url: str


Config = dict[str, Any] | Callable[[Mapping[str, str]], dict[str, Any]]
"""A config, or what makes it of the ids of the actions before it, by type."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action of the workflow; with `goes_on` its failure ends no run."""

    action_type: str
    config: Config
    goes_on: bool = False


def journey(parts: Parts) -> list[Action]:
    """Give the actions, in their order; texts are sent twice, everything else once."""
    return [*welcome(parts), *first_days(parts), *_reminder(parts), *_end(parts)]


def welcome(parts: Parts) -> list[Action]:
    """Give the actions on the CRM with which a journey begins."""
    increment = {"field": "custom_fields.touches", "value": 1, "mode": "increment"}
    office = "office@{{contact.custom_fields.company | lower | replace(' ', '-')}}.example.com"
    task = {
        "title": "Call {{contact.first_name}} {{contact.last_name}}",
        "due_date_offset": {"days": 2},
        "priority": "high",
    }
    stage = {"pipeline_id": parts.pipeline_id, "stage_id": parts.stage_id}
    campaign = {"campaign_id": parts.campaign_id}
    team = {"assignment_type": "round_robin", "team_id": parts.team_id}
    return [
        Action("update_contact", {"field_updates": [increment]}),
        Action("add_tag", {"tag_name": TAG}),
        Action("add_note", {"content": "Welcomed {{contact.first_name | default('somebody')}}."}),
        Action("create_task", task),
        Action("move_pipeline_stage", stage),
        Action("assign_to_user", team),
        Action(
            "create_contact",
            {"last_name": "{{contact.custom_fields.company}}", "email": office},
        ),
        Action("add_to_campaign", campaign),
    ]


def first_days(parts: Parts) -> list[Action]:
    """Give those that write, wait for a click, ask the customer's system, and open a course."""
    mail = {
        "template_id": parts.template_id,
        "subject": "Offer: something new for you, {{contact.first_name}}",
        "from_name": "Acme",
        "from_email": MAIL_FROM,
    }
    message = {
        "page_id": parts.page_id,
        "message_type": "text",
        "content": {"text": "Hi {{contact.first_name}}, yes it is! Have a look at your mail."},
    }
    order = {
        "url": parts.orders_url,
        "method": "POST",
        "payload": {"email": "{{contact.email}}", "name": "{{contact.first_name}}"},
        "store_response": True,
    }
    return [
        Action("send_messenger", message),
        Action("send_email", mail, goes_on=True),
        Action("wait_for_event", _click),
        Action("webhook_call", order),
        Action("custom_code", {"code": SCRIPT}),
        Action(
            "create_opportunity",
            {
                "pipeline_id": parts.pipeline_id,
                "name": "{{steps.custom_code.output.tier}} upgrade for {{contact.last_name}}",
                "value": "250",
            },
        ),
        Action("grant_course_access", {"course_id": parts.course_id, "duration_days": 90}),
    ]


def _click(made: Mapping[str, str]) -> dict[str, Any]:
    return {
        "event_type": "email_click",
        "related_action_id": made["send_email"],
        "timeout_duration": 2,
        "timeout_unit": "days",
        "timeout_action": "continue",
    }


def _reminder(parts: Parts) -> list[Action]:
    voice = {"from_number": SMS_FROM, "purpose": "transactional"}
    return [
        Action(
            "wait_until_date",
            {
                "date_type": "calculated",
                "offset": {"value": 1, "unit": "days"},
                "time_of_day": "10:00",
                "timezone_mode": "contact",
            },
        ),
        Action(
            "send_sms", _text("Offer: it ends on Friday, {{contact.first_name}}."), goes_on=True
        ),
        Action(
            "send_voicemail",
            {**voice, "audio_file_id": parts.audio_file_id, "retry_on_busy": True},
        ),
        Action(
            "make_call",
            {**voice, "destination_type": "external", "destination_value": SALES_LINE},
        ),
    ]


def _text(message: str) -> dict[str, Any]:
    return {"message": message, "from_number": SMS_FROM}


def _end(parts: Parts) -> list[Action]:
    notice = {
        "recipient_type": "contact_owner",
        "channels": ["in_app", "email"],
        "title": "Owner: {{contact.first_name}} has been through it all",
        "message": "{{steps.custom_code.output.greeting}}",
    }
    return [
        Action("wait_time", {"duration": 3, "unit": "days"}),
        Action("send_sms", _text("Reminder: the offer has ended, but we are here."), goes_on=True),
        Action("send_notification", notice),
        Action(
            "revoke_course_access",
            {
                "course_id": parts.course_id,
                "send_notice": True,
                "revocation_reason": "The trial is over",
            },
        ),
        Action("remove_tag", {"tag_name": TAG}),
        Action(
            "remove_from_campaign",
            {"campaign_id": parts.campaign_id, "reason": "The journey is over"},
        ),
    ]
