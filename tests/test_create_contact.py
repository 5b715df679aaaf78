"""create_contact: requirement R3.1."""

import asyncio
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from actors.contact_matching import Draft, _match
from actors.create_contact import ACTION, CreateContact
from runtime.stage import Item
from tests.backstage import Backstage, Performed
from tests.world import World


def _others(rows: list[asyncpg.Record], *known: UUID) -> list[asyncpg.Record]:
    return [row for row in rows if row["id"] not in known]


async def test_create_contact_action(backstage: Backstage) -> None:
    """It creates a contact from context and static values and triggers contact_created for it."""
    account = await backstage.account(country="DE", time_zone="Europe/Berlin")
    await backstage.custom_field(account, "plan", "choice", ["Basic", "Pro"])
    await backstage.custom_field(account, "seats", "number")
    await backstage.custom_field(account, "since", "datetime")
    source = await backstage.contact(account, first_name="Ada", email="ada@example.com")
    config = {
        "first_name": "Friend of {{contact.first_name}}",
        "last_name": " {{contact.nothing}} ",
        "email": "{{trigger.email}}",
        "phone": "0171 1234567",
        "custom_fields": {"plan": "pro", "seats": "{{trigger.seats}}", "since": "2026-07-01T12:00"},
    }

    done = await backstage.perform(
        ACTION, (account, source, config), email=" Bob@Example.COM ", seats="12.50"
    )

    contact = await backstage.row("contacts", done.result["contact_id"])
    assert done.result == {
        "contact_id": str(contact["id"]),
        "created": True,
        "changed_fields": [],
    }
    assert (contact["first_name"], contact["last_name"]) == ("Friend of Ada", None)
    assert (contact["email"], contact["email_normalized"]) == ("Bob@Example.COM", "bob@example.com")
    assert (contact["phone"], contact["phone_normalized"]) == ("0171 1234567", "+491711234567")
    assert contact["custom_fields"] == {
        "plan": "Pro",
        "seats": 12.5,
        "since": "2026-07-01T10:00:00+00:00",
    }
    assert contact["is_duplicate"] is False
    assert contact["created_at"] == contact["updated_at"] == done.stage.now
    (event,) = done.events
    assert (event.event_type, event.contact_id) == ("contact_created", contact["id"])
    assert event.payload == {"contact_id": str(contact["id"]), "is_duplicate": False}


@pytest.mark.parametrize(
    "config",
    [
        {"email": "ADA@example.com", "first_name": "Other"},
        {"phone": "202.555.0123", "first_name": "Other"},
        {"email": "new@example.com", "phone": "+1 (202) 555-0123"},
        {"email": "ada@example.com", "phone": "+1 202 555 0199"},
    ],
)
async def test_skip_is_the_default_and_gives_the_existing_contact(
    backstage: Backstage, config: dict[str, str]
) -> None:
    account = await backstage.account()
    source = await backstage.contact(account)
    ada = await backstage.contact(
        account, first_name="Ada", email="ada@example.com", phone="+12025550123"
    )
    before = await backstage.row("contacts", ada)

    done = await backstage.perform(ACTION, (account, source, config))

    assert done.result == {"contact_id": str(ada), "created": False, "changed_fields": []}
    assert done.events == []
    assert await backstage.row("contacts", ada) == before
    assert len(await backstage.rows("contacts", account)) == 2


