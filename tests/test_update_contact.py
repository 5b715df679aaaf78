"""update_contact: requirement R3.2."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from pydantic import ValidationError

from actors.update_contact import ACTION, UpdateContact
from runtime.stage import Account
from tests.backstage import Backstage
from tests.world import World


def _set(field: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"field_updates": [{"field": field, "value": value, **more}]}


async def test_updates_fields_logs_each_change_and_emits_contact_updated(
    backstage: Backstage,
) -> None:
    account = await backstage.account(country="DE")
    await backstage.custom_field(account, "plan", "choice", ["Basic", "Pro"])
    owner = await backstage.user(account, name="Olga")
    contact = await backstage.contact(
        account, first_name="ada", last_name="Byron", custom_fields={"kept": 1}
    )
    config = {
        "field_updates": [
            {"field": "first_name", "value": "{{contact.first_name | title}}"},
            {"field": "last_name", "value": "Byron"},
            {"field": "email", "value": " Ada@Example.com "},
            {"field": "phone", "value": "0171 1234567"},
            {"field": "time_zone", "value": "europe/berlin"},
            {"field": "owner_id", "value": str(owner)},
            {"field": "custom_fields.plan", "value": "pro"},
        ]
    }

    done = await backstage.perform(ACTION, (account, contact, config))

    changed = ["first_name", "email", "phone", "time_zone", "owner_id", "custom_fields.plan"]
    assert done.result == {"updated": True, "changed_fields": changed}
    row = await backstage.row("contacts", contact)
    assert (row["first_name"], row["last_name"]) == ("Ada", "Byron")
    assert (row["email"], row["email_normalized"]) == ("Ada@Example.com", "ada@example.com")
    assert (row["phone"], row["phone_normalized"]) == ("0171 1234567", "+491711234567")
    assert (row["time_zone"], row["owner_id"]) == ("Europe/Berlin", owner)
    assert row["custom_fields"] == {"kept": 1, "plan": "Pro"}
    assert row["updated_at"] == done.stage.now
    (event,) = done.events
    assert (event.event_type, event.contact_id) == ("contact_updated", contact)
    assert event.payload == {"contact_id": str(contact), "changed_fields": changed}
    assert [(c.field, c.old, c.new) for c in done.changes] == [
        ("first_name", "ada", "Ada"),
        ("email", None, "Ada@Example.com"),
        ("phone", None, "0171 1234567"),
        ("time_zone", None, "Europe/Berlin"),
        ("owner_id", None, str(owner)),
        ("custom_fields.plan", None, "Pro"),
    ]
    # Fused steps read the contact as it is now.
    in_hand = done.items[0].contact
    stored = {name: value for name, value in row.items() if name in in_hand}
    assert in_hand == stored | {"owner": in_hand["owner"]}
    assert in_hand["owner"]["name"] == "Olga"


async def test_what_changes_nothing_emits_and_logs_and_writes_nothing(backstage: Backstage) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account, first_name="Ada")
    before = await backstage.row("contacts", contact)
    done = await backstage.perform(ACTION, (account, contact, _set("first_name", " Ada ")))
    assert done.result == {"updated": False, "changed_fields": []}
    assert (done.events, done.changes) == ([], [])
    assert await backstage.row("contacts", contact) == before


@pytest.mark.parametrize(
    ("value", "kept"), [(None, False), ("", False), ("{{contact.nothing}}", True), (" ", False)]
)
@pytest.mark.parametrize("field", ["first_name", "email", "owner_id", "custom_fields.plan"])
async def test_null_and_empty_clear_a_field_and_merge_fields_that_render_empty_leave_it(
    backstage: Backstage, field: str, value: str | None, kept: bool
) -> None:
    account = await backstage.account()
    await backstage.custom_field(account, "plan")
    contact = await backstage.contact(
        account,
        first_name="Ada",
        email="ada@example.com",
        owner_id=await backstage.user(account),
        custom_fields={"plan": "pro"},
    )
    done = await backstage.perform(ACTION, (account, contact, _set(field, value)))
    assert done.result["updated"] is not kept
    row = await backstage.row("contacts", contact)
    stored = row["custom_fields"].get("plan") if "." in field else row[field]
    assert (stored is not None) is kept
    if field == "email":
        assert (row["email_normalized"] is not None) is kept


@pytest.mark.parametrize(
    ("field_type", "old", "update", "stored"),
    [
        ("text", None, {"value": "a"}, "a"),
        ("text", "a", {"value": "b"}, "a, b"),
        ("text", "a", {"value": "b", "separator": "\n"}, "a\nb"),
        ("text", "a", {"value": "{{contact.nothing}}"}, "a"),
        ("multi_choice", None, {"value": "x"}, ["X"]),
        ("multi_choice", ["Y"], {"value": ["x", "y"]}, ["Y", "X"]),
    ],
)
async def test_append_joins_text_and_adds_choices(
    backstage: Backstage, field_type: str, old: Any, update: dict[str, Any], stored: Any
) -> None:
    account = await backstage.account()
    await backstage.custom_field(account, "f", field_type, ["X", "Y"])
    contact = await backstage.contact(account, custom_fields={} if old is None else {"f": old})
    config = {**_set("custom_fields.f", **update), "update_mode": "append"}
    await backstage.perform(ACTION, (account, contact, config))
    assert (await backstage.row("contacts", contact))["custom_fields"] == {"f": stored}


async def test_names_can_be_appended_to(backstage: Backstage) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account, first_name="Ada")
    config = _set("first_name", "Augusta", mode="append", separator=" ")
    await backstage.perform(ACTION, (account, contact, config))
    assert (await backstage.row("contacts", contact))["first_name"] == "Ada Augusta"


@pytest.mark.parametrize(
    ("old", "by", "stored"),
    [
        (None, 5, 5),
        (0.1, "0.2", 0.3),
        (5, -7.5, -2.5),
        (1, "{{trigger.amount}}", 20.99),
        (2.5, 2.5, 5),
        (3, "{{contact.nothing}}", 3),
    ],
)
async def test_increment_adds_decimals_and_a_missing_number_counts_as_zero(
    backstage: Backstage, old: float | None, by: Any, stored: float
) -> None:
    account = await backstage.account()
    await backstage.custom_field(account, "n", "number")
    contact = await backstage.contact(account, custom_fields={} if old is None else {"n": old})
    config = _set("custom_fields.n", by, mode="increment")
    await backstage.perform(ACTION, (account, contact, config), amount="19.99")
    assert (await backstage.row("contacts", contact))["custom_fields"] == {"n": stored}


async def test_updates_of_a_step_happen_in_their_order(backstage: Backstage) -> None:
    account = await backstage.account()
    await backstage.custom_field(account, "n", "number")
    contact = await backstage.contact(account)
    config = {
        "update_mode": "increment",
        "field_updates": [
            {"field": "custom_fields.n", "value": 10, "mode": "set"},
            {"field": "custom_fields.n", "value": 5},
            {"field": "custom_fields.n", "value": 5},
        ],
    }
    done = await backstage.perform(ACTION, (account, contact, config))
    assert [(c.old, c.new) for c in done.changes] == [(None, 20)]


@pytest.mark.parametrize(
    ("update", "code"),
    [
        ({"field": "email", "value": "{{contact.last_name}}"}, "email_unusable"),
        ({"field": "phone", "value": "{{contact.last_name}}"}, "phone_unusable"),
        ({"field": "time_zone", "value": "{{contact.last_name}}"}, "time_zone_unknown"),
        ({"field": "time_zone", "value": "{{'../../etc/passwd'}}"}, "time_zone_unknown"),
        ({"field": "time_zone", "value": "{{'localtime'}}"}, "time_zone_unknown"),
        ({"field": "owner_id", "value": "{{contact.last_name}}"}, "reference_unusable"),
        ({"field": "first_name", "value": "{{contact.last_name}}" * 9}, "text_too_long"),
        ({"field": "custom_fields.nn", "value": 1}, "custom_field_unknown"),
        ({"field": "custom_fields.n", "value": "{{contact.last_name}}"}, "custom_field_unusable"),
        ({"field": "custom_fields.n", "value": 1, "mode": "append"}, "custom_field_unusable"),
        ({"field": "custom_fields.t", "value": 1, "mode": "increment"}, "custom_field_unusable"),
        ({"field": "custom_fields.b", "value": 1, "mode": "increment"}, "custom_field_unusable"),
        ({"field": "custom_fields.n", "value": 999999999999999, "mode": "increment"},
         "custom_field_unusable"),
        ({"field": "custom_fields.t", "value": "{{contact.last_name}}", "mode": "append",
          "separator": "{{trigger.long}}"}, "text_too_long"),
    ],
)  # fmt: skip
async def test_one_update_that_cannot_be_used_fails_its_step_whole_and_alone(
    backstage: Backstage, update: dict[str, Any], code: str
) -> None:
    account = await backstage.account()
    for key, field_type in (("n", "number"), ("t", "text"), ("b", "boolean")):
        await backstage.custom_field(account, key, field_type)
    name = "Byron of Rochdale, the sixth"
    contact = await backstage.contact(account, last_name=name, custom_fields={"n": 1, "t": "x"})
    other = await backstage.contact(account)
    before = await backstage.row("contacts", contact)
    config = {"field_updates": [{"field": "last_name", "value": "changed"}, update]}

    done = await backstage.perform(
        ACTION,
        (account, contact, config),
        (account, other, _set("first_name", "Fine")),
        long="y" * 10_000,
    )

    assert done.reasons == [code, None]
    assert name not in done.outcomes[0].failure.message  # type: ignore[union-attr]
    assert await backstage.row("contacts", contact) == before
    assert done.items[0].contact["last_name"] == name
    assert {change.contact_id for change in done.changes} == {other}


async def test_an_owner_of_another_account_does_not_exist(backstage: Backstage) -> None:
    account, theirs = await backstage.account(), await backstage.account()
    contact, foreign = await backstage.contact(account), await backstage.user(theirs)
    refused = await backstage.perform(ACTION, (account, contact, _set("owner_id", str(foreign))))
    unknown = await backstage.perform(ACTION, (account, contact, _set("owner_id", str(uuid4()))))
    assert refused.reason == "owner_not_found"
    assert refused.outcomes == unknown.outcomes


async def _clash(backstage: Backstage, account: Account) -> tuple[UUID, UUID]:
    holder = await backstage.contact(account, email="ada@example.com")
    return holder, await backstage.contact(account, email="bob@example.com")


async def test_an_email_that_another_contact_has_fails_and_names_that_contact(
    backstage: Backstage,
) -> None:
    account, theirs = await backstage.account(), await backstage.account()
    holder, contact = await _clash(backstage, account)
    stranger = await backstage.contact(theirs)

    done = await backstage.perform(
        ACTION,
        (account, contact, _set("email", "ADA@example.com")),
        (theirs, stranger, _set("email", "ada@example.com")),
    )

    assert done.reasons == ["email_taken", None]
    assert str(holder) in done.outcomes[0].failure.message  # type: ignore[union-attr]
    assert "example.com" not in done.outcomes[0].failure.message  # type: ignore[union-attr]
    assert (await backstage.row("contacts", contact))["email"] == "bob@example.com"


async def test_of_two_contacts_in_a_batch_that_take_one_email_the_first_gets_it(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    one, two = await backstage.contact(account), await backstage.contact(account)
    marked = await backstage.contact(account, is_duplicate=True)
    config = _set("email", "ada@example.com")
    done = await backstage.perform(ACTION, *((account, c, config) for c in (marked, one, two)))
    assert done.reasons == [None, None, "email_taken"]


async def test_an_email_changed_only_in_its_letters_case_is_no_conflict(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    _, contact = await _clash(backstage, account)
    done = await backstage.perform(ACTION, (account, contact, _set("email", "Bob@example.com")))
    assert done.result["changed_fields"] == ["email"]


async def test_of_two_workers_that_take_one_email_the_loser_sees_it_when_performed_again(
    backstage: Backstage,
) -> None:
    account = await backstage.account()
    one, two = await backstage.contact(account), await backstage.contact(account)
    config = _set("email", "ada@example.com")

    async with backstage.performing(ACTION, (account, one, config)):
        rival = asyncio.create_task(backstage.perform(ACTION, (account, two, config)))
        await backstage.until_somebody_waits_for_a_lock()
    with pytest.raises(asyncpg.UniqueViolationError):
        await rival
    again = await backstage.perform(ACTION, (account, two, config))

    assert again.reason == "email_taken"
    assert (await backstage.row("contacts", two))["email"] is None


async def test_the_engine_fails_only_the_step_that_lost_the_race_for_an_email(
    world: World,
) -> None:
    contacts = await world.contacts(8)
    workflow = await world.workflow(
        ("update_contact", _set("email", "new-{{contact.first_name}}@x.test"))
    )
    runs = [e.execution_id for e in await world.enrol(workflow, *contacts)]

    async with world.side.acquire() as db, db.transaction():
        await db.execute(
            "INSERT INTO contacts (account_id, email, email_normalized)"
            " VALUES ($1, 'new-p3@x.test', 'new-p3@x.test')",
            world.account_id,
        )
        engine = asyncio.create_task(world.settle())
        await Backstage(world.pool).until_somebody_waits_for_a_lock()
    await engine

    ends = [(await world.steps(run))[0]["error_code"] for run in runs if run]
    assert ends == [None, None, None, "email_taken", None, None, None, None]
    changes = await world.pool.fetch("SELECT contact_id, field FROM contact_field_changes")
    assert {tuple(row) for row in changes} == {(c, "email") for c in contacts if c != contacts[3]}


async def test_a_batch_of_several_accounts_makes_a_constant_number_of_statements(
    backstage: Backstage,
) -> None:
    steps = []
    for n in range(12):
        account = await backstage.account()
        await backstage.custom_field(account, "n", "number")
        updates = [
            {"field": "custom_fields.n", "value": n, "mode": "increment"},
            {"field": "email", "value": f"{n}@example.com"},
            {"field": "owner_id", "value": str(await backstage.user(account))},
        ]
        steps.append((account, await backstage.contact(account), {"field_updates": updates}))
    done = await backstage.perform(ACTION, *steps)
    assert all(result["updated"] for result in done.results[1:])
    assert done.statements == 4


async def test_standard_fields_cost_one_write_and_no_look(backstage: Backstage) -> None:
    account = await backstage.account()
    steps = [
        (account, await backstage.contact(account), _set("first_name", f"n{n}")) for n in range(5)
    ]
    assert (await backstage.perform(ACTION, *steps)).statements == 1


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, "missing", ""),
        ({"field_updates": []}, "too_short", ""),
        (_set("frist_name", "x"), "unknown_field", "Did you mean 'first_name'?"),
        (_set("plan", "x"), "unknown_field", "custom_fields.<key>"),
        (_set("account_id", "x"), "unknown_field", ""),
        (_set("is_duplicate", True), "unknown_field", ""),
        (_set("custom_fields.", "x"), "unknown_field", ""),
        (_set("custom_fields.a.b", "x"), "unknown_field", ""),
        (_set("custom_fields.no key", "x"), "unknown_field", ""),
        (_set("email", "x", mode="append"), "mode", "email can only be set"),
        (_set("first_name", "1", mode="increment"), "mode", "cannot be incremented"),
        (_set("custom_fields.n", None, mode="increment"), "mode", "nothing to increment"),
        (_set("first_name", "x", mode="merge"), "literal_error", ""),
        (_set("first_name", "{{"), "template_error", ""),
        ({"field_updates": [{"field": "first_name"}]}, "missing", ""),
        (_set("first_name", ["x"]), "value_unusable", "field_updates[0].value"),
        (_set("owner_id", 7), "value_unusable", "takes text"),
        (_set("email", "nonsense"), "email_unusable", "field_updates[0].value"),
        (_set("phone", "12"), "phone_unusable", "no phone number"),
        (_set("time_zone", "Mars/X"), "time_zone_unknown", "Europe/Paris"),
        (_set("time_zone", "../../etc/passwd"), "time_zone_unknown", ""),
        (_set("time_zone", "localtime"), "time_zone_unknown", ""),
        (_set("owner_id", "x"), "reference_unusable", "no UUID"),
        (_set("last_name", "x" * 201), "text_too_long", "200"),
        (_set("first_name", "x" * 201, mode="append"), "text_too_long", "200"),
        (_set("custom_fields.n", "many", mode="increment"), "custom_field_unusable", "no number"),
        (_set("custom_fields.n", True, mode="increment"), "custom_field_unusable", "no number"),
    ],
)
def test_a_wrong_config_is_refused(config: dict[str, Any], error: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        UpdateContact.model_validate_json(orjson.dumps(config))
    (found,) = caught.value.errors()
    assert found["type"] == error
    assert message in found["msg"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", None),
        ("email", ""),
        ("email", " Ada@Example.com "),
        ("phone", "0171 1234567"),
        ("phone", "+1 (202) 555-0123"),
        ("phone", "4112"),
        ("time_zone", "europe/paris"),
        ("time_zone", "{{contact.custom_fields.zone}}"),
        ("owner_id", "{{trigger.owner_id}}"),
        ("owner_id", "550e8400-e29b-41d4-a716-446655440000"),
        ("custom_fields.not_yet_defined", ["x"]),
    ],
)
def test_what_may_be_right_in_some_account_is_accepted(field: str, value: object) -> None:
    UpdateContact.model_validate_json(orjson.dumps(_set(field, value)))
