"""add_to_campaign and remove_from_campaign: enrolment, its limit, and leaving."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from actors.add_to_campaign import AddToCampaign
from runtime.definitions import CompiledVersion
from runtime.executions import enrol
from runtime.outcomes import Done, Failed, Skipped
from runtime.stage import Account
from tests.backstage import Backstage, performed
from tests.world import World

WAIT = ("wait_time", {"duration": 1, "unit": "days"})


async def campaign_of(backstage: Backstage, version: CompiledVersion, **columns: Any) -> UUID:
    values = {"status": "active", "enrollment_limit": None, **columns}
    campaign_id: UUID = await backstage.one(
        """
        insert into campaigns (account_id, name, workflow_id, status, enrollment_limit)
        values ($1, 'Spring', $2, $3, $4) returning id
        """,
        version.account.id,
        version.workflow_id,
        values["status"],
        values["enrollment_limit"],
    )
    return campaign_id


async def adding(
    backstage: Backstage, account: Account, campaign: UUID, **config: Any
) -> CompiledVersion:
    return await backstage.workflow(
        account, ("add_to_campaign", {"campaign_id": str(campaign), **config})
    )


async def removing(
    backstage: Backstage, account: Account, campaign: UUID, **config: Any
) -> CompiledVersion:
    return await backstage.workflow(
        account, ("remove_from_campaign", {"campaign_id": str(campaign), **config})
    )


async def test_contacts_are_enrolled_and_the_campaigns_workflow_begins(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps)
    contacts = await backstage.contacts(account, 3)
    done = await backstage.perform_first(await adding(backstage, account, campaign), contacts)
    rows = await backstage.pool.fetch(
        """
        select n.contact_id, n.id, n.execution_id, n.status, n.step_id,
            e.workflow_id, e.event_depth, s.action_id, s.status as step_status
        from campaign_enrollments n
        join workflow_executions e on e.id = n.execution_id
        join workflow_action_executions s on s.workflow_execution_id = e.id
        """
    )
    by_contact = {row["contact_id"]: row for row in rows}
    assert set(by_contact) == set(contacts)
    for item, outcome in zip(done.items, done.outcomes, strict=True):
        row = by_contact[item.contact_id]
        expected = {
            "campaign_id": str(campaign),
            "enrollment_id": str(row["id"]),
            "execution_id": str(row["execution_id"]),
        }
        assert outcome == Done(expected)
        assert (row["status"], row["step_status"]) == ("active", "pending")
        assert row["workflow_id"] == steps.workflow_id
        assert row["action_id"] == steps.heads[None]
        assert row["step_id"] == item.step_id
        assert row["event_depth"] == item.event_depth + 1
    assert [e.event_type for e in done.stage.events] == ["campaign_enrolled"] * 3
    assert done.stage.ready == {"timing"}


async def test_a_specific_step_is_where_the_contact_begins(backstage: Backstage) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT, WAIT)
    second = steps.actions[steps.heads[None]].next_id
    campaign = await campaign_of(backstage, steps)
    config = {"start_position": "specific_step", "step_id": str(second)}
    await backstage.perform_first(
        await adding(backstage, account, campaign, **config), await backstage.contacts(account)
    )
    assert await backstage.one("select action_id from workflow_action_executions") == second


async def test_a_step_that_the_campaign_does_not_have_is_refused(backstage: Backstage) -> None:
    account = await backstage.account()
    campaign = await campaign_of(backstage, await backstage.workflow(account, WAIT))
    config = {"start_position": "specific_step", "step_id": str(uuid4())}
    done = await backstage.perform_first(
        await adding(backstage, account, campaign, **config), await backstage.contacts(account)
    )
    (outcome,) = done.outcomes
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "step_not_in_campaign"


async def test_a_contact_that_is_in_the_campaign_is_skipped(backstage: Backstage) -> None:
    account = await backstage.account()
    campaign = await campaign_of(backstage, await backstage.workflow(account, WAIT))
    contacts = await backstage.contacts(account, 2)
    version = await adding(backstage, account, campaign)
    await backstage.perform_first(version, contacts[:1])
    done = await backstage.perform_first(version, contacts)
    assert done.outcomes[0] == Skipped("already_enrolled")
    assert isinstance(done.outcomes[1], Done)
    assert len(done.stage.events) == 1


async def test_without_skip_if_enrolled_another_run_begins(backstage: Backstage) -> None:
    account = await backstage.account()
    campaign = await campaign_of(backstage, await backstage.workflow(account, WAIT))
    contacts = await backstage.contacts(account, 2)
    version = await adding(backstage, account, campaign, skip_if_enrolled=False)
    for _ in range(3):
        done = await backstage.perform_first(version, contacts)
        assert all(isinstance(outcome, Done) for outcome in done.outcomes)
    assert await backstage.one("select count(*) from campaign_enrollments") == 6


@pytest.mark.parametrize("status", ["draft", "paused", "ended"])
async def test_a_campaign_that_is_not_active_takes_nobody(
    backstage: Backstage, status: str
) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps, status=status)
    done = await backstage.perform_first(
        await adding(backstage, account, campaign), await backstage.contacts(account)
    )
    assert done.outcomes == [Skipped("campaign_not_active")]


async def test_a_campaign_whose_workflow_is_not_active_takes_nobody(backstage: Backstage) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps)
    await backstage.pool.execute(
        "update workflows set status = 'paused' where id = $1", steps.workflow_id
    )
    done = await backstage.perform_first(
        await adding(backstage, account, campaign), await backstage.contacts(account)
    )
    assert done.outcomes == [Skipped("campaign_workflow_not_active")]


async def test_campaigns_of_other_accounts_do_not_exist(backstage: Backstage) -> None:
    account, other = await backstage.account(), await backstage.account()
    campaign = await campaign_of(backstage, await backstage.workflow(other, WAIT))
    for version in (
        await adding(backstage, account, campaign),
        await removing(backstage, account, campaign),
        await adding(backstage, account, uuid4()),
    ):
        done = await backstage.perform_first(version, await backstage.contacts(account))
        (outcome,) = done.outcomes
        assert isinstance(outcome, Failed)
        assert outcome.failure.code == "campaign_not_found"


async def test_the_enrollment_limit_holds_under_concurrency(backstage: Backstage) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps, enrollment_limit=10)
    version = await adding(backstage, account, campaign)
    contacts = await backstage.contacts(account, 24)
    parts = [contacts[i::6] for i in range(6)]
    done = await asyncio.gather(*(backstage.perform_first(version, part) for part in parts))
    outcomes = [outcome for part in done for outcome in part.outcomes]
    assert Counter(type(outcome).__name__ for outcome in outcomes) == {"Done": 10, "Skipped": 14}
    assert {o.reason for o in outcomes if isinstance(o, Skipped)} == {"campaign_full"}
    assert await backstage.one("select count(*) from campaign_enrollments") == 10


async def test_who_was_removed_leaves_a_place_and_who_went_through_does_not(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps, enrollment_limit=1)
    version = await adding(backstage, account, campaign)
    first, second = await backstage.contacts(account, 2)
    await backstage.perform_first(version, [first])
    for status, expected in [("completed", Skipped), ("removed", Done)]:
        await backstage.pool.execute("update campaign_enrollments set status = $1", status)
        (outcome,) = (await backstage.perform_first(version, [second])).outcomes
        assert isinstance(outcome, expected)


async def test_a_limit_of_one_campaign_is_not_anothers(backstage: Backstage) -> None:
    account = await backstage.account()
    full = await campaign_of(backstage, await backstage.workflow(account, WAIT), enrollment_limit=0)
    free = await campaign_of(backstage, await backstage.workflow(account, WAIT))
    one, two = await backstage.contacts(account, 2)
    async with backstage.stage() as stage:
        items = await backstage.items(stage, await adding(backstage, account, full), [one])
        items += await backstage.items(stage, await adding(backstage, account, free), [two])
        done = await performed(stage, items)
    assert done.outcomes[0] == Skipped("campaign_full")
    assert isinstance(done.outcomes[1], Done)


async def test_who_has_a_live_run_already_takes_no_place(backstage: Backstage) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps, enrollment_limit=1)
    running, free = await backstage.contacts(account, 2)
    await backstage.enrol(steps, [running])
    done = await backstage.perform_first(
        await adding(backstage, account, campaign), [running, free]
    )
    assert done.outcomes[0] == Skipped("already_enrolled")
    assert isinstance(done.outcomes[1], Done)


async def test_whose_run_begins_elsewhere_at_this_moment_gives_the_place_back(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps, enrollment_limit=2)
    contacts = await backstage.contacts(account, 4)
    version = await adding(backstage, account, campaign)
    async with backstage.stage() as stage:
        await enrol(stage.db, stage.now, steps, contacts[:2])
        performing = asyncio.create_task(backstage.perform_first(version, contacts))
        await backstage.until_somebody_waits_for_a_lock()
    outcomes = (await performing).outcomes
    assert outcomes[:2] == [Skipped("already_enrolled")] * 2
    assert [type(outcome) for outcome in outcomes[2:]] == [Done, Done]


async def test_who_stands_at_the_loop_guard_takes_no_place(backstage: Backstage) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps, enrollment_limit=1)
    contacts = await backstage.contacts(account, 2)
    async with backstage.stage() as stage:
        version = await adding(backstage, account, campaign)
        deep, free = await backstage.items(stage, version, contacts)
        deep.event_depth = stage.max_event_depth
        done = await performed(stage, [deep, free])
    assert done.outcomes[0] == Skipped("loop_guard")
    assert isinstance(done.outcomes[1], Done)


async def test_a_campaign_of_another_account_is_not_locked(backstage: Backstage) -> None:
    account, other = await backstage.account(), await backstage.account()
    steps = await backstage.workflow(other, WAIT)
    campaign = await campaign_of(backstage, steps, enrollment_limit=1)
    version, contacts = (
        await adding(backstage, account, campaign),
        await backstage.contacts(account),
    )
    async with backstage.stage() as stage:
        await performed(stage, await backstage.items(stage, version, contacts))
        assert await backstage.one("select id from campaigns for update skip locked") == campaign


async def test_leaving_a_campaign_cancels_what_is_pending_and_logs_the_reason(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    campaign = await campaign_of(backstage, await backstage.workflow(account, WAIT))
    inside, outside = await backstage.contacts(account, 2, first_name="Ada")
    await backstage.perform_first(await adding(backstage, account, campaign), [inside])
    version = await removing(
        backstage, account, campaign, reason="{{ contact.first_name }} has bought"
    )
    done = await backstage.perform_first(version, [inside, outside])
    told = {"campaign_id": str(campaign), "reason": "Ada has bought"}
    assert done.outcomes == [Done({**told, "removed": True}), Done({**told, "removed": False})]
    events = [(e.event_type, e.contact_id, e.payload) for e in done.stage.events]
    assert events == [("campaign_removed", inside, told)]
    row = await backstage.pool.fetchrow("select * from campaign_enrollments")
    assert row is not None
    assert (row["status"], row["removal_reason"]) == ("removed", "Ada has bought")
    assert row["ended_at"] == done.stage.now
    execution = await backstage.pool.fetchrow(
        "select * from workflow_executions where id = $1", row["execution_id"]
    )
    assert execution is not None
    assert (execution["status"], execution["end_reason"]) == ("cancelled", "removed_from_campaign")
    step = await backstage.pool.fetchrow("select * from workflow_action_executions")
    assert step is not None
    assert (step["status"], step["skip_reason"]) == ("skipped", "cancelled")


async def test_a_campaign_that_removes_its_own_contact_ends_its_execution_here(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    campaign = uuid4()
    steps = await removing(backstage, account, campaign)
    await backstage.pool.execute(
        "insert into campaigns (id, account_id, name, workflow_id, status)"
        " values ($1, $2, 'Own', $3, 'active')",
        campaign,
        account.id,
        steps.workflow_id,
    )
    contacts = await backstage.contacts(account)
    await backstage.perform_first(await adding(backstage, account, campaign), contacts)
    async with backstage.stage() as stage:
        (item,) = await backstage.items(stage, steps, contacts)
        item.execution_id = await backstage.one("select execution_id from campaign_enrollments")
        (outcome,) = (await performed(stage, [item])).outcomes
    assert isinstance(outcome, Done)
    assert outcome.ends == "removed_from_campaign"
    assert await backstage.one("select status from campaign_enrollments") == "removed"
    # The engine ends it with this step's record.
    assert await backstage.one("select status from workflow_executions") == "running"


async def test_a_reason_that_is_too_long_after_rendering_is_refused(backstage: Backstage) -> None:
    account = await backstage.account()
    campaign = await campaign_of(backstage, await backstage.workflow(account, WAIT))
    contacts = await backstage.contacts(account, first_name="x" * 600)
    version = await removing(backstage, account, campaign, reason="{{ contact.first_name }}")
    (outcome,) = (await backstage.perform_first(version, contacts)).outcomes
    assert isinstance(outcome, Failed)
    assert outcome.failure.code == "text_too_long"


async def test_the_number_of_statements_does_not_grow_with_the_batch(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    steps = await backstage.workflow(account, WAIT)
    campaign = await campaign_of(backstage, steps, enrollment_limit=100)
    contacts = await backstage.contacts(account, 20)
    joining = await adding(backstage, account, campaign)
    leaving = await removing(backstage, account, campaign)
    assert (await backstage.perform_first(joining, contacts)).statements == 5
    assert await backstage.one("select count(*) from campaign_enrollments") == 20
    assert (await backstage.perform_first(leaving, contacts)).statements == 8


def test_a_specific_step_without_step_id_is_incomplete() -> None:
    with pytest.raises(ValidationError) as caught:
        AddToCampaign.model_validate_json(
            f'{{"campaign_id": "{uuid4()}", "start_position": "specific_step"}}'
        )
    assert caught.value.errors()[0]["type"] == "incomplete"


async def test_what_the_batch_itself_cancels_goes_no_further(world: World) -> None:
    """A removal and a ready step of the campaign's own run meet in one batch."""
    campaign_workflow = await world.workflow(
        ("wait_time", {"duration": 1, "unit": "days"}),
        ("remove_tag", {"tag_name": "Nobody has it"}),
        ("wait_time", {"duration": 1, "unit": "days"}),
    )
    campaign = await world.pool.fetchval(
        "INSERT INTO campaigns (account_id, name, status, workflow_id)"
        " VALUES ($1, 'Spring', 'active', $2) RETURNING id",
        world.account_id,
        campaign_workflow,
    )
    adding = await world.workflow(("add_to_campaign", {"campaign_id": str(campaign)}))
    removing = await world.workflow(("remove_from_campaign", {"campaign_id": str(campaign)}))
    contact = await world.contact()
    await world.run(adding, contact)
    (run,) = await world.pool.fetch(
        "SELECT id FROM workflow_executions WHERE workflow_id = $1", campaign_workflow
    )
    await world.pool.execute(
        "UPDATE workflow_action_executions SET status = 'pending', family = 'crm',"
        " lane_id = (SELECT min(id) FROM lanes WHERE family = 'crm')"
        " WHERE workflow_execution_id = $1",
        run["id"],
    )
    await world.run(removing, contact)
    assert (await world.execution(run["id"]))["status"] == "cancelled"
    assert set(await world.statuses(run["id"])) <= {"completed", "skipped"}


async def test_campaigns_that_enrol_into_each_other_end_at_the_loop_guard(world: World) -> None:
    ids = []
    for name in ("Here", "There"):
        workflow = await world._add("workflows", account_id=world.account_id, name=name)
        campaign = await world.pool.fetchval(
            "INSERT INTO campaigns (account_id, name, status, workflow_id)"
            " VALUES ($1, $2, 'active', $3) RETURNING id",
            world.account_id,
            name,
            workflow,
        )
        ids.append((workflow, campaign))
    for (workflow, _), (_, other) in zip(ids, reversed(ids), strict=True):
        config = {"campaign_id": str(other), "skip_if_enrolled": False}
        await world.add_actions(workflow, ("add_to_campaign", config))
        await world.activate(workflow)
    await world.run(ids[0][0], await world.contact())
    reasons = await world.pool.fetch(
        "SELECT skip_reason, count(*) AS n FROM workflow_action_executions"
        " WHERE skip_reason IS NOT NULL GROUP BY 1"
    )
    assert [tuple(r) for r in reasons] == [("loop_guard", 1)]
    runs = await world.pool.fetchval("SELECT count(*) FROM workflow_executions")
    assert runs == world.settings.max_event_depth + 1
