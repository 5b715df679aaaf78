"""What the configs of the actions accept, refuse, and call incomplete (requirements R2 to R6)."""

import json
from datetime import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from actors import registry
from actors.fields import INCOMPLETE, Config
from runtime.configuration import Fault, faults_of_config

ID = "550e8400-e29b-41d4-a716-446655440000"
NUMBER = "+14155550100"

FIELDS = {
    "send_email": {
        "template_id", "subject", "from_name", "from_email", "reply_to", "track_opens",
        "track_clicks", "attachments",
    },
    "send_sms": {
        "message", "from_number", "media_urls", "respect_quiet_hours", "quiet_hours_start",
        "quiet_hours_end",
    },
    "send_voicemail": {
        "audio_file_id", "from_number", "machine_detection", "retry_on_busy", "max_retries",
    },
    "send_messenger": {"page_id", "message_type", "content", "messaging_type"},
    "make_call": {
        "from_number", "destination_type", "destination_value", "record_call", "timeout_seconds",
    },
    "create_contact": {
        "first_name", "last_name", "email", "phone", "custom_fields", "duplicate_handling",
    },
    "update_contact": {"field_updates", "update_mode"},
    "add_tag": {"tag_name", "tag_color"},
    "remove_tag": {"tag_name"},
    "add_to_campaign": {"campaign_id", "start_position", "step_id", "skip_if_enrolled"},
    "remove_from_campaign": {"campaign_id", "reason"},
    "move_pipeline_stage": {"pipeline_id", "stage_id", "opportunity_selector", "opportunity_id"},
    "assign_to_user": {"user_id", "assignment_type", "team_id", "notify_assignee"},
    "create_task": {"title", "description", "due_date_offset", "assignee_id", "priority"},
    "add_note": {"content", "note_type"},
    "wait_time": {"duration", "unit"},
    "wait_until_date": {"date_type", "date_value", "field_name", "time_of_day", "timezone_mode"},
    "wait_for_event": {
        "event_type", "related_action_id", "timeout_duration", "timeout_unit", "timeout_action",
    },
    "send_notification": {"recipient_type", "recipient_ids", "channels", "title", "message"},
    "create_opportunity": {"pipeline_id", "stage_id", "name", "value", "currency"},
    "webhook_call": {
        "url", "method", "headers", "payload", "auth_type", "auth_config", "timeout_seconds",
        "retry_on_failure", "max_retries", "store_response",
    },
    "custom_code": {"code", "timeout_ms", "memory_limit_mb", "allowed_modules"},
    "grant_course_access": {
        "course_id", "access_level", "duration_days", "drip_content", "send_welcome",
    },
    "revoke_course_access": {"course_id", "retain_progress", "revocation_reason"},
}  # fmt: skip

# What a message is for, what follows an unknown outcome, and the quiet hours of calls.
TERMS = {"purpose", "on_unknown_outcome"}
QUIET_HOURS = {"respect_quiet_hours", "quiet_hours_start", "quiet_hours_end"}
BEYOND = {
    "send_sms": TERMS,
    "send_voicemail": TERMS | QUIET_HOURS,
    "make_call": TERMS | QUIET_HOURS,
    "send_messenger": {"purpose", "on_unknown_outcome"},
    "revoke_course_access": {"send_notice"},
}

LEAST: dict[str, dict[str, Any]] = {
    "send_email": {
        "template_id": ID,
        "subject": "Welcome {{contact.first_name}}!",
        "from_name": "Support Team",
        "from_email": "support@example.com",
    },
    "send_sms": {"message": "Hello {{contact.first_name}}", "from_number": NUMBER},
    "send_voicemail": {"audio_file_id": ID, "from_number": NUMBER},
    "send_messenger": {"page_id": ID, "message_type": "text", "content": {"text": "Hello"}},
    "make_call": {"from_number": NUMBER, "destination_type": "user", "destination_value": ID},
    "send_notification": {
        "recipient_type": "contact_owner",
        "channels": ["in_app"],
        "title": "Look",
        "message": "{{contact.first_name}} has answered",
    },
    "create_opportunity": {"pipeline_id": ID, "name": "Deal with {{contact.last_name}}"},
    "webhook_call": {"url": "https://example.com/hook", "method": "POST"},
    "custom_code": {"code": "return {n: contact.custom_fields.n + 1}"},
    "grant_course_access": {"course_id": ID},
    "revoke_course_access": {"course_id": ID},
}
"""For each of the eleven types the required fields of the specification, and nothing else."""

