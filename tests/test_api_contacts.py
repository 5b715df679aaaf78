"""Contacts over the API."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk

ONE = "/api/v1/contacts"
BULK = "/api/v1/contacts/bulk"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def editor(desk: Desk) -> Caller:
    return await desk.caller(role="editor")


async def define_fields(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "insert into custom_fields (account_id, key, field_type)"
        " select id, f.key, f.kind from accounts,"
        " (values ('score', 'number'), ('born', 'date')) as f (key, kind)"
    )


async def test_a_contact_is_kept_as_given_and_normalised_beside(
    editor: Caller, pool: asyncpg.Pool
) -> None:
    await define_fields(pool)
    owner = await pool.fetchval("select id from users")
    made = await editor.call(
        "POST",
        ONE,
        {
            "first_name": " Ada ",
            "email": "Ada@Example.com",
            "phone": "(415) 555-2671",
            "time_zone": "europe/london",
            "owner_id": str(owner),
            "custom_fields": {"score": "12", "born": "1815-12-10"},
        },
    )
    assert made.status == 201
    assert (made.data["first_name"], made.data["email"]) == ("Ada", "Ada@Example.com")
    assert made.data["time_zone"] == "Europe/London"
    assert made.data["owner_id"] == str(owner)
    assert made.data["custom_fields"] == {"score": 12, "born": "1815-12-10"}
    assert await editor.get(made.headers["Location"]) == made.data
    [row] = await pool.fetch("select * from contacts")
    assert row["email_normalized"] == "ada@example.com"
    assert row["phone_normalized"] == "+14155552671"
    [event] = await pool.fetch("select * from domain_events")
    assert (event["event_type"], event["contact_id"]) == ("contact_created", row["id"])


async def test_an_address_belongs_to_one_contact(editor: Caller) -> None:
    await editor.post(ONE, {"email": "ada@example.com"})
    refusal = await editor.refused("POST", ONE, {"email": "ADA@example.com"})
    assert (refusal.status, refusal.code) == (409, "contact_email_taken")
    found = await editor.get(ONE, email="aDa@example.com")
    assert [contact["email"] for contact in found["items"]] == ["ada@example.com"]
    assert (await editor.refused("GET", f"{ONE}?email=nobody")).faults == [
        ("email", "email_unusable")
    ]


async def test_every_wrong_field_is_named(editor: Caller, pool: asyncpg.Pool) -> None:
    await define_fields(pool)
    wrong = {
        "email": "nobody",
        "phone": "12",
        "time_zone": "Mars/Olympus",
        "owner_id": "00000000-0000-0000-0000-000000000000",
        "custom_fields": {"scroe": 1, "born": "yesterday"},
    }
    codes = [
        ("email", "email_unusable"),
        ("phone", "phone_unusable"),
        ("time_zone", "time_zone_unknown"),
        ("owner_id", "user_unknown"),
        ("custom_fields.scroe", "custom_field_unknown"),
        ("custom_fields.born", "custom_field_unusable"),
    ]
    assert (await editor.refused("POST", ONE, wrong)).faults == codes
    refusal = await editor.refused("POST", BULK, {"contacts": [{}, wrong]})
    assert refusal.faults == [(f"contacts[1].{path}", code) for path, code in codes]
    assert await pool.fetchval("select count(*) from contacts") == 0


async def test_of_many_contacts_those_with_taken_addresses_are_skipped(editor: Caller) -> None:
    old = await editor.post(ONE, {"email": "old@example.com"})
    made = await editor.post(
        BULK,
        {
            "contacts": [
                {"email": "b@example.com"},
                {"email": "Old@example.com"},
                {"email": "a@example.com"},
                {"email": "B@example.com"},
                {"first_name": "Nameless"},
                {"first_name": "Nameless"},
            ]
        },
    )
    assert (made["created"], made["skipped"]) == (4, 2)
    outcomes = [outcome["outcome"] for outcome in made["outcomes"]]
    assert outcomes == ["created", "skipped", "created", "skipped", "created", "created"]
    assert made["outcomes"][1] == {
        "contact_id": old["id"],
        "outcome": "skipped",
        "reason": "email_taken",
    }
    assert made["outcomes"][3]["contact_id"] == made["outcomes"][0]["contact_id"]


async def test_contacts_are_listed_by_pages(editor: Caller) -> None:
    made = await editor.post(BULK, {"contacts": [{"first_name": str(n)} for n in range(5)]})
    ids = sorted(outcome["contact_id"] for outcome in made["outcomes"])
    page = await editor.get(ONE, limit="3")
    rest = await editor.get(ONE, limit="3", cursor=page["next_cursor"])
    assert [contact["id"] for contact in page["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
