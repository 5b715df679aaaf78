"""wait_for_event: for which event, since when and until when, and what follows."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from pydantic import ValidationError

from actors import wait_for_event
from actors.wait_for_event import WaitForEvent
from runtime.definitions import CompiledVersion
from runtime.outcomes import Done, Wait
from runtime.stage import Item
from tests.backstage import Backstage, at


async def wait_of(
    backstage: Backstage, version: CompiledVersion, *, fused: bool = False
) -> tuple[Item, Wait, datetime]:
    """Enrol a contact and let it wait; gives the item, its wait and the batch's instant."""
    account = version.account
    contacts = await backstage.contacts(account)
    enrolled = await backstage.enrol(version, contacts)
    async with backstage.stage() as stage:
        (item,) = await backstage.items(stage, version, contacts, enrolled)
        if fused:
            item.status = None
        (outcome,) = await wait_for_event.perform(stage, [item])
        assert isinstance(outcome, Wait)
        return item, outcome, stage.now


async def earlier_step(backstage: Backstage, item: Item, action_id: UUID, **columns: Any) -> None:
    """A step that the item's execution did before."""
    await backstage.pool.execute(
        """
        insert into workflow_action_executions
            (account_id, workflow_execution_id, action_id, contact_id, family, lane_id, status,
             started_at, completed_at)
        values ($1, $2, $3, $4, 'timing', 1, 'completed', $5, $6)
        """,
        item.account_id,
        item.execution_id,
        action_id,
        item.contact_id,
        columns["started_at"],
        columns["completed_at"],
    )


async def wait_again(backstage: Backstage, item: Item) -> Wait:
    async with backstage.stage() as stage:
        (outcome,) = await wait_for_event.perform(stage, [item])
        assert isinstance(outcome, Wait)
        return outcome


async def test_it_waits_for_the_event_until_the_time_out(backstage: Backstage) -> None:
    account = await backstage.account()
    config = {"event_type": "sms_reply", "timeout_duration": 2, "timeout_unit": "days"}
    version = await backstage.workflow(account, ("wait_for_event", config))
    _, wait, now = await wait_of(backstage, version)
    assert wait.event_type == "sms_reply"
    assert wait.action_id is None
    assert wait.until == now + timedelta(days=2)


async def test_without_a_time_out_it_waits_for_ever(backstage: Backstage) -> None:
    account = await backstage.account()
    version = await backstage.workflow(account, ("wait_for_event", {"event_type": "form_submit"}))
    _, wait, _ = await wait_of(backstage, version)
    assert wait.until is None


async def test_events_count_back_to_the_start_of_the_related_action(backstage: Backstage) -> None:
    account = await backstage.account()
    related = (
        await backstage.workflow(account, ("wait_time", {"duration": 1, "unit": "days"}))
    ).heads[None]
    config = {"event_type": "email_open", "related_action_id": str(related)}
    version = await backstage.workflow(account, ("wait_for_event", config))
    item, wait, _ = await wait_of(backstage, version)
    assert wait.action_id == related
    for started in ("2026-01-01T10:00+00:00", "2026-01-02T10:00+00:00"):  # tried again by people
        begun = at(started)
        times = {"started_at": begun, "completed_at": begun + timedelta(hours=1)}
        await earlier_step(backstage, item, related, **times)
    # Steps of other executions of this contact say nothing.
    other = await backstage.enrol(
        await backstage.workflow(account, ("wait_for_event", config)), [item.contact_id]
    )
    own = item.execution_id
    assert other[0].execution_id is not None
    item.execution_id = other[0].execution_id
    later = at("2026-01-03T10:00+00:00")
    await earlier_step(backstage, item, related, started_at=later, completed_at=later)
    item.execution_id = own
    assert (await wait_again(backstage, item)).since == at("2026-01-02T10:00+00:00")


