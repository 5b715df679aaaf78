"""create_task: requirement R3.9."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.create_task import ACTION, CreateTask, _due
from tests.backstage import Backstage


async def test_creates_a_task_for_the_contacts_owner_and_emits_task_created(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    owner = await backstage.user(account)
    contact = await backstage.contact(account, first_name="Ada", owner_id=owner)
    config = {
        "title": "Call {{contact.first_name}}",
        "description": "about {{contact.nothing | default('it')}}",
        "due_date_offset": {"days": 1, "hours": 2},
    }

    done = await backstage.perform(ACTION, (account, contact, config))

    task = await backstage.row("tasks", done.result["task_id"])
    assert (task["title"], task["description"]) == ("Call Ada", "about it")
    assert (task["contact_id"], task["assignee_id"]) == (contact, owner)
    assert (task["status"], task["priority"]) == ("open", "medium")
    assert task["due_at"] == done.stage.now + timedelta(hours=26)
    assert (task["step_id"], task["created_at"]) == (done.items[0].step_id, done.stage.now)
    (event,) = done.events
    assert (event.event_type, event.payload) == ("task_created", done.result)
    assert done.result == {
        "task_id": str(task["id"]),
        "assignee_id": str(owner),
        "due_at": task["due_at"].isoformat(),
        "priority": "medium",
    }


async def test_the_assignee_is_the_given_user_or_the_owner_or_nobody(backstage: Backstage) -> None:
    account = await backstage.account()
    owner, other = await backstage.user(account), await backstage.user(account)
    owned = await backstage.contact(account, owner_id=owner, last_name=str(other))
    blank, free = await backstage.contact(account, owner_id=owner), await backstage.contact(account)
    merged = {"title": "x", "assignee_id": "{{contact.last_name}}", "priority": "high"}

    done = await backstage.perform(
        ACTION, (account, owned, merged), (account, blank, merged), (account, free, {"title": "x"})
    )

    assignees = [result["assignee_id"] for result in done.results]
    assert assignees == [str(other), str(owner), None]
    assert {task["priority"] for task in await backstage.rows("tasks", account)} == {
        "high",
        "medium",
    }


async def test_a_user_of_another_account_does_not_exist(backstage: Backstage) -> None:
    account, theirs = await backstage.account(), await backstage.account()
    contact, free = await backstage.contact(account), await backstage.contact(account)
    foreign = str(await backstage.user(theirs))

    refused = await backstage.perform(
        ACTION, (account, contact, {"title": "x", "assignee_id": foreign})
    )
    unknown = await backstage.perform(
        ACTION,
        (account, contact, {"title": "x", "assignee_id": str(uuid4())}),
        (account, free, {"title": "fine"}),
    )

    assert refused.reason == "assignee_not_found"
    assert unknown.reasons == ["assignee_not_found", None]
    # The same words for both: nothing can be learnt about other accounts.
    assert refused.outcomes[0] == unknown.outcomes[0]
    assert [task["title"] for task in await backstage.rows("tasks", account)] == ["fine"]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"title": " {{contact.nothing}} "}, "title_empty"),
        ({"title": "{{contact.last_name}}"}, "text_too_long"),
        ({"title": "x", "assignee_id": "{{contact.first_name}}"}, "reference_unusable"),
    ],
)
async def test_what_cannot_be_used_after_rendering_fails_without_quoting_it(
    backstage: Backstage, values: dict[str, str], code: str
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account, first_name="Adalbert", last_name="y" * 501)
    failed = await backstage.perform(ACTION, (account, contact, values))
    assert failed.reason == code
    assert "Adalbert" not in failed.message
    assert "yyy" not in failed.message
    assert await backstage.rows("tasks", account) == []


@pytest.mark.parametrize(
    ("offset", "error"),
    [
        ({}, "incomplete"),
        ({"days": -1}, "greater_than_equal"),
        ({"hours": 1.5}, "int_type"),
        ({"days": "1"}, "int_type"),
        ({"days": 10**12}, "less_than_equal"),
        ({"weeks": 1}, "extra_forbidden"),
    ],
)
def test_an_offset_is_a_number_of_days_and_hours_that_are_not_negative(
    offset: dict[str, Any], error: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateTask.model_validate({"title": "x", "due_date_offset": offset})
    assert caught.value.errors()[0]["type"] == error


def test_an_assignee_is_a_uuid_or_merge_fields() -> None:
    with pytest.raises(ValidationError, match="must be a UUID or merge fields"):
        CreateTask.model_validate_json('{"title": "x", "assignee_id": "Ulla"}')


@given(days=st.none() | st.integers(0, 3650), hours=st.none() | st.integers(0, 87600))
def test_due_is_exact_elapsed_time(days: int | None, hours: int | None) -> None:
    now = datetime(2026, 3, 28, 12, tzinfo=UTC)
    due = _due({"days": days, "hours": hours}, now)
    assert (due - now).total_seconds() == (days or 0) * 86400 + (hours or 0) * 3600
