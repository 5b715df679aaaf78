"""A contact's rights: all that is held on them in one document, and erasure that reaches it all."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from actors.contact_erasure import erase
from api.erasure import TABLES
from runtime.clock import current_instant
from runtime.dispatching import dispatch, opt_in, opt_out
from runtime.effect import Sent
from runtime.effect_claims import EffectClaims
from runtime.effect_recording import Ended, record
from runtime.settings import Settings
from sql import QUERIES
from tests.api_desk import Caller, open_desk
from tests.stand_ins import Counterpart, WorldWith, answer, blocked_or_done, counterpart
from tests.world import World

MAIL, PHONE, FIRST, LAST = "zebedee@secret.test", "+12125550177", "Zebedee", "Quarkington"
TEXT = ("webhook_call", {"channel": "sms", "address": "{{contact.phone}}", "calls": ["x"]})

# Tables whose column of one of these names is no contact's.
NOT_OF_CONTACTS = {"users", "sender_addresses", "erased_addresses"}


@pytest.fixture
async def side() -> AsyncIterator[Counterpart]:
    async with counterpart() as side:
        side.always = answer(body={"to": PHONE, "hello": FIRST})
        yield side


@pytest.fixture
async def world(side: Counterpart, world_with: WorldWith) -> World:
    return await world_with(side.registry())


@pytest.fixture
async def admin(world: World, settings: Settings) -> AsyncIterator[Caller]:
    async with open_desk(world.pool, settings, world.registry) as desk:
        yield await desk.caller("Acme")


async def lived(world: World, admin: Caller) -> UUID:
    """A contact that has left something in every table; gives its id."""
    made = await admin.post(
        "/api/v1/contacts",
        {"first_name": FIRST, "last_name": LAST, "email": MAIL, "phone": PHONE},
    )
    zeb = UUID(made["id"])
    workflow = await world.workflow(
        ("add_note", {"content": "Met {{contact.first_name}}"}),
        ("create_task", {"title": "Call {{contact.last_name}}"}),
        (
            "update_contact",
            {"field_updates": [{"field": "last_name", "value": "{{contact.last_name}} Jr"}]},
        ),
        ("add_tag", {"tag_name": "vip"}),
        TEXT,
        ("wait_time", {"duration": 1, "unit": "days"}),
    )
    await world.run(workflow, zeb, context={"came": MAIL}, entry_key=MAIL)
    await world.event("form_submit", zeb, payload={"text": f"I am {FIRST}"}, dedupe_key=MAIL)
    path = f"/api/v1/contacts/{zeb}/consents"
    await admin.post(path, {"channel": "sms", "is_given": True, "source": f"{FIRST} said so"})
    pipeline = await world._add("pipelines", account_id=world.account_id, name="P")
    stage = await world._add(
        "pipeline_stages", account_id=world.account_id, pipeline_id=pipeline, name="S", position=0
    )
    deal = await world._add(
        "opportunities", account_id=world.account_id, contact_id=zeb, pipeline_id=pipeline,
        stage_id=stage, name=f"Deal with {LAST}",
    )  # fmt: skip
    await world.pool.execute(
        "INSERT INTO opportunity_stage_history"
        " (account_id, opportunity_id, to_pipeline_id, to_stage_id, moved_at)"
        " VALUES ($1, $2, $3, $4, now())",
        world.account_id, deal, pipeline, stage,
    )  # fmt: skip
    await world.pool.execute(
        "INSERT INTO notifications (account_id, user_id, contact_id, title, created_at)"
        " VALUES ($1, $2, $3, $4, now())",
        world.account_id, world.user_id, zeb, f"{FIRST} is here",
    )  # fmt: skip
    await world.pool.execute(
        "INSERT INTO timers (account_id, kind, due_at, payload)"
        " SELECT $1, 'none', '2999-01-01',"
        " jsonb_build_object('contact_id', $2::uuid, 'm', $3::text)",
        world.account_id, zeb, MAIL,
    )  # fmt: skip
    await world.pool.execute(
        "INSERT INTO enrollment_refusals (account_id, workflow_id, contact_id, reason, refused_at)"
        " VALUES ($1, $2, $3, 'already_enrolled', now())",
        world.account_id, workflow, zeb,
    )  # fmt: skip
    await world.pool.execute(
        "INSERT INTO effect_reports"
        " (effect_id, provider_id, status, account_id, attempt, detail, reported_at)"
        " SELECT id, 'SM1', 'delivered', account_id, 1, jsonb_build_object('to', $1::text), now()"
        " FROM effects",
        PHONE,
    )
    await world._add(
        "messenger_people", account_id=world.account_id, page="1", psid="2", contact_id=zeb
    )
    campaign = await world._add(
        "campaigns", account_id=world.account_id, name="C", workflow_id=workflow
    )
    await world._add(
        "campaign_enrollments", account_id=world.account_id, campaign_id=campaign, contact_id=zeb,
        enrolled_at=await current_instant(world.pool), removal_reason=f"{FIRST} asked",
    )  # fmt: skip
    course = await world._add("courses", account_id=world.account_id, name="K")
    lesson = await world._add("lessons", account_id=world.account_id, course_id=course, name="One")
    await world.pool.execute(
        "INSERT INTO course_grants (id, account_id, course_id, contact_id, access_level, drip,"
        " granted_at, status, ended_at, reason)"
        " VALUES (gen_random_uuid(), $1, $2, $3, 'full', true, now(), 'revoked', now(), $4),"
        " (gen_random_uuid(), $1, $2, $3, 'full', true, now(), 'active', NULL, NULL)",
        world.account_id, course, zeb, f"{FIRST} asked",
    )  # fmt: skip
    await world.pool.execute(
        "INSERT INTO lesson_progress (account_id, course_id, lesson_id, contact_id, opened_at)"
        " VALUES ($1, $2, $3, $4, now())",
        world.account_id, course, lesson, zeb,
    )  # fmt: skip
    return zeb


async def found(pool: asyncpg.Pool, *texts: str) -> list[str]:
    """The tables in which any row holds one of these texts, whatever its case."""
    tables = await pool.fetch(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    holding = []
    for (table,) in tables:
        hit = f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text ILIKE ANY ($1::text[]))"
        if await pool.fetchval(hit, [f"%{text}%" for text in texts]):
            holding.append(table)
    return sorted(holding)


async def test_after_an_erasure_no_table_holds_name_address_or_number(
    world: World, admin: Caller
) -> None:
    zeb = await lived(world, admin)
    async with world.pool.acquire() as db:
        await opt_out(db, world.account_id, "email", MAIL, "unsubscribed")
    assert len(await found(world.pool, MAIL, PHONE, FIRST, LAST)) >= 12
    tombstone = await admin.post(f"/api/v1/contacts/{zeb}/erase")
    assert await found(world.pool, MAIL, PHONE, FIRST, LAST) == []
    assert (await admin.refused("GET", f"/api/v1/contacts/{zeb}")).status == 404
    (execution,) = await world.pool.fetch("SELECT status, end_reason FROM workflow_executions")
    assert tuple(execution) == ("cancelled", "contact_erased")
    history = await world.pool.fetch("SELECT status FROM workflow_action_executions")
    assert [row["status"] for row in history].count("completed") >= 4
    assert (await admin.call("DELETE", f"/api/v1/contacts/{zeb}")).data == tombstone
    grants = await world.pool.fetch("SELECT status, reason FROM course_grants")
    assert [tuple(row) for row in grants] == [("revoked", None)] * 2
    assert await world.pool.fetch("SELECT FROM lesson_progress") == []
    words = await world.pool.fetch("SELECT action FROM audit_log WHERE entity_id = $1", zeb)
    assert [row["action"] for row in words].count("contact_erased") == 1
    await world.advance(days=2)
    assert await found(world.pool, MAIL, PHONE, FIRST, LAST) == []


async def test_an_export_holds_everything_and_nothing_of_anybody_else(
    world: World, admin: Caller
) -> None:
    zeb = await lived(world, admin)
    await world.pool.execute('UPDATE contacts SET custom_fields = \'{"size": "XL"}\'')
    other = await world.contact(first_name="Somebodyelse", email="other@x.test")
    document = await admin.get(f"/api/v1/contacts/{zeb}/export")
    assert set(document["data"]) == set(TABLES)
    empty = {table for table, rows in document["data"].items() if not rows}
    assert empty == set()
    text = json.dumps(document)
    assert str(zeb) in text
    assert "Somebodyelse" not in text
    assert str(other) not in text
    assert (await admin.refused("GET", f"/api/v1/contacts/{UUID(int=0)}/export")).status == 404


async def test_no_table_that_knows_contacts_is_forgotten(pool: asyncpg.Pool) -> None:
    """Whoever adds one has to say what export and erasure make of it."""
    rows = await pool.fetch(
        "SELECT DISTINCT c.table_name FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE t.table_type = 'BASE TABLE' AND c.table_schema = 'public' AND c.column_name"
        " IN ('contact_id', 'effect_id', 'address', 'email', 'phone', 'from_number', 'to_number')"
    )
    tables = {row["table_name"] for row in rows} - NOT_OF_CONTACTS
    assert len(tables) > 10
    erasing = (QUERIES / "contact_erasure.sql").read_text()
    untouched = {"enrollment_refusals"}  # ids, a word and an instant
    for table in tables:
        assert table in TABLES, f"{table} is not exported"
        changed = any(f"{verb} {table} " in erasing for verb in ("UPDATE", "DELETE FROM"))
        assert changed or table in untouched, f"{table} is not erased"


async def test_an_opt_out_outlives_the_erasure_by_its_hash(
    world: World, admin: Caller, side: Counterpart
) -> None:
    zeb = await world.contact(phone=PHONE, first_name=FIRST)
    async with world.pool.acquire() as db:
        await opt_out(db, world.account_id, "sms", PHONE, "stop")
    await admin.post(f"/api/v1/contacts/{zeb}/erase")
    again, workflow = await world.contact(phone=PHONE), await world.workflow(TEXT)
    (step,) = await world.steps(await world.run(workflow, again))
    assert (step["status"], step["skip_reason"]) == ("skipped", "opted_out")
    assert await world.pool.fetchval("SELECT count(*) FROM erased_addresses") == 1
    async with world.pool.acquire() as db:
        await opt_in(db, world.account_id, "sms", PHONE)
    await world.run(workflow, again)
    assert len(side.came) == 1


async def test_without_an_opt_out_an_address_may_come_back_unless_it_is_to_be_suppressed(
    world: World, admin: Caller, side: Counterpart
) -> None:
    workflow = await world.workflow(TEXT)
    for suppress, calls in ((False, 1), (True, 1)):
        zeb = await world.contact(phone=PHONE)
        await admin.post(f"/api/v1/contacts/{zeb}/erase", {"suppress": suppress})
        await world.run(workflow, await world.contact(phone=PHONE))
        assert len(side.came) == calls


async def test_what_is_on_the_wire_when_its_contact_is_erased_writes_no_answer_down(
    world: World, admin: Caller
) -> None:
    zeb, workflow = await world.contact(phone=PHONE), await world.workflow(TEXT)
    await world.enrol(workflow, zeb)
    await world.worker._steps["webhook"].answer()
    claimed, _ = await EffectClaims(world.pool, world.worker.id).claim("webhook", 5)
    async with world.pool.acquire() as db:
        going, _ = await dispatch(db, claimed, world.worker.id)
        await admin.post(f"/api/v1/contacts/{zeb}/erase")
        now = await current_instant(db)
        await record(db, [Ended(going[0], now, now, Sent({"to": PHONE}))], world.worker.id)
    assert await found(world.pool, PHONE) == []
    assert await world.pool.fetchval("SELECT status FROM effects") == "succeeded"


async def test_an_erasure_waits_for_a_batch_that_has_the_contact_in_hand(
    world: World, conn: asyncpg.Connection
) -> None:
    zeb = await world.contact(first_name=FIRST)
    async with world.pool.acquire() as db:
        async with conn.transaction():
            await conn.execute("SELECT FROM contacts WHERE id = $1 FOR NO KEY UPDATE", zeb)

            async def erasing() -> Any:
                async with db.transaction():
                    return await erase(db, world.account_id, zeb)

            task = asyncio.ensure_future(erasing())
            await blocked_or_done(world, task)
            assert not task.done()
            await conn.execute("UPDATE contacts SET last_name = $2 WHERE id = $1", zeb, LAST)
        assert (await task).is_new
    assert await found(world.pool, FIRST, LAST) == []


async def test_only_an_admin_exports_and_erases(world: World, settings: Settings) -> None:
    zeb = await world.contact()
    async with open_desk(world.pool, settings, world.registry) as desk:
        editor, stranger = await desk.caller("Acme", "editor"), await desk.caller("Other")
        for method, end in (("GET", "/export"), ("POST", "/erase"), ("DELETE", "")):
            path = f"/api/v1/contacts/{zeb}{end}"
            assert (await editor.refused(method, path)).status == 403
            assert (await stranger.refused(method, path)).status == 404
