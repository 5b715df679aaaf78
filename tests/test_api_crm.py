"""CRM data over the API: what goes for every resource, and each one's own story."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk

API = "/api/v1"
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def admin(desk: Desk) -> Caller:
    return await desk.caller()


async def make(caller: Caller, what: str, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = await caller.post(f"{API}/{what}", body)
    return made


async def patch(caller: Caller, path: str, **body: Any) -> dict[str, Any]:
    answer = await caller.call("PATCH", f"{API}/{path}", body)
    assert answer.status == 200, answer.data
    changed: dict[str, Any] = answer.data
    return changed


async def events(pool: asyncpg.Pool, event_type: str) -> list[dict[str, Any]]:
    rows = await pool.fetch(
        "SELECT payload FROM domain_events WHERE event_type = $1 ORDER BY id", event_type
    )
    return [row["payload"] for row in rows]


async def a_contact(caller: Caller) -> str:
    contact_id: str = (await make(caller, "contacts", first_name="Ada"))["id"]
    return contact_id


async def a_pipeline(caller: Caller) -> dict[str, Any]:
    return await make(caller, "pipelines", name="Sales", stages=["Lead", "Offer"])


async def a_body(caller: Caller, what: str) -> dict[str, Any]:
    """A body that makes one."""
    match what:
        case "tags":
            return {"name": "VIP", "color": "#fff"}
        case "custom-fields":
            return {"key": "company"}
        case "campaigns":
            return {"name": "Spring", "workflow_id": (await caller.workflow())[-36:]}
        case "pipelines":
            return {"name": "Sales", "stages": ["Lead", "Offer"]}
        case "opportunities":
            pipeline = await a_pipeline(caller)
            return {
                "name": "Deal",
                "contact_id": await a_contact(caller),
                "pipeline_id": pipeline["id"],
            }
        case "tasks":
            return {"title": "Call", "contact_id": await a_contact(caller)}
        case "notes":
            return {"content": "Hello", "contact_id": await a_contact(caller)}
        case "users":
            return {"email": "kim@x.test", "name": "Kim"}
        case _:
            return {"name": "Sales"}


RESOURCES: dict[str, dict[str, Any]] = {
    "tags": {"name": "Gold"},
    "custom-fields": {"label": "Company"},
    "campaigns": {"name": "Summer", "status": "active", "enrollment_limit": 5},
    "pipelines": {"name": "Service"},
    "opportunities": {"name": "Big deal", "value": "1000.50", "status": "won"},
    "tasks": {"title": "Write", "due_at": "2030-01-01T10:00:00Z", "priority": "high"},
    "notes": {"content": "Good bye"},
    "users": {
        "name": "Kim Li",
        "role": "viewer",
        "is_available": False,
        "phone": "+14155550155",
    },
    "teams": {"name": "Support"},
}
RECORDED = ("tags", "custom-fields", "campaigns", "pipelines", "users", "teams")


async def test_a_row_is_made_read_listed_changed_and_deleted(desk: Desk) -> None:
    for what in RESOURCES:
        await row_lives_and_goes(await desk.caller(what), desk, what)


async def row_lives_and_goes(admin: Caller, desk: Desk, what: str) -> None:
    body = await a_body(admin, what)
    answer = await admin.call("POST", f"{API}/{what}", body)
    assert answer.status == 201
    made, place = answer.data, answer.headers["Location"]
    assert place == f"{API}/{what}/{made['id']}"
    shown = await admin.get(place)
    assert shown == made
    listed = (await admin.get(f"{API}/{what}"))["items"]
    assert made.items() >= next(item for item in listed if item["id"] == made["id"]).items()

    changed = await patch(admin, place.removeprefix(f"{API}/"), **RESOURCES[what])
    wanted = {"value": "1000.5000"} if what == "opportunities" else {}
    assert changed.items() >= (RESOURCES[what] | wanted).items()
    assert changed["updated_at"] > made["updated_at"]
    assert await admin.get(place) == changed
    assert await patch(admin, place.removeprefix(f"{API}/"), **RESOURCES[what]) == changed

    if what == "pipelines":
        assert changed["stages"] == made["stages"]
    await admin.delete(place)
    assert (await admin.refused("GET", place)).status == 404
    assert (await admin.refused("DELETE", place)).status == 404
    word = what.replace("-", "_").removesuffix("s")
    log = await desk.pool.fetch(
        "SELECT action FROM audit_log WHERE entity_type = $1 AND entity_id = $2 ORDER BY id",
        word,
        made["id"],
    )
    told = [f"{word}.created", f"{word}.changed", f"{word}.deleted"]
    assert [row["action"] for row in log] == (told if what in RECORDED else [])


async def test_another_account_s_row_is_not_there(admin: Caller, desk: Desk) -> None:
    for what, change in RESOURCES.items():
        other = await desk.caller(what)
        place = f"{API}/{what}/{(await make(other, what, **await a_body(other, what)))['id']}"
        nowhere = f"{API}/{what}/{NOBODY}"
        for method, body in (("GET", None), ("PATCH", change), ("DELETE", None)):
            theirs = await admin.refused(method, place, body)
            nobodys = await admin.refused(method, nowhere, body)
            assert theirs.status == nobodys.status == 404
            assert theirs.data | {"request_id": ""} == nobodys.data | {"request_id": ""}
        assert (await other.get(place))["id"] in place


REFERENCES = (
    ("campaigns", "workflow_id", "workflow"),
    ("opportunities", "contact_id", "contact"),
    ("opportunities", "pipeline_id", "pipeline"),
    ("opportunities", "stage_id", "stage"),
    ("opportunities", "owner_id", "user"),
    ("tasks", "contact_id", "contact"),
    ("tasks", "assignee_id", "user"),
    ("notes", "contact_id", "contact"),
    ("teams", "member_ids", "user"),
)


async def test_a_reference_into_another_account_is_unknown(admin: Caller, desk: Desk) -> None:
    other = await desk.caller("Other")
    pipeline = await a_pipeline(other)
    theirs = {
        "workflow": (await other.workflow())[-36:],
        "contact": await a_contact(other),
        "pipeline": pipeline["id"],
        "stage": pipeline["stages"][0]["id"],
        "user": (await make(other, "users", email="kim@x.test"))["id"],
    }
    for what, field, kind in REFERENCES:
        body = await a_body(admin, what)
        for unknown in (theirs[kind], NOBODY):
            given = [unknown] if field == "member_ids" else unknown
            path = "member_ids[0]" if field == "member_ids" else field
            refusal = await admin.refused("POST", f"{API}/{what}", body | {field: given})
            assert refusal.status == 422
            assert refusal.faults == [(path, f"{kind}_unknown")]


async def test_of_many_who_take_a_name_at_once_one_gets_it(admin: Caller) -> None:
    for what, code in (
        ("tags", "tag_name_taken"),
        ("teams", "team_name_taken"),
        ("users", "user_email_taken"),
        ("custom-fields", "custom_field_key_taken"),
    ):
        body = await a_body(admin, what)
        calls = [admin.call("POST", f"{API}/{what}", body) for _ in range(5)]
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
        assert {answer.code for answer in answers if answer.status == 409} == {code}


async def test_who_may_only_look_changes_nothing(desk: Desk) -> None:
    viewer, editor = await desk.caller(role="viewer"), await desk.caller(role="editor")
    for what in RESOURCES:
        assert (await viewer.call("GET", f"{API}/{what}")).status == 200
        assert (await viewer.refused("POST", f"{API}/{what}", {})).code == "permission_denied"
    for what in ("users", "teams"):
        assert (await editor.refused("POST", f"{API}/{what}", {})).code == "permission_denied"


async def test_a_contact_is_changed_field_by_field(admin: Caller, pool: asyncpg.Pool) -> None:
    for key in ("company", "city"):
        await make(admin, "custom-fields", key=key)
    made = await make(
        admin,
        "contacts",
        first_name="Ada",
        email="ada@x.test",
        custom_fields={"company": "Acme", "city": "Paris"},
    )
    path = f"contacts/{made['id']}"
    changed = await patch(
        admin,
        path,
        email=None,
        last_name="Lovelace",
        custom_fields={"company": None, "city": "London"},
    )
    assert changed == made | {
        "email": None,
        "last_name": "Lovelace",
        "custom_fields": {"city": "London"},
        "updated_at": changed["updated_at"],
    }
    assert await patch(admin, path, last_name="Lovelace") == changed
    log = await pool.fetch("SELECT * FROM contact_field_changes ORDER BY field")
    assert [(row["field"], row["old_value"], row["new_value"]) for row in log] == [
        ("custom_fields.city", "Paris", "London"),
        ("custom_fields.company", "Acme", None),
        ("email", "ada@x.test", None),
        ("last_name", None, "Lovelace"),
    ]
    assert {row["user_id"] for row in log} == {await pool.fetchval("SELECT id FROM users")}
    [told] = await events(pool, "contact_updated")
    assert sorted(told["changed_fields"]) == [row["field"] for row in log]
    row = await pool.fetchrow("SELECT email_normalized FROM contacts")
    assert row is not None
    assert row["email_normalized"] is None


async def test_an_address_cannot_be_taken_from_another_contact(admin: Caller) -> None:
    await make(admin, "contacts", email="ada@x.test")
    bob = await make(admin, "contacts", email="bob@x.test")
    path = f"{API}/contacts/{bob['id']}"
    refusal = await admin.refused("PATCH", path, {"email": "ADA@x.test"})
    assert (refusal.status, refusal.code) == (409, "contact_email_taken")
    refusal = await admin.refused("PATCH", path, {"email": "x", "owner_id": NOBODY, "nick": 1})
    assert refusal.faults == [("nick", "unknown_field")]
    refusal = await admin.refused("PATCH", path, {"email": "x", "owner_id": NOBODY})
    assert refusal.faults == [("email", "email_unusable"), ("owner_id", "user_unknown")]
    assert (await admin.get(path)) == bob


async def test_tags_are_given_and_taken_with_the_events_of_the_actions(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    contact, tag = await a_contact(admin), await make(admin, "tags", name="VIP")
    place = f"{API}/contacts/{contact}/tags"
    for _ in range(2):
        shown = await admin.put(f"{place}/{tag['id']}", None)
        assert [item["name"] for item in shown["items"]] == ["VIP"]
    assert await admin.get(place) == shown
    for _ in range(2):
        await admin.delete(f"{place}/{tag['id']}")
    assert await admin.get(place) == {"items": []}
    told = {"tag_id": tag["id"], "tag_name": "VIP"}
    assert await events(pool, "tag_added") == [told]
    assert await events(pool, "tag_removed") == [told]
    refusal = await admin.refused("PUT", f"{place}/{NOBODY}")
    assert (refusal.status, refusal.code) == (404, "tag_not_found")
    refusal = await admin.refused("PUT", f"{API}/contacts/{NOBODY}/tags/{tag['id']}")
    assert refusal.code == "contact_not_found"


async def test_a_timeline_tells_what_happened_page_by_page(admin: Caller) -> None:
    contact = await a_contact(admin)
    await patch(admin, f"contacts/{contact}", last_name="Lovelace")
    place, seen = f"{API}/contacts/{contact}/timeline", []
    page = await admin.get(place, limit="1")
    while True:
        seen += [item["what"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        page = await admin.get(place, limit="1", cursor=page["next_cursor"])
    assert seen[-1] == "event contact_created"
    assert sorted(seen[:-1]) == ["changed last_name", "event contact_updated"]
    assert (await admin.refused("GET", f"{API}/contacts/{NOBODY}/timeline")).status == 404


async def test_an_opportunity_moves_with_history_and_event(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    pipeline, other = (
        await a_pipeline(admin),
        await make(admin, "pipelines", name="X", stages=["N"]),
    )
    lead, offer = (stage["id"] for stage in pipeline["stages"])
    contact = await a_contact(admin)
    body = {"name": "Deal", "contact_id": contact, "pipeline_id": pipeline["id"], "value": "10.25"}
    deal = await make(admin, "opportunities", **body)
    assert (deal["stage_id"], deal["value"], deal["currency"]) == (lead, "10.2500", "USD")
    path = f"opportunities/{deal['id']}"
    await patch(admin, path, stage_id=offer)
    moved = await patch(admin, path, stage_id=other["stages"][0]["id"])
    assert moved["pipeline_id"] == other["id"]
    assert moved["stage_entered_at"] > deal["stage_entered_at"]
    history = (await admin.get(f"{API}/{path}/history"))["items"]
    stages = [lead, offer, other["stages"][0]["id"]]
    assert [(move["from_stage_id"], move["to_stage_id"]) for move in history] == list(
        zip([None, *stages[:-1]], stages, strict=True)
    )
    told = await events(pool, "stage_changed")
    assert [event["to_stage_id"] for event in told] == stages[1:]
    assert told[0]["opportunity_id"] == deal["id"]
    refusal = await admin.refused(
        "POST", f"{API}/opportunities", body | {"stage_id": other["stages"][0]["id"]}
    )
    assert refusal.faults == [("stage_id", "stage_unknown")]
    for value in ("-1", "1.23456", "NaN", "1e30", "ten"):
        refusal = await admin.refused("POST", f"{API}/opportunities", body | {"value": value})
        assert [path for path, _ in refusal.faults] == ["value"]


async def test_an_opportunity_is_worth_what_it_was_when_its_value_was_set(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    async def rate(per_euro: str) -> None:
        rates = [{"currency": "USD", "valid_on": "2026-01-02", "per_euro": per_euro}]
        await admin.put(f"{API}/currency-rates", {"rates": rates})

    pipeline, contact = await a_pipeline(admin), await a_contact(admin)
    body = {"name": "Deal", "contact_id": contact, "pipeline_id": pipeline["id"]}
    await rate("1.25")
    deal = await make(admin, "opportunities", **body, value="100", currency="EUR")

    def worth(shown: dict[str, Any]) -> tuple[Any, ...]:
        value: Any = shown["account_value"] and Decimal(shown["account_value"])
        return value, shown["account_currency"], shown["rate_valid_on"]

    assert worth(deal) == (125, "USD", "2026-01-02")
    [told] = await events(pool, "opportunity_created")
    assert told["opportunity_id"] == deal["id"]
    assert Decimal(told["account_value"]) == 125
    assert told["stage_id"] == deal["stage_id"]
    path = f"opportunities/{deal['id']}"
    await rate("2")
    assert worth(await patch(admin, path, name="Larger deal")) == (125, "USD", "2026-01-02")
    assert worth(await patch(admin, path, value="200")) == (400, "USD", "2026-01-02")
    assert worth(await patch(admin, path, currency="USD")) == (200, "USD", None)
    assert worth(await patch(admin, path, value=None)) == (None, None, None)
    unknown = await make(admin, "opportunities", **body, value="5", currency="XAU")
    assert worth(unknown) == (None, None, None)


async def test_stages_are_made_renamed_put_in_order_and_deleted(admin: Caller) -> None:
    pipeline = await a_pipeline(admin)
    place = f"{API}/pipelines/{pipeline['id']}/stages"

    def names(shown: dict[str, Any]) -> list[str]:
        assert [stage["position"] for stage in shown["stages"]] == list(range(len(shown["stages"])))
        return [stage["name"] for stage in shown["stages"]]

    shown = await admin.post(place, {"name": "Call", "position": 1})
    assert names(shown) == ["Lead", "Call", "Offer"]
    ids = [stage["id"] for stage in shown["stages"]]
    shown = (await admin.call("PATCH", f"{place}/{ids[1]}", {"name": "Visit"})).data
    assert names(shown) == ["Lead", "Visit", "Offer"]
    shown = await admin.post(f"{place}/reorder", {"stage_ids": ids[::-1]})
    assert names(shown) == ["Offer", "Visit", "Lead"]
    shown = (await admin.call("DELETE", f"{place}/{ids[1]}")).data
    assert names(shown) == ["Offer", "Lead"]
    for method, path, body, code in (
        ("POST", "", {"name": "Late", "position": 3}, "position_out_of_range"),
        ("POST", "/reorder", {"stage_ids": [ids[0], ids[0]]}, "not_a_permutation"),
        ("PATCH", f"/{ids[1]}", {"name": "Gone"}, "stage_not_found"),
        ("DELETE", f"/{ids[0]}?move_to={ids[0]}", None, "stage_unknown"),
    ):
        assert (await admin.refused(method, f"{place}{path}", body)).code == code
    calls = [admin.call("POST", place, {"name": f"S{n}", "position": 0}) for n in range(4)]
    assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    assert len(names(await admin.get(f"{API}/pipelines/{pipeline['id']}"))) == 6


async def test_a_stage_that_holds_opportunities_says_where_they_go(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    pipeline = await a_pipeline(admin)
    lead, offer = (stage["id"] for stage in pipeline["stages"])
    body = {"name": "Deal", "contact_id": await a_contact(admin), "pipeline_id": pipeline["id"]}
    deal = await make(admin, "opportunities", **body)
    place = f"{API}/pipelines/{pipeline['id']}"
    assert (await admin.refused("DELETE", f"{place}/stages/{lead}")).code == "stage_not_empty"
    assert (await admin.refused("DELETE", place)).code == "pipeline_not_empty"
    answer = await admin.call("DELETE", f"{place}/stages/{lead}?move_to={offer}")
    assert [stage["id"] for stage in answer.data["stages"]] == [offer]
    moved = await admin.get(f"{API}/opportunities/{deal['id']}")
    assert moved["stage_id"] == offer
    [told] = await events(pool, "stage_changed")
    assert (told["from_stage_id"], told["to_stage_id"]) == (lead, offer)
    assert len((await admin.get(f"{API}/opportunities/{deal['id']}/history"))["items"]) == 2


async def test_a_task_is_done_called_off_and_taken_up_again(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    contact = await a_contact(admin)
    late = await make(admin, "tasks", title="Late", contact_id=contact)
    soon = await make(
        admin, "tasks", title="Soon", contact_id=contact, due_at="2030-01-01T00:00:00Z"
    )
    page = await admin.get(f"{API}/tasks", limit="1")
    rest = await admin.get(f"{API}/tasks", cursor=page["next_cursor"])
    assert [item["id"] for item in page["items"] + rest["items"]] == [soon["id"], late["id"]]
    assert [told["task_id"] for told in await events(pool, "task_created")] == [
        late["id"],
        soon["id"],
    ]
    place = f"{API}/tasks/{soon['id']}"
    done = await admin.post(f"{place}/complete")
    assert (done["status"], done["completed_at"]) == ("done", done["updated_at"])
    assert await admin.post(f"{place}/complete") == done
    assert (await admin.post(f"{place}/reopen"))["completed_at"] is None
    assert (await admin.post(f"{place}/cancel"))["status"] == "cancelled"
    listed = await admin.get(f"{API}/tasks", status="open", fields="title")
    assert listed["items"] == [{"title": "Late"}]


async def test_the_last_admin_stays(admin: Caller, desk: Desk) -> None:
    [first] = (await admin.get(f"{API}/users"))["items"]
    place = f"{API}/users/{first['id']}"
    for method, body in (
        ("PATCH", {"role": "editor"}),
        ("PATCH", {"is_active": False}),
        ("DELETE", None),
    ):
        refusal = await admin.refused(method, place, body)
        assert (refusal.status, refusal.code) == (409, "last_admin")
    second = await make(admin, "users", email="kim@x.test", role="admin")
    places = [place, f"{API}/users/{second['id']}"]
    calls = [admin.call("PATCH", one, {"role": "viewer"}) for one in places]
    assert sorted(answer.status for answer in await asyncio.gather(*calls)) in (
        [200, 409],
        [200, 403],  # who was demoted first was the one who asked
    )
    admins = await desk.pool.fetchval("SELECT count(*) FROM users WHERE role = 'admin'")
    assert admins == 1


async def test_who_is_deactivated_may_do_nothing_and_keeps_what_is_theirs(
    admin: Caller, desk: Desk
) -> None:
    editor = await desk.caller(role="editor")
    user = await desk.pool.fetchval("SELECT id FROM users WHERE role = 'editor'")
    contact = await make(admin, "contacts", owner_id=str(user))
    refusal = await admin.refused("DELETE", f"{API}/users/{user}")
    assert (refusal.status, refusal.code) == (409, "user_in_use")
    gone = await patch(admin, f"users/{user}", is_active=False)
    assert (gone["is_active"], gone["is_available"]) == (False, False)
    assert (await editor.refused("GET", f"{API}/tags")).status == 401
    assert (await admin.get(f"{API}/contacts/{contact['id']}"))["owner_id"] == str(user)
    await patch(admin, f"users/{user}", is_active=True)
    assert (await editor.call("GET", f"{API}/tags")).status == 200


async def test_a_custom_field_changes_as_far_as_what_is_held_fits(admin: Caller) -> None:
    field = await make(admin, "custom-fields", key="score", field_type="text")
    place, path = f"{API}/custom-fields/{field['id']}", f"custom-fields/{field['id']}"
    one = await make(admin, "contacts", custom_fields={"score": "12"})
    two = await make(admin, "contacts", custom_fields={"score": "many"})

    async def held(contact: dict[str, Any]) -> Any:
        return (await admin.get(f"{API}/contacts/{contact['id']}"))["custom_fields"].get("score")

    refusal = await admin.refused("PATCH", place, {"field_type": "number"})
    assert (refusal.status, refusal.code) == (409, "values_do_not_fit")
    await patch(admin, f"contacts/{two['id']}", custom_fields={"score": "3.50"})
    await patch(admin, path, field_type="number")
    assert [await held(one), await held(two)] == [12, 3.5]
    await patch(admin, path, field_type="choice", options=["12", "3.5", "9"])
    assert [await held(one), await held(two)] == ["12", "3.5"]
    await patch(admin, path, options=["12", "3.5"])
    refusal = await admin.refused("PATCH", place, {"options": ["12"]})
    assert refusal.code == "values_do_not_fit"
    for options in ([], ["a", "A"]):
        refusal = await admin.refused("PATCH", place, {"options": options})
        assert refusal.faults == [("options", "options_unusable")]
    refusal = await admin.refused("PATCH", place, {"key": "points"})
    assert refusal.faults == [("key", "unknown_field")]
    assert (await admin.refused("DELETE", place)).code == "custom_field_in_use"
    await admin.delete(f"{place}?force=true")
    assert await held(one) is None


async def test_a_campaign_counts_and_lists_its_enrolments(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    campaign = await make(admin, "campaigns", **await a_body(admin, "campaigns"))
    contact = await a_contact(admin)
    await pool.execute(
        "INSERT INTO campaign_enrollments (account_id, campaign_id, contact_id, enrolled_at)"
        " SELECT account_id, $1, id, now() FROM contacts",
        campaign["id"],
    )
    place = f"{API}/campaigns/{campaign['id']}"
    assert (await admin.get(place))["enrollments"] == {"active": 1, "completed": 0, "removed": 0}
    [enrolment] = (await admin.get(f"{place}/enrollments", status="active"))["items"]
    assert enrolment["contact_id"] == contact
    await admin.delete(place)
    row = await pool.fetchrow("SELECT status FROM campaigns")
    assert row is not None
    assert row["status"] == "ended"


async def test_the_account_changes_itself(admin: Caller, pool: asyncpg.Pool) -> None:
    changed = await patch(admin, "account", time_zone="europe/paris", currency="EUR", country="FR")
    assert (changed["time_zone"], changed["name"]) == ("Europe/Paris", "Acme")
    assert await admin.get(f"{API}/account") == changed
    refusal = await admin.refused(
        "PATCH", f"{API}/account", {"time_zone": "Mars", "currency": "EURO", "country": "fr"}
    )
    assert refusal.faults == [
        ("time_zone", "time_zone_unknown"),
        ("currency", "currency_unknown"),
        ("country", "country_unknown"),
    ]
    assert await pool.fetchval("SELECT action FROM audit_log") == "account.changed"
