"""assign_to_user: specific, in turn and least busy; unavailable users; ownership and notice."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors import notification_in_app
from actors.assign_to_user import AssignToUser
from actors.assignment_rounds import Round
from runtime.effect import Effect, Sent
from runtime.failures import Failure
from runtime.house import House
from runtime.outcomes import Done, Failed, Outcome, Skipped
from tests.backstage import Backstage, performed


def users_of(outcomes: Sequence[Outcome]) -> list[UUID]:
    return [UUID(o.result["user_id"]) for o in outcomes if isinstance(o, Done)]


async def test_a_contact_is_assigned_to_the_specified_user(backstage: Backstage) -> None:
    account = await backstage.account()
    user, old = await backstage.users(account, 2)
    contacts = await backstage.contacts(account, 2, owner_id=old, first_name="Ada")
    config = {"assignment_type": "specific", "user_id": str(user)}
    done = await backstage.perform_first(
        await backstage.workflow(account, ("assign_to_user", config)), contacts
    )
    expected = {"user_id": str(user), "previous_owner_id": str(old)}
    assert done.outcomes == [Done({**expected, "assigned": True})] * 2
    assert {item.contact["owner_id"] for item in done.items} == {user}
    rows = await backstage.pool.fetch("select owner_id from contacts")
    assert {row["owner_id"] for row in rows} == {user}
    changes = done.stage.changes
    assert [(c.field, c.old, c.new) for c in changes] == [("owner_id", str(old), str(user))] * 2
    assert [(e.event_type, e.payload) for e in done.stage.events] == [
        ("contact_assigned", expected)
    ] * 2
    notices = [request for _, request in done.stage.notices]
    assert {n.request["contact_id"] for n in notices} == set(map(str, contacts))
    assert {n.request["message"] for n in notices} == {"Ada is yours now."}
    assert not any(n.gates_step for n in notices)


async def test_an_owner_who_stays_causes_no_event_and_no_notice(backstage: Backstage) -> None:
    account = await backstage.account()
    (user,) = await backstage.users(account, 1)
    contacts = await backstage.contacts(account, 1, owner_id=user)
    config = {"assignment_type": "round_robin"}
    done = await backstage.perform_first(
        await backstage.workflow(account, ("assign_to_user", config)), contacts
    )
    (outcome,) = done.outcomes
    assert isinstance(outcome, Done)
    assert outcome.result["assigned"] is False
    assert not done.stage.events
    assert not done.stage.notices
    assert not done.stage.changes


async def test_without_notify_assignee_there_is_no_notice(backstage: Backstage) -> None:
    account = await backstage.account()
    await backstage.users(account, 1)
    config = {"assignment_type": "round_robin", "notify_assignee": False}
    done = await backstage.perform_first(
        await backstage.workflow(account, ("assign_to_user", config)),
        await backstage.contacts(account),
    )
    assert len(done.stage.events) == 1
    assert not done.stage.notices


async def test_users_marked_unavailable_are_skipped(backstage: Backstage) -> None:
    account = await backstage.account()
    (away,) = await backstage.users(account, 1, is_available=False)
    contacts = await backstage.contacts(account)
    specific = {"assignment_type": "specific", "user_id": str(away)}
    in_turn = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "round_robin"})
    )
    done = await backstage.perform_first(
        await backstage.workflow(account, ("assign_to_user", specific)), contacts
    )
    assert done.outcomes == [Skipped("user_unavailable")]
    assert (await backstage.perform_first(in_turn, contacts)).outcomes == [
        Skipped("no_available_user")
    ]
    present = await backstage.users(account, 2)
    contacts = await backstage.contacts(account, 4)
    assert users_of((await backstage.perform_first(in_turn, contacts)).outcomes) == present * 2


@pytest.mark.parametrize("assignment", ["round_robin", "least_busy"])
@pytest.mark.parametrize("with_team", [True, False])
async def test_viewers_and_service_users_take_no_part_in_rounds(
    backstage: Backstage, assignment: str, with_team: bool
) -> None:
    account = await backstage.account()
    others = await backstage.users(account, 2, role="viewer")
    others += await backstage.users(account, 2, role="admin", is_service=True)
    people = await backstage.users(account, 1, role="admin")
    people = sorted(people + await backstage.users(account, 1, role="editor"))
    team = await backstage.one(
        "insert into teams (account_id, name) values ($1, 'T') returning id", account.id
    )
    await backstage.pool.executemany(
        "insert into team_members (account_id, team_id, user_id) values ($1, $2, $3)",
        [(account.id, team, user) for user in others + people],
    )
    config = {"assignment_type": assignment, "team_id": str(team) if with_team else None}
    version = await backstage.workflow(account, ("assign_to_user", config))
    contacts = await backstage.contacts(account, 4)
    assert users_of((await backstage.perform_first(version, contacts)).outcomes) == people * 2


async def test_a_step_may_name_a_viewer_and_no_service_user(backstage: Backstage) -> None:
    account = await backstage.account()
    (viewer,) = await backstage.users(account, 1, role="viewer")
    (service,) = await backstage.users(account, 1, is_service=True)
    outcomes: list[Outcome] = []
    for user in (viewer, service):
        config = {"assignment_type": "specific", "user_id": str(user)}
        version = await backstage.workflow(account, ("assign_to_user", config))
        contacts = await backstage.contacts(account)
        outcomes += (await backstage.perform_first(version, contacts)).outcomes
    assert users_of(outcomes) == [viewer]
    assert isinstance(outcomes[1], Failed)
    assert outcomes[1].failure.code == "user_not_found"


async def test_users_and_teams_of_other_accounts_do_not_exist(backstage: Backstage) -> None:
    account, other = await backstage.account(), await backstage.account()
    (stranger,) = await backstage.users(other, 1)
    team = await backstage.one(
        "insert into teams (account_id, name) values ($1, 'T') returning id", other.id
    )
    for config, code in [
        ({"assignment_type": "specific", "user_id": str(stranger)}, "user_not_found"),
        ({"assignment_type": "round_robin", "team_id": str(team)}, "team_not_found"),
        ({"assignment_type": "least_busy", "team_id": str(uuid4())}, "team_not_found"),
    ]:
        version = await backstage.workflow(account, ("assign_to_user", config))
        (outcome,) = (
            await backstage.perform_first(version, await backstage.contacts(account))
        ).outcomes
        assert isinstance(outcome, Failed)
        assert outcome.failure.code == code


async def test_a_team_has_a_round_of_its_own(backstage: Backstage) -> None:
    account = await backstage.account()
    users = await backstage.users(account, 4)
    team = await backstage.one(
        "insert into teams (account_id, name) values ($1, 'T') returning id", account.id
    )
    await backstage.pool.executemany(
        "insert into team_members values ($1, $2, $3)",
        [(account.id, team, users[1]), (account.id, team, users[3])],
    )
    of_team = {"assignment_type": "round_robin", "team_id": str(team)}
    in_team = await backstage.workflow(account, ("assign_to_user", of_team))
    of_all = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "round_robin"})
    )
    contacts = await backstage.contacts(account, 3)
    first = await backstage.perform_first(in_team, contacts)
    assert users_of(first.outcomes) == [users[1], users[3], users[1]]
    everybody = await backstage.perform_first(of_all, contacts)
    assert users_of(everybody.outcomes) == users[:3]
    second = await backstage.perform_first(in_team, contacts[:1])
    assert users_of(second.outcomes) == [users[3]]


async def test_round_robin_stays_fair_under_concurrency(backstage: Backstage) -> None:
    account = await backstage.account()
    users = await backstage.users(account, 4)
    version = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "round_robin"})
    )
    contacts = await backstage.contacts(account, 61)
    parts = [contacts[i::6] for i in range(6)]
    await asyncio.gather(*(backstage.perform_first(version, part) for part in parts))
    rows = await backstage.pool.fetch("select owner_id, count(*) from contacts group by 1")
    assert sorted(row["count"] for row in rows) == [15, 15, 15, 16]
    assert {row["owner_id"] for row in rows} == set(users)


async def test_a_batch_that_rolls_back_gives_its_turns_back(backstage: Backstage) -> None:
    account = await backstage.account()
    users = await backstage.users(account, 2)
    version = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "round_robin"})
    )
    contacts = await backstage.contacts(account, 3)

    async def crash() -> None:
        async with backstage.stage() as stage:
            await performed(stage, await backstage.items(stage, version, contacts))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await crash()
    done = await backstage.perform_first(version, contacts[:1])
    assert users_of(done.outcomes) == users[:1]


async def test_the_least_busy_user_has_the_fewest_open_tasks_and_owned_open_opportunities(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    with_task, with_deal, idle = await backstage.users(account, 3)
    (contact,) = await backstage.contacts(account)
    for status, user in [("open", with_task), ("open", with_task), ("done", idle)]:
        await backstage.pool.execute(
            "insert into tasks (account_id, contact_id, assignee_id, title, status)"
            " values ($1, $2, $3, 't', $4)",
            account.id,
            contact,
            user,
            status,
        )
    pipeline = await backstage.one(
        "insert into pipelines (account_id, name) values ($1, 'P') returning id", account.id
    )
    stage = await backstage.one(
        "insert into pipeline_stages (account_id, pipeline_id, name, position)"
        " values ($1, $2, 'S', 0) returning id",
        account.id,
        pipeline,
    )
    for status, user in [("open", with_deal), ("won", idle)]:
        await backstage.pool.execute(
            "insert into opportunities"
            " (account_id, contact_id, pipeline_id, stage_id, owner_id, name, status)"
            " values ($1, $2, $3, $4, $5, 'o', $6)",
            account.id,
            contact,
            pipeline,
            stage,
            user,
            status,
        )
    version = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "least_busy"})
    )
    done = await backstage.perform_first(version, await backstage.contacts(account, 4))
    # Loads 2, 1, 0; what the batch gives counts.
    given = users_of(done.outcomes)
    assert given[0] == idle
    assert Counter(given) == {idle: 2, with_deal: 1, with_task: 1}


async def test_equally_busy_users_take_turns_over_concurrent_batches(backstage: Backstage) -> None:
    account = await backstage.account()
    await backstage.users(account, 3)
    version = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "least_busy"})
    )
    contacts = await backstage.contacts(account, 9)
    await asyncio.gather(*(backstage.perform_first(version, [contact]) for contact in contacts))
    rows = await backstage.pool.fetch("select count(*) from contacts group by owner_id")
    assert [row["count"] for row in rows] == [3, 3, 3]


async def test_least_busy_assignment_does_not_move_the_round_robin(backstage: Backstage) -> None:
    account = await backstage.account()
    users = await backstage.users(account, 3)
    in_turn = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "round_robin"})
    )
    least_busy = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "least_busy"})
    )
    contacts = await backstage.contacts(account, 1)
    turns = []
    for _ in users:
        turns += users_of((await backstage.perform_first(in_turn, contacts)).outcomes)
        await backstage.perform_first(least_busy, contacts)
    assert turns == users


async def test_a_batch_makes_a_fixed_number_of_statements(backstage: Backstage) -> None:
    account = await backstage.account()
    await backstage.users(account, 3)
    version = await backstage.workflow(
        account, ("assign_to_user", {"assignment_type": "round_robin"})
    )
    contacts = await backstage.contacts(account, 20)
    assert (await backstage.perform_first(version, contacts)).statements == 4


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12),
    st.integers(1, 9),
)
def test_n_turns_over_m_users_differ_by_at_most_one(batches: list[int], m: int) -> None:
    users = [UUID(int=i + 1) for i in range(m)]
    last, given_ = None, Counter(dict.fromkeys(users, 0))
    for n in batches:
        round_ = Round(users, [0] * m, last)
        given_.update(user for _ in range(n) if (user := round_.next_in_turn()))
        last = round_.last
    assert max(given_.values()) - min(given_.values()) <= 1


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9), st.integers(0, 60))
def test_the_least_busy_is_always_one_of_the_least_busy(loads: list[int], n: int) -> None:
    users = [UUID(int=i + 1) for i in range(len(loads))]
    round_ = Round(users, list(loads))
    now = dict(zip(users, loads, strict=True))
    for _ in range(n):
        user = round_.next_least_busy()
        assert user is not None
        assert now[user] == min(now.values())
        now[user] += 1


def test_nobody_is_given_by_an_empty_round() -> None:
    assert Round([], []).next_in_turn() is None
    assert Round([], []).next_least_busy() is None


def test_the_place_in_the_order_outlives_the_user() -> None:
    users = [UUID(int=i) for i in (10, 30, 40)]
    assert Round(users, [0] * 3, last=UUID(int=20)).next_in_turn() == users[1]
    assert Round(users, [0] * 3, last=UUID(int=50)).next_in_turn() == users[0]


def test_a_specific_assignment_without_user_is_incomplete() -> None:
    with pytest.raises(ValidationError) as caught:
        AssignToUser.model_validate_json('{"assignment_type": "specific"}')
    assert caught.value.errors()[0]["type"] == "incomplete"


async def test_a_notification_is_written_once_however_often_it_is_sent(
    backstage: Backstage, house: House
) -> None:
    account = await backstage.account()
    (user,) = await backstage.users(account, 1)
    effect = _effect(account.id, user)
    assert notification_in_app.EFFECT.open is not None
    async with notification_in_app.EFFECT.open(house) as tools:
        first = await notification_in_app.send(effect, tools)
        assert isinstance(first, Sent)
        assert await notification_in_app.send(effect, tools) == first
    rows = await backstage.pool.fetch("select * from notifications")
    assert [(r["user_id"], r["title"], r["message"]) for r in rows] == [(user, "T", "M")]


async def test_a_notification_of_a_user_who_is_gone_is_refused(backstage: Backstage) -> None:
    account, other = await backstage.account(), await backstage.account()
    (stranger,) = await backstage.users(other, 1)
    result = await notification_in_app.send(_effect(account.id, stranger), backstage.pool)
    assert isinstance(result, Failure)
    assert (result.code, result.retryable) == ("user_not_found", False)


async def test_a_database_that_is_away_is_worth_another_try(dsn: str) -> None:
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=1)
    pool.terminate()
    result = await notification_in_app.send(_effect(uuid4(), uuid4()), pool)
    assert isinstance(result, Failure)
    assert result.retryable


def _effect(account: UUID, user: UUID) -> Effect:
    request = notification_in_app.request(user, "T", "M", uuid4())
    return Effect(uuid4(), account, request.kind, 1, "key", request.request)
