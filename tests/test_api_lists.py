"""Lists of the API: pages, orders, filters, sparse fields; held to their laws on contacts."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import campaigns, notes, opportunities, tasks
from api.contacts import CONTACTS
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk

ALL = "/api/v1/contacts"
BULK = "/api/v1/contacts/bulk"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def editor(desk: Desk) -> Caller:
    return await desk.caller(role="editor")


async def names(editor: Caller, **query: str) -> list[str]:
    items = (await editor.get(ALL, **query))["items"]
    return [item["first_name"] for item in items]


async def test_a_list_is_sorted_by_the_key_that_is_asked_for(editor: Caller) -> None:
    for first, last in (("Ada", "Lovelace"), ("Alan", "turing"), ("Grace", "Hopper")):
        await editor.post(ALL, {"first_name": first, "last_name": last})
    assert await names(editor) == ["Grace", "Alan", "Ada"]
    assert await names(editor, sort="created_at") == ["Ada", "Alan", "Grace"]
    assert await names(editor, sort="name") == ["Grace", "Ada", "Alan"]
    assert await names(editor, sort="-name") == ["Alan", "Ada", "Grace"]


async def test_what_a_list_does_not_know_is_refused_with_the_nearest_word(editor: Caller) -> None:
    refusal = await editor.refused("GET", f"{ALL}?sort=-creatd_at")
    assert refusal.faults == [("sort", "sort_unknown")]
    assert "'created_at'" in refusal.data["detail"]
    refusal = await editor.refused("GET", f"{ALL}?fields=id,frist_name")
    assert refusal.faults == [("fields", "unknown_field")]
    assert "'first_name'" in refusal.data["detail"]
    refusal = await editor.refused("GET", f"{ALL}?serach=ada")
    assert refusal.faults == [("serach", "unknown_field")]
    assert "'search'" in refusal.data["detail"]


async def test_a_list_shows_the_fields_that_are_asked_for(editor: Caller) -> None:
    made = await editor.post(ALL, {"first_name": "Ada", "email": "ada@x.test"})
    page = await editor.get(ALL, fields="email, id")
    assert page["items"] == [{"email": "ada@x.test", "id": made["id"]}]


async def test_a_cursor_is_good_for_its_own_sort_and_filters_only(desk: Desk) -> None:
    editor, other = await desk.caller(), await desk.caller("Other")
    for caller in (editor, other):
        await caller.post(BULK, {"contacts": [{"first_name": str(n)} for n in range(3)]})
    page = await editor.get(ALL, limit="1", sort="name")
    cursor = page["next_cursor"]
    assert await names(editor, sort="name", cursor=cursor) == ["1", "2"]
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(cursor)[:8] + b'["a", "b"]').decode()
    for caller, query in (
        (editor, f"cursor={cursor}"),
        (editor, f"cursor={cursor}&sort=-name"),
        (editor, f"cursor={cursor}&sort=name&search=x"),
        (other, f"cursor={cursor}&sort=name"),
        (editor, f"cursor={forged}&sort=name"),
        (editor, "cursor=AAAA"),
        (editor, "cursor=é"),
    ):
        refusal = await caller.refused("GET", f"{ALL}?{query}")
        assert refusal.faults == [("cursor", "cursor_unusable")]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    people=st.lists(st.sampled_from([None, "a", "B", "é", "Z"]), max_size=9),
    late=st.lists(st.sampled_from([None, "a", "b", "z"]), max_size=4),
    limit=st.integers(1, 4),
    sort=st.sampled_from(["name", "-name", "created_at", "-created_at"]),
)
async def test_all_pages_together_hold_what_was_there_once_and_in_order(
    desk: Desk, people: list[str | None], late: list[str | None], limit: int, sort: str
) -> None:
    await desk.pool.execute("DELETE FROM contacts")
    account = await desk.caller()
    if people:
        await account.post(BULK, {"contacts": [{"last_name": name} for name in people]})
    added = [(ALL, {"last_name": name}) for name in late]
    assert await walk_beside(account, ALL, added, limit=str(limit), sort=sort) == len(people)


TASKS = "/api/v1/tasks"


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    due=st.lists(
        st.sampled_from([None, "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"]),
        min_size=3,
        max_size=6,
    ),
    limit=st.integers(1, 3),
    sort=st.sampled_from(["due_at", "-due_at", "created_at", "-created_at"]),
)
async def test_what_has_no_sort_key_has_its_place_in_the_order_too(
    desk: Desk, due: list[str | None], limit: int, sort: str
) -> None:
    await desk.pool.execute("DELETE FROM contacts")
    account = await desk.caller()
    contact = await account.post(ALL, {"first_name": "Ada"})
    bodies = [(TASKS, {"title": "T", "contact_id": contact["id"], "due_at": at}) for at in due]
    for path, body in bodies:
        await account.post(path, body)
    assert await walk_beside(account, TASKS, bodies[:3], limit=str(limit), sort=sort) == len(due)


async def walk_beside(
    caller: Caller, place: str, late: list[tuple[str, dict[str, Any]]], **query: str
) -> int:
    """Walk all pages while more is added between them; gives how many were there before.

    What was there must be seen once each, in the order in which one large page has it.
    """
    whole = await caller.get(place, limit="200", sort=query["sort"])
    expected = [item["id"] for item in whole["items"]]
    page = await caller.get(place, **query)
    seen = [item["id"] for item in page["items"]]
    while page["next_cursor"]:
        if late:
            await caller.post(*late.pop())
        page = await caller.get(place, cursor=page["next_cursor"], **query)
        seen += [item["id"] for item in page["items"]]
    assert len(seen) == len(set(seen))
    assert [id_ for id_ in seen if id_ in set(expected)] == expected
    return len(expected)


async def test_contacts_are_found_by_beginnings_and_last_digits(editor: Caller) -> None:
    for first, last, email, phone in (
        ("Ada", "Lovelace", "ada@example.com", "+1 415 555 2671"),
        ("Alan", "Turing", "turing@bletchley.test", "+44 20 7946 0958"),
        ("Adam", None, None, None),
    ):
        body = {"first_name": first, "last_name": last, "email": email, "phone": phone}
        await editor.post(ALL, {name: value for name, value in body.items() if value})
    for search, found in {
        "ad": ["Adam", "Ada"],
        "ADA LOVE": ["Ada"],
        "turing@": ["Alan"],
        "lace": [],
        "(020) 7946-0958": ["Alan"],
        "+14155552671": ["Ada"],
        "2671": ["Ada"],
        "%": [],
        "": ["Adam", "Alan", "Ada"],
    }.items():
        assert await names(editor, search=search) == found, search
    refusal = await editor.refused("GET", f"{ALL}?search=a+b+c+d+e+f")
    assert refusal.faults == [("search", "too_many_words")]


async def test_contacts_are_filtered(editor: Caller, pool: asyncpg.Pool) -> None:
    await pool.execute(
        "INSERT INTO custom_fields (account_id, key, field_type)"
        " SELECT id, f.key, f.kind FROM accounts,"
        " (VALUES ('score', 'number'), ('company', 'text')) AS f (key, kind)"
    )
    owner = await pool.fetchval("SELECT id FROM users")
    ada = await editor.post(ALL, {"first_name": "Ada", "custom_fields": {"score": 1}})
    bob = await editor.post(ALL, {"first_name": "Bob", "custom_fields": {"company": "x:y"}})
    await editor.post(ALL, {"first_name": "Cy", "owner_id": str(owner)})
    await pool.execute(
        "WITH tag AS (INSERT INTO tags (account_id, name) SELECT id, 'vip' FROM accounts"
        " RETURNING *)"
        " INSERT INTO contact_tags (account_id, contact_id, tag_id, added_at)"
        " SELECT account_id, $1, id, now() FROM tag",
        ada["id"],
    )
    tag = str(await pool.fetchval("SELECT id FROM tags"))
    assert await names(editor, tag_id=tag) == ["Ada"]
    assert await names(editor, owner_id=str(owner)) == ["Cy"]
    assert await names(editor, custom_field="score:1.0") == ["Ada"]
    assert await names(editor, custom_field="company:x:y") == ["Bob"]
    assert await names(editor, created_from=bob["created_at"]) == ["Cy", "Bob"]
    assert await names(editor, created_before=bob["created_at"], sort="name") == ["Ada"]
    for query, fault in {
        "custom_field=scroe:1": ("custom_field", "custom_field_unknown"),
        "custom_field=score:many": ("custom_field", "custom_field_unusable"),
        "created_from=2026-01-01T00:00:00": ("created_from", "timezone_aware"),
        "created_from=0001-01-01T00:00:00%2B14:00": ("created_from", "date_out_of_range"),
        "email=nobody": ("email", "email_unusable"),
    }.items():
        assert (await editor.refused("GET", f"{ALL}?{query}")).faults == [fault]


PEOPLE = 40_000


async def test_pages_of_many_contacts_are_ranges_of_an_index(pool: asyncpg.Pool) -> None:
    account = await pool.fetchval("INSERT INTO accounts (name) VALUES ('Large') RETURNING id")
    await pool.execute(
        "INSERT INTO contacts (account_id, first_name, last_name, email, email_normalized,"
        " phone_normalized, created_at)"
        " SELECT $1, md5(n::text), md5(n || 'x'), n || '@x.test', n || '@x.test',"
        " '+1' || (4150000000 + n), now() - n * interval '1 second'"
        " FROM generate_series(1, $2::integer) n",
        account,
        PEOPLE,
    )
    await pool.execute("ANALYZE contacts")
    later = ("2026-01-01 00:00:00+00", "018f0000-0000-7000-8000-000000000000")
    plans = {
        "created": (("-created_at", (), 1, True), (account, *later, 51)),
        "first page": (("-created_at", (), 1, False), (account, 51)),
        "by name": (("name", (), 1, True), (account, *later, 51)),
        "search": (("name", ("word", "word"), 1, False), (account, "abc", "def", 51)),
        "phone": (("name", ("digits",), 1, False), (account, "176", 51)),
        "email": (("name", ("email",), 1, False), (account, "7@x.test", 51)),
    }
    for name, (composed, arguments) in plans.items():
        await assert_a_range(pool, name, CONTACTS.compose(*composed), arguments)


async def test_pages_of_much_crm_data_are_ranges_of_an_index(pool: asyncpg.Pool) -> None:
    account = await pool.fetchval("INSERT INTO accounts (name) VALUES ('Large') RETURNING id")
    contact = await pool.fetchval(
        "INSERT INTO contacts (account_id) VALUES ($1) RETURNING id", account
    )
    async with pool.acquire() as db, db.transaction():
        await db.execute("SET LOCAL session_replication_role = replica")
        for table, columns, values in (
            ("tasks", "title, due_at", "'T', now() + n * interval '1 hour'"),
            ("notes", "content", "'N'"),
            ("opportunities", "pipeline_id, stage_id, name", "$2, $2, 'O'"),
            ("campaign_enrollments", "campaign_id, enrolled_at", "$2, now() + n * interval '1 s'"),
        ):
            await db.execute(
                f"INSERT INTO {table} (account_id, contact_id, {columns})"
                f" SELECT $1, $2, {values} FROM generate_series(1, 20000) n",
                account,
                contact,
            )
            await db.execute(f"ANALYZE {table}")
    later = ("2027-01-01 00:00:00+00", "018f0000-0000-7000-8000-000000000000", 51)
    for name, text, own in (
        ("due", tasks.LIST.compose("due_at", (), 1, True), ()),
        ("new tasks", tasks.LIST.compose("-created_at", (), 1, True), ()),
        ("notes", notes.LIST.compose("-created_at", (), 1, True), ()),
        ("opportunities", opportunities.LIST.compose("-created_at", (), 1, True), ()),
        ("enrolments", campaigns.ENROLLMENTS.compose("-enrolled_at", (), 2, True), (contact,)),
    ):
        await assert_a_range(pool, name, text, (account, *own, *later))


async def assert_a_range(
    pool: asyncpg.Pool, name: str, text: str, arguments: tuple[Any, ...]
) -> None:
    [plan] = await pool.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", *arguments)
    assert rows_looked_at(plan["Plan"]) < PEOPLE / 20, f"{name}: {plan}"


def rows_looked_at(node: dict[str, Any]) -> int:
    """Rows that a plan read from tables, kept or not."""
    own = 0
    if "Scan" in node["Node Type"]:
        dropped = node.get("Rows Removed by Filter", 0) + node.get(
            "Rows Removed by Index Recheck", 0
        )
        own = (node["Actual Rows"] + dropped) * node["Actual Loops"]
    return int(own + sum(map(rows_looked_at, node.get("Plans", ()))))