BASIC = {"auth_type": "basic", "auth_config": {"username": "u", "password": ""}}


def read(action_type: str, **changes: Any) -> Config:
    """Read a config as the API gets it; a change to ... leaves the field out."""
    fields = {k: v for k, v in (LEAST[action_type] | changes).items() if v is not ...}
    config = registry.actions[action_type].config.model_validate_json(json.dumps(fields))
    assert isinstance(config, Config)
    return config


def faults(action_type: str, **changes: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        read(action_type, **changes)
    return [fault["type"] for fault in caught.value.errors()]


@pytest.mark.parametrize("action_type", FIELDS)
def test_every_type_of_the_specification_has_a_config_with_its_fields(action_type: str) -> None:
    assert action_type in registry.actions, f"no module of actors/ declares {action_type}"
    assert FIELDS[action_type] <= registry.actions[action_type].config.model_fields.keys()


def test_there_is_no_type_that_the_specification_does_not_know() -> None:
    assert registry.actions.keys() <= FIELDS.keys()


@pytest.mark.parametrize("action_type", LEAST)
def test_these_types_have_the_fields_of_the_specification_and_those_that_the_design_adds(
    action_type: str,
) -> None:
    fields = FIELDS[action_type] | BEYOND.get(action_type, set())
    assert registry.actions[action_type].config.model_fields.keys() == fields


@pytest.mark.parametrize("action_type", LEAST)
def test_the_required_fields_are_enough(action_type: str) -> None:
    read(action_type)


@pytest.mark.parametrize(("action_type", "field"), [(t, f) for t in LEAST for f in LEAST[t]])
def test_a_required_field_that_is_missing_leaves_a_draft_incomplete(
    action_type: str, field: str
) -> None:
    found = faults(action_type, **{field: ...})
    assert found
    assert set(found) <= set(INCOMPLETE)


@pytest.mark.parametrize("action_type", LEAST)
def test_an_unknown_field_is_refused(action_type: str) -> None:
    assert faults(action_type, colour="red") == ["extra_forbidden"]


DEFAULTS = [
    (
        "send_email",
        {"track_opens": True, "track_clicks": True, "reply_to": None, "attachments": []},
    ),
    ("send_sms", {"respect_quiet_hours": True, "media_urls": []}),
    ("send_sms", {"quiet_hours_start": time(21), "quiet_hours_end": time(9)}),
    ("send_voicemail", {"machine_detection": True, "retry_on_busy": False, "max_retries": 1}),
    ("make_call", {"record_call": False, "timeout_seconds": 30}),
    ("send_notification", {"recipient_ids": []}),
    ("create_opportunity", {"stage_id": None, "value": None, "currency": None}),
    ("webhook_call", {"auth_type": "none", "auth_config": None, "timeout_seconds": 30}),
    ("webhook_call", {"retry_on_failure": True, "max_retries": 3, "store_response": False}),
    ("custom_code", {"timeout_ms": 5000, "memory_limit_mb": 128, "allowed_modules": []}),
    ("grant_course_access", {"duration_days": None, "drip_content": True, "send_welcome": True}),
    ("revoke_course_access", {"retain_progress": True, "revocation_reason": None}),
]


@pytest.mark.parametrize(("action_type", "defaults"), DEFAULTS)
def test_what_is_left_out_takes_the_default_of_the_specification(
    action_type: str, defaults: dict[str, Any]
) -> None:
    config = read(action_type)
    assert {field: getattr(config, field) for field in defaults} == defaults


ACCEPTED = [
    ("send_email", {"from_email": "jörg@bücher.example"}),
    ("send_email", {"from_email": "{{contact.owner.email}}", "reply_to": "{{account.name}}@x"}),
    ("send_email", {"attachments": [ID]}),
    ("send_sms", {"message": "x" * 1600}),
    ("send_sms", {"media_urls": ["https://example.com/{{contact.id}}.png"]}),
    ("send_sms", {"from_number": "{{contact.custom_fields.number}}"}),
    ("send_sms", {"quiet_hours_start": "20:30", "quiet_hours_end": "08:00:00"}),
    ("send_sms", {"respect_quiet_hours": False, "quiet_hours_start": "09:00"}),
    ("send_voicemail", {"max_retries": 0}),
    ("send_messenger", {"messaging_type": "RESPONSE"}),
    ("send_messenger", {"message_type": "image", "content": {"url": "https://example.com/a.png"}}),
    (
        "send_messenger",
        {
            "message_type": "template",
            "content": {"template_type": "button", "text": "{{contact.first_name}}", "buttons": []},
        },
    ),
    (
        "send_messenger",
        {
            "message_type": "quick_reply",
            "content": {
                "text": "Well?",
                "quick_replies": [
                    {"title": "Yes", "payload": "YES"},
                    {"content_type": "user_email"},
                ],
            },
        },
    ),
    (
        "send_messenger",
        {"messaging_type": "MESSAGE_TAG", "content": {"text": "x", "tag": "ACCOUNT_UPDATE"}},
    ),
    ("make_call", {"destination_type": "external", "destination_value": NUMBER}),
    ("make_call", {"destination_type": "external", "destination_value": "{{contact.phone}}"}),
    ("make_call", {"destination_type": "queue", "destination_value": "sales"}),
    ("make_call", {"destination_type": "user", "destination_value": "{{contact.owner_id}}"}),
    ("send_notification", {"recipient_type": "specific_user", "recipient_ids": [ID]}),
    ("send_notification", {"recipient_type": "team", "recipient_ids": [ID]}),
    ("send_notification", {"recipient_type": "role", "recipient_ids": ["admin", "editor"]}),
    ("send_notification", {"channels": ["in_app", "email", "sms"]}),
    ("create_opportunity", {"stage_id": ID, "value": 0, "currency": "EUR"}),
    ("create_opportunity", {"value": "9999999999999999.9999"}),
    ("webhook_call", {"url": "{{contact.custom_fields.hook}}"}),
    ("webhook_call", {"url": "http://{{contact.custom_fields.host}}/a b"}),
    ("webhook_call", {"url": "HTTP://[::1]:8080/?q={{contact.last_name}}"}),
    ("webhook_call", {"headers": {"X-Contact": "{{contact.id}}"}}),
    ("webhook_call", {"payload": {"name": "{{contact.first_name}}", "deep": [{"n": 1.5}, None]}}),
    ("webhook_call", BASIC),
    ("webhook_call", {"auth_type": "bearer", "auth_config": {"token": "t"}}),
    ("webhook_call", {"auth_type": "api_key", "auth_config": {"key": "k"}}),
    ("webhook_call", {"auth_type": "api_key", "auth_config": {"key": "k", "header": "X-Key"}}),
    ("webhook_call", {"auth_type": "none", "auth_config": {}}),
    ("webhook_call", {"max_retries": 0, "timeout_seconds": 120, "store_response": True}),
    ("custom_code", {"code": "const f = (a) => ({{a}})", "timeout_ms": 1, "memory_limit_mb": 8}),
    ("custom_code", {"allowed_modules": ["lodash", "dayjs", "validator", "currency.js"]}),
    ("grant_course_access", {"access_level": "preview", "duration_days": 1}),
    ("grant_course_access", {"duration_days": None}),
    ("revoke_course_access", {"retain_progress": False, "revocation_reason": "{{contact.id}}"}),
]


@pytest.mark.parametrize(("action_type", "changes"), ACCEPTED)
def test_a_right_value_is_accepted(action_type: str, changes: dict[str, Any]) -> None:
    read(action_type, **changes)


WRONG = [
    ("send_email", {"template_id": "welcome"}),
    ("send_email", {"subject": ""}),
    ("send_email", {"subject": "Hello {{contact.first_name"}),
    ("send_email", {"subject": "Hello\r\nBcc: everybody@example.com"}),
    ("send_email", {"from_name": "Support\nTeam"}),
    ("send_email", {"from_email": "support"}),
    ("send_email", {"from_email": "a@b@example.com"}),
    ("send_email", {"reply_to": "nobody@"}),
    ("send_email", {"track_opens": "yes"}),
    ("send_email", {"track_clicks": None}),
    ("send_email", {"attachments": ["invoice.pdf"]}),
    ("send_sms", {"message": "x" * 1601}),
    ("send_sms", {"message": "NUL \x00"}),
    ("send_sms", {"from_number": "415 555 0100"}),
    ("send_sms", {"from_number": "+04155550100"}),
    ("send_sms", {"media_urls": ["ftp://example.com/a.png"]}),
    ("send_sms", {"media_urls": ["https://example.com/a.png"] * 11}),
    ("send_sms", {"quiet_hours_start": "25:00"}),
    ("send_sms", {"quiet_hours_start": 3600}),
    ("send_sms", {"quiet_hours_start": "21:00:00Z"}),
    ("send_sms", {"quiet_hours_start": "09:00"}),
    ("send_voicemail", {"audio_file_id": "hello.mp3"}),
    ("send_voicemail", {"max_retries": -1}),
    ("send_voicemail", {"max_retries": 11}),
    ("send_voicemail", {"max_retries": 1.5}),
    ("send_voicemail", {"max_retries": "2"}),
    ("send_messenger", {"message_type": "video"}),
    ("send_messenger", {"messaging_type": "PROMOTION"}),
    ("send_messenger", {"content": "Hello"}),
    ("send_messenger", {"content": {"text": "x" * 2001}}),
    ("send_messenger", {"content": {"text": "x", "url": "https://example.com"}}),
    ("send_messenger", {"content": {"text": "{{contact"}}),
    ("send_messenger", {"content": {"text": "x", "tag": "ADVERTISEMENT"}}),
    ("send_messenger", {"message_type": "image", "content": {"url": "file:///etc/passwd"}}),
    ("send_messenger", {"message_type": "template", "content": {"template_type": "poster"}}),
    (
        "send_messenger",
        {"message_type": "quick_reply", "content": {"text": "Well?", "quick_replies": []}},
    ),
    ("make_call", {"destination_type": "robot"}),
    ("make_call", {"destination_type": "external", "destination_value": "0800 FLOWERS"}),
    ("make_call", {"destination_type": "user", "destination_value": "Grace"}),
    ("make_call", {"destination_value": ""}),
    ("make_call", {"destination_value": " "}),
    ("make_call", {"timeout_seconds": 0}),
    ("make_call", {"timeout_seconds": 601}),
    ("send_notification", {"recipient_type": "everybody"}),
    ("send_notification", {"recipient_ids": [ID]}),
    ("send_notification", {"recipient_type": "team", "recipient_ids": ["admin"]}),
    ("send_notification", {"recipient_type": "role", "recipient_ids": [ID]}),
    ("send_notification", {"recipient_type": "role", "recipient_ids": ["owner"]}),
    ("send_notification", {"channels": []}),
    ("send_notification", {"channels": ["sms", "sms"]}),
    ("send_notification", {"channels": ["pigeon"]}),
    ("create_opportunity", {"value": -1}),
    ("create_opportunity", {"value": 1.23456}),
    ("create_opportunity", {"value": 10**16}),
    ("create_opportunity", {"value": "NaN"}),
    ("create_opportunity", {"value": True}),
    ("create_opportunity", {"currency": "eur"}),
    ("create_opportunity", {"currency": "EURO"}),
    ("create_opportunity", {"currency": "EUR\n"}),
    ("webhook_call", {"url": "ftp://example.com"}),
    ("webhook_call", {"url": "example.com/hook"}),
    ("webhook_call", {"url": "javascript:{{contact.id}}"}),
    ("webhook_call", {"url": "https://"}),
    ("webhook_call", {"url": "https://example.com:port/"}),
    ("webhook_call", {"url": "https://[::1/"}),
    ("webhook_call", {"url": "https://example.com/\r\nX-Evil: 1"}),
    ("webhook_call", {"url": "https://user:secret@example.com/"}),
    ("webhook_call", {"url": "https://user:secret@{{contact.custom_fields.host}}/"}),
    ("webhook_call", {"method": "TRACE"}),
    ("webhook_call", {"method": "post"}),
    ("webhook_call", {"headers": {"X-A": "1\r\nX-B: 2"}}),
    ("webhook_call", {"headers": {"X-A\n": "1"}}),
    ("webhook_call", {"headers": {"X A": "1"}}),
    ("webhook_call", {"headers": {"X-A": "1", "x-a": "2"}}),
    ("webhook_call", {"headers": {"Content-Length": "0"}}),
    ("webhook_call", {"headers": {"X-A": 1}}),
    ("webhook_call", {"payload": [1]}),
    ("webhook_call", {"payload": {"name": "{{contact"}}),
    ("webhook_call", {"payload": {"NUL \x00": 1}}),
    ("webhook_call", {"auth_type": "digest"}),
    ("webhook_call", {"auth_config": {"token": "t"}}),
    ("webhook_call", {"auth_type": "bearer", "auth_config": {"token": "t\r\nX-Evil: 1"}}),
    ("webhook_call", {"auth_type": "bearer", "auth_config": {"token": "t", "colour": "red"}}),
    ("webhook_call", {"auth_type": "basic", "auth_config": {"username": "a:b", "password": ""}}),
    ("webhook_call", {"timeout_seconds": 0}),
    ("webhook_call", {"timeout_seconds": 121}),
    ("webhook_call", {"max_retries": -1}),
    ("webhook_call", {"max_retries": 11}),
    ("custom_code", {"code": ""}),
    ("custom_code", {"code": "x" * 100_001}),
    ("custom_code", {"timeout_ms": 0}),
    ("custom_code", {"timeout_ms": 5001}),
    ("custom_code", {"memory_limit_mb": 7}),
    ("custom_code", {"memory_limit_mb": 129}),
    ("custom_code", {"allowed_modules": ["../fs"]}),
    ("custom_code", {"allowed_modules": ["lodash", "lodash"]}),
    ("custom_code", {"allowed_modules": ["fs"]}),
    ("grant_course_access", {"access_level": "admin"}),
    ("grant_course_access", {"duration_days": 0}),
    ("grant_course_access", {"duration_days": 36_501}),
    ("grant_course_access", {"drip_content": 1}),
    ("revoke_course_access", {"retain_progress": "no"}),
    ("revoke_course_access", {"revocation_reason": "{% for %}"}),
]


@pytest.mark.parametrize(("action_type", "changes"), WRONG)
def test_a_wrong_value_is_an_error_even_in_a_draft(
    action_type: str, changes: dict[str, Any]
) -> None:
    assert not set(faults(action_type, **changes)) & set(INCOMPLETE)


UNFINISHED = [
    ("send_messenger", {"content": {}}),
    ("send_messenger", {"messaging_type": "MESSAGE_TAG"}),
    ("send_messenger", {"message_type": "quick_reply"}),
    (
        "send_messenger",
        {
            "message_type": "quick_reply",
            "content": {"text": "x", "quick_replies": [{"title": "A"}]},
        },
    ),
    ("send_notification", {"recipient_type": "specific_user"}),
    ("send_notification", {"recipient_type": "team", "recipient_ids": []}),
    ("send_notification", {"recipient_type": "role"}),
    ("webhook_call", {"auth_type": "bearer"}),
    ("webhook_call", {"auth_type": "basic", "auth_config": {"username": "u"}}),
    ("webhook_call", {"auth_type": "api_key", "auth_config": {}}),
]


@pytest.mark.parametrize(("action_type", "changes"), UNFINISHED)
def test_what_another_field_makes_required_leaves_a_draft_incomplete(
    action_type: str, changes: dict[str, Any]
) -> None:
    assert faults(action_type, **changes) == ["incomplete"]


def test_an_error_inside_an_object_says_where_it_is() -> None:
    with pytest.raises(ValidationError, match=r"content\.quick_replies\[1\]\.title: .*20 char"):
        read(
            "send_messenger",
            message_type="quick_reply",
            content={
                "text": "Well?",
                "quick_replies": [
                    {"title": "Yes", "payload": "YES"},
                    {"title": "x" * 21, "payload": "NO"},
                ],
            },
        )


def test_an_error_in_credentials_does_not_repeat_them() -> None:
    with pytest.raises(ValidationError) as caught:
        read("webhook_call", auth_type="bearer", auth_config={"token": "s3cret\n"})
    assert "s3cret" not in caught.value.errors()[0]["msg"]


def test_amounts_keep_every_digit() -> None:
    config = read("create_opportunity", value="9999999999999999.9999")
    assert config.model_dump()["value"] == Decimal("9999999999999999.9999")


def test_ids_and_roles_are_told_apart() -> None:
    config = read("send_notification", recipient_type="specific_user", recipient_ids=[ID])
    assert config.model_dump()["recipient_ids"] == [UUID(ID)]


@pytest.mark.parametrize("text", [r"{{ 'n\x00l' }}", r"{{ '\ud800' }}", "n\x00l"])
@pytest.mark.parametrize(
    ("action_type", "config"),
    [
        ("create_contact", {"first_name": ...}),
        ("create_contact", {"first_name": "x", "custom_fields": {"plan": [...]}}),
        ("update_contact", {"field_updates": [{"field": "first_name", "value": ...}]}),
        ("add_tag", {"tag_name": ...}),
        ("remove_tag", {"tag_name": ...}),
        ("create_task", {"title": "x", "description": ...}),
        ("add_note", {"content": ...}),
    ],
)
def test_text_that_cannot_be_stored_is_refused_and_so_are_merge_fields_that_write_it(
    action_type: str, config: dict[str, Any], text: str
) -> None:
    written = json.dumps(config, default=lambda _: text)
    with pytest.raises(ValidationError) as caught:
        registry.actions[action_type].config.model_validate_json(written)
    (fault,) = caught.value.errors()
    assert fault["type"] in {"template_error", "nul_character"}


@pytest.mark.parametrize(
    ("action_type", "config", "code"),
    [
        ("create_task", {"title": " "}, "blank"),
        ("create_task", {"title": "x" * 501}, "text_too_long"),
        ("create_task", {"title": "x", "description": "x" * 20_001}, "text_too_long"),
        ("create_task", {"title": "x", "assignee_id": "Ulla"}, "uuid"),
        ("create_task", {"title": "x", "assignee_id": "{{"}, "template_error"),
        ("add_note", {"content": "\n"}, "blank"),
        ("add_note", {"content": "x" * 50_001}, "text_too_long"),
        ("remove_from_campaign", {"campaign_id": ID, "reason": "x" * 501}, "text_too_long"),
    ],
)
def test_what_could_never_be_performed_is_refused_when_it_is_saved(
    action_type: str, config: dict[str, Any], code: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        registry.actions[action_type].config.model_validate_json(json.dumps(config))
    assert [fault["type"] for fault in caught.value.errors()] == [code]


@pytest.mark.parametrize(
    ("action_type", "config", "expected"),
    [
        (
            "wait_time",
            {"duration": 3651, "unit": "days"},
            ("duration", "wait_too_long", "A wait lasts at most 3650 days."),
        ),
        (
            "wait_for_event",
            {"event_type": "sms_reply", "timeout_duration": 3651, "timeout_unit": "days"},
            ("timeout_duration", "wait_too_long", "A wait lasts at most 3650 days."),
        ),
        (
            "update_contact",
            {
                "field_updates": [
                    {"field": "last_name", "value": "x"},
                    {"field": "first_name", "value": "1", "mode": "increment"},
                ]
            },
            (
                "field_updates[1].mode",
                "mode",
                "The field first_name is no number and cannot be incremented.",
            ),
        ),
        (
            "update_contact",
            {"field_updates": [{"field": "time_zone", "value": "Mars/X"}]},
            (
                "field_updates[0].value",
                "time_zone_unknown",
                "The field time_zone is no IANA time zone, such as Europe/Paris.",
            ),
        ),
        (
            "update_contact",
            {"field_updates": [{"field": "frist_name", "value": "x"}]},
            (
                "field_updates[0].field",
                "unknown_field",
                "There is no such field. Did you mean 'first_name'?",
            ),
        ),
        (
            "create_contact",
            {"phone": "12"},
            (
                "phone",
                "phone_unusable",
                "Phone is no phone number, neither international nor of any country.",
            ),
        ),
        (
            "create_task",
            {"title": "x", "due_date_offset": {}},
            ("due_date_offset.days", "incomplete", "Days or hours are required."),
        ),
        (
            "create_task",
            {"title": "x", "assignee_id": "{{ contact"},
            (
                "assignee_id",
                "template_error",
                "Line 1, column 4: unexpected end of template, expected 'end of print statement'.",
            ),
        ),
        (
            "add_note",
            {"content": "{{ contact.first_name | uper }}"},
            (
                "content",
                "template_error",
                "Line 1, column 25: there is no filter 'uper'; did you mean 'upper'?",
            ),
        ),
        (
            "send_messenger",
            {**LEAST["send_messenger"], "content": {"text": "x" * 2001}},
            ("content.text", "string_too_long", "String should have at most 2000 characters."),
        ),
        (
            "make_call",
            {**LEAST["make_call"], "destination_value": "Grace"},
            ("destination_value", "destination", "The id of a user is needed."),
        ),
    ],
)
def test_a_fault_names_its_field_and_is_a_sentence(
    action_type: str, config: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert faults_of_config(registry.actions[action_type].config, config, "") == [Fault(*expected)]


@pytest.mark.parametrize(("action_type", "changes"), [*WRONG, *UNFINISHED])
def test_every_fault_of_a_config_begins_with_a_capital_letter_and_has_its_stop(
    action_type: str, changes: dict[str, Any]
) -> None:
    config = {**LEAST[action_type], **changes}
    for fault in faults_of_config(registry.actions[action_type].config, config, ""):
        assert fault.path
        assert fault.message[0].isupper() or fault.message[0] in "'{"
        assert fault.message[-1] in ".?"
        assert "None" not in fault.message
        assert not fault.message.endswith("?.")