async def test_without_related_action_events_count_back_to_the_end_of_the_step_before(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    version = await backstage.workflow(account, ("wait_for_event", {"event_type": "email_open"}))
    before = (
        await backstage.workflow(account, ("wait_time", {"duration": 1, "unit": "days"}))
    ).heads[None]
    item, _, _ = await wait_of(backstage, version)
    begun = at("2026-01-01T10:00+00:00")
    ended = at("2026-01-01T11:00+00:00")
    await earlier_step(backstage, item, before, started_at=begun, completed_at=ended)
    assert (await wait_again(backstage, item)).since == ended


async def test_in_the_first_step_events_count_back_to_the_start_of_the_execution(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    version = await backstage.workflow(account, ("wait_for_event", {"event_type": "email_open"}))
    item, _, _ = await wait_of(backstage, version)
    item.execution_started_at = at("2026-01-01T10:00+00:00")
    assert (await wait_again(backstage, item)).since == item.execution_started_at


async def test_fused_behind_a_step_of_the_same_batch_it_waits_from_now_on(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    version = await backstage.workflow(account, ("wait_for_event", {"event_type": "email_open"}))
    _, wait, now = await wait_of(backstage, version, fused=True)
    assert wait.since == now


async def resumed(
    backstage: Backstage, config: dict[str, Any], event: dict[str, Any] | None
) -> Done:
    account = await backstage.account()
    version = await backstage.workflow(account, ("wait_for_event", config))
    async with backstage.stage() as stage:
        items = await backstage.items(stage, version, await backstage.contacts(account))
        items[0].event = event
        (outcome,) = await wait_for_event.resume(stage, items)
        assert isinstance(outcome, Done)
        return outcome


async def test_it_resumes_with_the_event_when_the_event_occurs(backstage: Backstage) -> None:
    event = {
        "id": 7,
        "event_type": "email_click",
        "occurred_at": at("2026-01-01T10:00+00:00"),
        "payload": {"url": "https://example.test"},
        "action_id": uuid4(),
    }
    outcome = await resumed(backstage, {"event_type": "email_click"}, event)
    assert outcome == Done(
        {
            "timed_out": False,
            "event": {
                "id": 7,
                "event_type": "email_click",
                "occurred_at": "2026-01-01T10:00:00+00:00",
                "payload": {"url": "https://example.test"},
            },
        }
    )
    assert orjson.dumps(outcome.result)


BRANCH = uuid4()
TIMED_OUT = {"timed_out": True, "event": None}


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ({}, Done(TIMED_OUT)),
        ({"timeout_action": "continue"}, Done(TIMED_OUT)),
        (
            {"timeout_action": "branch", "timeout_branch_id": str(BRANCH)},
            Done(TIMED_OUT, branch_id=BRANCH),
        ),
        ({"timeout_action": "end"}, Done(TIMED_OUT, ends="wait_timeout")),
    ],
)
async def test_a_time_out_continues_enters_a_branch_or_ends_the_execution(
    backstage: Backstage, action: dict[str, Any], expected: Done
) -> None:
    config = {"event_type": "email_open", "timeout_duration": 1, "timeout_unit": "hours"}
    assert await resumed(backstage, {**config, **action}, None) == expected


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"timeout_duration": 3}, "incomplete"),
        ({"timeout_action": "end"}, "incomplete"),
        (
            {"timeout_duration": 3, "timeout_unit": "days", "timeout_action": "branch"},
            "incomplete",
        ),
        ({"timeout_duration": 3651, "timeout_unit": "days"}, "wait_too_long"),
        ({"timeout_duration": 10**40, "timeout_unit": "days"}, "wait_too_long"),
        ({"timeout_duration": 0, "timeout_unit": "days"}, "greater_than_equal"),
        ({"timeout_duration": 1, "timeout_unit": "weeks"}, "literal_error"),
        ({"event_type": "email_bounce"}, "literal_error"),
    ],
)
def test_a_config_that_cannot_be_waited_by_is_refused(config: dict[str, Any], kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        WaitForEvent.model_validate({"event_type": "email_open", **config})
    assert caught.value.errors()[0]["type"] == kind