async def test_update_sets_what_was_given_and_emits_contact_updated_of_that_contact(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    await backstage.custom_field(account, "plan")
    source = await backstage.contact(account)
    ada = await backstage.contact(
        account,
        first_name="Ada",
        last_name="Byron",
        email="ada@example.com",
        custom_fields={"plan": "basic", "kept": 1},
    )
    config = {
        "first_name": "",
        "last_name": "Lovelace",
        "email": "Ada@example.com",
        "phone": "202-555-0123",
        "custom_fields": {"plan": "pro"},
        "duplicate_handling": "update",
    }

    done = await backstage.perform(ACTION, (account, source, config))

    changed = ["last_name", "email", "phone", "custom_fields.plan"]
    assert done.result == {"contact_id": str(ada), "created": False, "changed_fields": changed}
    row = await backstage.row("contacts", ada)
    assert (row["first_name"], row["last_name"]) == ("Ada", "Lovelace")
    assert (row["email"], row["email_normalized"]) == ("Ada@example.com", "ada@example.com")
    assert row["phone_normalized"] == "+12025550123"
    assert row["custom_fields"] == {"plan": "pro", "kept": 1}
    assert row["updated_at"] == done.stage.now
    (event,) = done.events
    assert (event.event_type, event.contact_id) == ("contact_updated", ada)
    assert event.payload == {"contact_id": str(ada), "changed_fields": changed}
    log = {(c.contact_id, c.field): (c.old, c.new) for c in done.changes}
    assert log == {
        (ada, "last_name"): ("Byron", "Lovelace"),
        (ada, "email"): ("ada@example.com", "Ada@example.com"),
        (ada, "phone"): (None, "202-555-0123"),
        (ada, "custom_fields.plan"): ("basic", "pro"),
    }

    again = await backstage.perform(ACTION, (account, source, config))
    assert (again.result["changed_fields"], again.events, again.changes) == ([], [], [])


async def test_updating_the_steps_own_contact_shows_in_later_merge_fields(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    ada = await backstage.contact(account, email="ada@example.com")
    config = {"email": "{{contact.email}}", "first_name": "Ada", "duplicate_handling": "update"}

    done = await backstage.perform(ACTION, (account, ada, config))

    assert done.result["contact_id"] == str(ada)
    assert done.items[0].contact["first_name"] == "Ada"


async def test_create_duplicate_makes_a_marked_row_and_the_first_one_stays_the_match(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    source = await backstage.contact(account)
    config = {"email": "ada@example.com", "duplicate_handling": "create_duplicate"}

    first = await backstage.perform(ACTION, (account, source, config))
    second = await backstage.perform(ACTION, (account, source, config))
    found = await backstage.perform(ACTION, (account, source, {"email": "ada@example.com"}))

    assert first.result["created"] is second.result["created"] is True
    ids = [UUID(done.result["contact_id"]) for done in (first, second)]
    assert [(await backstage.row("contacts", i))["is_duplicate"] for i in ids] == [False, True]
    assert second.events[0].payload["is_duplicate"] is True
    assert found.result["contact_id"] == str(ids[0])


async def test_a_duplicate_by_phone_with_an_email_of_its_own_owns_that_email(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    source = await backstage.contact(account, phone="+12025550123")
    config = {
        "email": "bob@example.com",
        "phone": "+12025550123",
        "duplicate_handling": "create_duplicate",
    }

    made = await backstage.perform(ACTION, (account, source, config))
    found = await backstage.perform(ACTION, (account, source, {"email": "bob@example.com"}))

    assert made.result["created"] is True
    assert found.result["contact_id"] == made.result["contact_id"]


@pytest.mark.parametrize("handling", ["skip", "update"])
@pytest.mark.parametrize("key", [{"email": "ada@example.com"}, {"phone": "+1 202 555 0123"}])
async def test_the_same_address_twice_in_a_batch_ends_as_one_contact(
    backstage: Backstage, handling: str, key: dict[str, str]
) -> None:
    account, theirs = await backstage.account(), await backstage.account()
    contacts = [await backstage.contact(account) for _ in range(3)]
    stranger = await backstage.contact(theirs)
    steps = [
        (account, c, {**key, "first_name": f"n{n}", "duplicate_handling": handling})
        for n, c in enumerate(contacts)
    ]

    done = await backstage.perform(ACTION, *steps, (theirs, stranger, {**key, "first_name": "x"}))

    assert [result["created"] for result in done.results] == [True, False, False, True]
    assert len({result["contact_id"] for result in done.results}) == 2
    (made,) = _others(await backstage.rows("contacts", account), *contacts)
    assert made["first_name"] == ("n0" if handling == "skip" else "n2")
    kinds = [event.event_type for event in done.events if event.account_id == account.id]
    assert kinds == ["contact_created"] + (["contact_updated"] * 2 if handling == "update" else [])


@pytest.mark.parametrize("key", [{"email": "ada@example.com"}, {"phone": "+1 202 555 0123"}])
@pytest.mark.parametrize("handling", ["skip", "update", "create_duplicate"])
async def test_two_workers_that_make_the_same_address_end_with_one_contact(
    backstage: Backstage, handling: str, key: dict[str, str]
) -> None:
    account = await backstage.account()
    one, two = await backstage.contact(account), await backstage.contact(account)

    async with backstage.performing(ACTION, (account, one, {**key, "first_name": "A"})) as first:
        config = {**key, "first_name": "B", "duplicate_handling": handling}
        rival = asyncio.create_task(backstage.perform(ACTION, (account, two, config)))
        await backstage.until_somebody_waits_for_a_lock()
    second = await rival

    assert first.result["created"] is True
    made = _others(await backstage.rows("contacts", account), one, two)
    if handling == "create_duplicate":
        assert sorted(row["is_duplicate"] for row in made) == [False, True]
    else:
        assert second.result["created"] is False
        assert second.result["contact_id"] == first.result["contact_id"]
        assert [row["first_name"] for row in made] == ["B" if handling == "update" else "A"]


async def test_a_worker_that_rolls_back_leaves_the_address_to_the_other(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    one, two = await backstage.contact(account), await backstage.contact(account)
    config = {"email": "ada@example.com"}

    rivals: list[asyncio.Task[Performed]] = []

    async def roll_back() -> None:
        async with backstage.performing(ACTION, (account, one, config)):
            rivals.append(asyncio.create_task(backstage.perform(ACTION, (account, two, config))))
            await backstage.until_somebody_waits_for_a_lock()
            raise RollBackError

    with pytest.raises(RollBackError):
        await roll_back()
    second = await rivals[0]

    assert second.result["created"] is True
    assert len(await backstage.rows("contacts", account)) == 3


class RollBackError(Exception):
    """Ends a transaction without commit."""


async def test_an_address_taken_by_somebody_who_takes_no_phone_locks_is_found(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    source, other = await backstage.contact(account), await backstage.contact(account)
    async with backstage.pool.acquire() as db, db.transaction():
        imported = await db.fetchval(
            "INSERT INTO contacts (account_id, email, email_normalized)"
            " VALUES ($1, 'ada@example.com', 'ada@example.com') RETURNING id",
            account.id,
        )
        batch = asyncio.create_task(
            backstage.perform(
                ACTION,
                (account, source, {"email": "ada@example.com"}),
                (account, other, {"email": "ben@example.com"}),
            )
        )
        await backstage.until_somebody_waits_for_a_lock()
    done = await batch

    assert [result["created"] for result in done.results] == [False, True]
    assert done.results[0]["contact_id"] == str(imported)


async def test_other_accounts_contacts_are_never_a_match(backstage: Backstage) -> None:
    account, theirs = await backstage.account(), await backstage.account()
    source = await backstage.contact(account)
    stranger = await backstage.contact(theirs, email="ada@example.com", phone="+12025550123")
    config = {"email": "ada@example.com", "phone": "+12025550123", "duplicate_handling": "update"}

    done = await backstage.perform(ACTION, (account, source, config))

    assert done.result["created"] is True
    assert (await backstage.row("contacts", stranger))["updated_at"] < done.stage.now


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ({"first_name": "{{contact.nothing}}", "email": " "}, "contact_empty", "neither name"),
        ({"email": "{{contact.last_name}}"}, "email_unusable", "no e-mail address"),
        ({"first_name": "x", "phone": "{{'12'}}"}, "phone_unusable", "nor of US"),
        ({"first_name": "x", "phone": "0171 1234567"}, "phone_unusable", "nor of US"),
        ({"first_name": "x", "custom_fields": {"plam": 1}}, "custom_field_unknown", "mean 'plan'"),
        ({"first_name": "x", "custom_fields": {"plan": "y"}}, "custom_field_unusable", "no number"),
    ],
)
async def test_what_cannot_be_used_fails_alone_and_says_why_without_quoting_it(
    backstage: Backstage, config: dict[str, Any], code: str, message: str
) -> None:
    account = await backstage.account()
    await backstage.custom_field(account, "plan", "number")
    source, other = (
        await backstage.contact(account, last_name="Byron"),
        await backstage.contact(account),
    )

    failed = await backstage.perform(ACTION, (account, source, config))
    both = await backstage.perform(
        ACTION, (account, source, config), (account, other, {"first_name": "Fine"})
    )

    assert failed.reason == code
    assert message in failed.message
    assert "Byron" not in failed.message
    assert both.reasons == [code, None]
    (made,) = _others(await backstage.rows("contacts", account), source, other)
    assert made["first_name"] == "Fine"


async def test_contact_created_starts_downstream_workflows_for_the_new_contact(
    world: World,
) -> None:
    welcome = await world.workflow(
        ("add_note", {"content": "Welcome {{contact.first_name}}"}),
        trigger={"event_type": "contact_created"},
        name="Downstream",
    )
    referral = await world.workflow(
        ("create_contact", {"email": "{{trigger.friend}}", "first_name": "Bob"}),
        ("add_note", {"content": "Referred {{steps.create_contact_0.contact_id}}"}),
        name="Referral",
    )
    ada = await world.contact(first_name="Ada")

    await world.run(referral, ada, context={"friend": "bob@x.test"})

    bob = await world.pool.fetchval("SELECT id FROM contacts WHERE first_name = 'Bob'")
    runs = await world.pool.fetch(
        "SELECT contact_id, status FROM workflow_executions WHERE workflow_id = $1", welcome
    )
    assert [tuple(run) for run in runs] == [(bob, "completed")]
    notes = await world.pool.fetch("SELECT contact_id, content FROM notes")
    assert {tuple(note) for note in notes} == {(bob, "Welcome Bob"), (ada, f"Referred {bob}")}


async def test_a_batch_makes_a_constant_number_of_statements(backstage: Backstage) -> None:
    account = await backstage.account()
    await backstage.custom_field(account, "plan")
    contacts = [await backstage.contact(account) for _ in range(20)]
    steps = [
        (
            account,
            contact,
            {
                "email": f"{n % 15}@example.com",
                "phone": f"+1 202 555 01{n:02}",
                "custom_fields": {"plan": str(n)},
                "duplicate_handling": "update",
            },
        )
        for n, contact in enumerate(contacts)
    ]
    done = await backstage.perform(ACTION, *steps)
    assert sum(result["created"] for result in done.results) == 15
    # Custom fields, phone locks, look, insert, lock what is updated, update.
    assert done.statements == 6


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({}, "incomplete"),
        ({"custom_fields": {"plan": "pro"}}, "incomplete"),
        ({"email": ""}, "incomplete"),
        ({"email": "nobody"}, "email_unusable"),
        ({"email": " "}, "incomplete"),
        ({"phone": "12"}, "phone_unusable"),
        ({"phone": "call me"}, "phone_unusable"),
        ({"phone": "+999 123456"}, "phone_unusable"),
        ({"first_name": "x" * 201}, "text_too_long"),
        ({"last_name": "x" * 201}, "text_too_long"),
        ({"email": "{{"}, "template_error"),
        ({"first_name": 5}, "string_type"),
        ({"first_name": "x", "duplicate_handling": "merge"}, "literal_error"),
        ({"first_name": "x", "custom_fields": {"No Key": 1}}, "string_pattern_mismatch"),
        ({"first_name": "x", "custom_fields": {"plan": "{{"}}, "template_error"),
        ({"first_name": "x", "age": 5}, "extra_forbidden"),
    ],
)
def test_a_wrong_config_is_refused(config: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateContact.model_validate_json(orjson.dumps(config))
    assert caught.value.errors()[0]["type"] == error


class _Step:
    """Stands for an item where only the account counts."""

    account_id = UUID(int=1)


def _columns(addresses: dict[str, str]) -> dict[str, str]:
    return addresses | {f"{kind}_normalized": address for kind, address in addresses.items()}


_ADDRESS = st.sampled_from(["a", "b", "c"])
_DRAFTS = st.lists(
    st.tuples(
        st.sampled_from(["skip", "update", "create_duplicate"]),
        st.fixed_dictionaries({}, optional={"email": _ADDRESS, "phone": _ADDRESS}),
    ),
    max_size=12,
)


@given(wanted=_DRAFTS)
def test_no_batch_makes_two_unmarked_contacts_of_one_email(
    wanted: list[tuple[Any, dict[str, str]]],
) -> None:
    owners: dict[Any, UUID] = {}
    drafts = [
        Draft(cast("Item", _Step()), handling, _columns(given_), {}) for handling, given_ in wanted
    ]
    for draft in drafts:
        _match(draft, owners)
    made = {draft.contact_id for draft in drafts if draft.is_created}
    unmarked = [d.columns["email"] for d in drafts
                if d.is_created and not d.is_duplicate and "email" in d.columns]  # fmt: skip
    assert len(unmarked) == len(set(unmarked))
    assert all(draft.contact_id in made for draft in drafts)
