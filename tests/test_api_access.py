"""Who may call the API: tokens, roles, accounts."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from api import tokens
from api.access import ROLES, Permission
from api.calls import Route
from api.server import ROUTES
from api.token_commands import create_from_cli
from runtime import clock, operations
from runtime.settings import Settings
from tests.api_desk import READY, Caller, Desk, open_desk


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def test_a_token_speaks_for_a_service_user_of_its_role(conn: asyncpg.Connection) -> None:
    for role in ("editor", "admin", "editor"):
        await tokens.create_for(conn, "Acme", role, "test")
    users = await conn.fetch("SELECT email, role, is_service FROM users ORDER BY role")
    assert [tuple(user) for user in users] == [
        ("admin@callboard.invalid", "admin", True),
        ("editor@callboard.invalid", "editor", True),
    ]


def id_of(ids: dict[str, str], name: str, route: Route) -> str:
    """The id that a name stands for; a name without one fails with what there is to do."""
    if name not in ids:
        where = f"{route.method} {route.path}"
        pytest.fail(f'{where}: add a line `"{name}": …` to owned() in {__file__}', pytrace=False)
    return ids[name]


def filled(route: Route, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: id_of(ids, match[1], route), route.path)


def ids_asked_by(route: Route) -> Iterator[str]:
    """Names of a route's query parameters that hold ids."""
    fields = route.parameters.model_fields if route.parameters else {}
    return (
        field.alias or name for name, field in fields.items() if "UUID" in repr(field.annotation)
    )


def with_ids() -> Iterator[Route]:
    return (route for route in ROUTES if "{" in route.path)


BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/workflows/{workflow_id}/actions": {"action_type": "add_tag"},
    "/api/v1/workflows/{workflow_id}/actions/reorder": {"action_ids": []},
    "/api/v1/workflows/{workflow_id}/branches/{branch_id}": {"name": "x"},
    "/api/v1/workflows/{workflow_id}/graph": {"actions": []},
    "/api/v1/workflows/{workflow_id}/actions/{action_id}": {"is_enabled": False},
    "/api/v1/workflows/{workflow_id}/branches": {"name": "x"},
    "/api/v1/workflows/{workflow_id}/enroll-by-tag": {"tag_id": str(uuid4())},
    "/api/v1/workflows/{workflow_id}/enroll": {"contact_ids": [str(uuid4())]},
    "/api/v1/pipelines/{pipeline_id}/stages": {"name": "x"},
    "/api/v1/pipelines/{pipeline_id}/stages/reorder": {"stage_ids": []},
    "/api/v1/pipelines/{pipeline_id}/stages/{stage_id}": {"name": "x"},
    "/api/v1/integrations/{integration_id}": {"name": "x"},
    "/api/v1/workflows/{workflow_id}/settings": {"stop_on_reply": True},
    "/api/v1/templates/{template_id}/preview": {"contact_id": str(uuid4())},
    "/api/v1/contacts/{contact_id}/consents": {
        "channel": "sms",
        "is_given": True,
        "source": "form",
    },
    "/api/v1/contacts/{contact_id}/do-not-disturb": {"channels": ["sms"]},
    "/api/v1/contacts/{contact_id}/opt-outs/{channel}": {"source": "by phone"},
    "/api/v1/contacts/{contact_id}/opt-outs/{channel}/lift": {"source": "by phone"},
    "/api/v1/users/{user_id}/notification-preferences": {"muted": []},
    "/api/v1/contacts/{contact_id}/messenger": {
        "page_id": "00000000-0000-4000-8000-000000000000",
        "psid": "77",
    },
}


INTEGRATION = {
    "kind": "smtp",
    "name": "Mail",
    "addresses": ["@acme.test"],
    "settings": {"host": "127.0.0.1"},
}


def body_for(route: Route) -> dict[str, Any] | None:
    """What is sent to a route; a PATCH may say nothing."""
    fallback: dict[str, Any] | None = {} if route.method == "PATCH" else None
    return BODIES.get(route.path, fallback)


async def crm_of(caller: Caller, contact_id: str, workflow_id: str) -> dict[str, str]:
    """One of everything in the CRM, by the names that paths use."""
    bodies: dict[str, dict[str, Any]] = {
        "tag": {"name": "VIP"},
        "custom_field": {"key": "company"},
        "campaign": {"name": "Spring", "workflow_id": workflow_id},
        "pipeline": {"name": "Sales", "stages": ["Lead"]},
        "task": {"title": "Call", "contact_id": contact_id},
        "note": {"content": "Hello", "contact_id": contact_id},
        "user": {"email": "kim@example.com"},
        "team": {"name": "Sales"},
        "course": {"name": "Welding"},
        "template": {"name": "Welcome", "html": "<p>Hi</p>"},
    }
    made = {
        word: await caller.post(f"/api/v1/{word.replace('_', '-')}s", body)
        for word, body in bodies.items()
    }
    deal = {"name": "Deal", "contact_id": contact_id, "pipeline_id": made["pipeline"]["id"]}
    made["opportunity"] = await caller.post("/api/v1/opportunities", deal)
    made["stage"] = made["pipeline"]["stages"][0]
    lesson = {"name": "Sparks", "course_id": made["course"]["id"]}
    made["lesson"] = await caller.post("/api/v1/lessons", lesson)
    return {f"{word}_id": row["id"] for word, row in made.items()}


async def owned(caller: Caller, pool: asyncpg.Pool) -> dict[str, str]:
    """One of everything, by the names that paths use."""
    path = await caller.workflow(READY)
    branch = await caller.post(f"{path}/branches", {"name": "side"})
    contact = await caller.post("/api/v1/contacts", {"email": "ada@example.com"})
    await caller.post(f"{path}/activate")
    enrolled = await caller.post(f"{path}/enroll", {"contact_ids": [contact["id"]]})
    await caller.post(f"{path}/pause")
    [action] = await caller.chain(path)
    file = await caller.call(
        "POST",
        "/api/v1/files?name=note.txt",
        data=b"A note.",
        headers={"Content-Type": "text/plain"},
    )
    integration = await caller.post("/api/v1/integrations", INTEGRATION)
    account_id = await pool.fetchval("select account_id from contacts where id = $1", contact["id"])
    async with pool.acquire() as db, db.transaction():
        operation_id = await operations.begin(db, account_id, "test", {})
    crm = await crm_of(caller, contact["id"], path.rpartition("/")[2])
    version = "select id from workflow_versions where account_id = $1"
    notice = (
        "insert into notifications (account_id, user_id, title, created_at)"
        " select account_id, user_id, 'Look', current_instant() from api_tokens"
        " where account_id = $1 limit 1 returning id"
    )
    return {
        "workflow_id": path.rpartition("/")[2],
        "action_id": action["id"],
        "branch_id": branch["id"],
        "number": "1",
        "channel": "email",
        "version": "1",
        "contact_id": contact["id"],
        "integration_id": integration["id"],
        "page_id": integration["id"],
        "step_id": str(
            await pool.fetchval(
                "select id from workflow_action_executions where account_id = $1", account_id
            )
        ),
        "execution_id": enrolled["outcomes"][0]["execution_id"],
        "operation_id": str(operation_id),
        "file_id": file.data["id"],
        "notification_id": str(await pool.fetchval(notice, account_id)),
        **crm,
        "owner_id": crm["user_id"],
        "assignee_id": crm["user_id"],
        "entity_id": contact["id"],
        "current_action_id": action["id"],
        "version_id": str(await pool.fetchval(version, account_id)),
        "token_id": str(
            await pool.fetchval("select id from api_tokens where account_id = $1", account_id)
        ),
    }


TRACES = ("last_used_at",)
"""Columns in which a call leaves a trace of itself, whatever it asks for."""


async def contents(pool: asyncpg.Pool, where: str = "true", *values: Any) -> dict[str, str]:
    """Everything that a route could have changed: all rows of all tables of the schema."""
    tables = await pool.fetch(
        "select c.oid::regclass::text as name from pg_class c"
        " where c.relnamespace = current_schema()::regnamespace"
        " and c.relkind in ('r', 'p') and not c.relispartition order by 1"
    )
    assert len(tables) > 25
    query = (
        "select coalesce(string_agg(r, E'\\n' order by r), '')"
        " from (select (to_jsonb(t) - $1::text[])::text as r from {} t where {}) rows"
    )
    return {
        table["name"]: await pool.fetchval(
            query.format(table["name"], where), list(TRACES), *values
        )
        for table in tables
    }


async def contents_of(pool: asyncpg.Pool, account: str) -> dict[str, str]:
    """What belongs to the account of this name."""
    account_id = await pool.fetchval("select id from accounts where name = $1", account)
    return await contents(pool, "to_jsonb(t) ->> 'account_id' = $2", str(account_id))


async def test_contents_notice_a_change_in_any_table(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    before = await contents(pool)
    await caller.post("/api/v1/tags", {"name": "VIP"})
    after = await contents(pool)
    assert {name for name in after if after[name] != before[name]} == {"tags", "audit_log"}


async def test_no_route_answers_without_a_token(desk: Desk) -> None:
    for route in ROUTES:
        ids = dict.fromkeys(re.findall(r"\{(\w+)\}", route.path), str(uuid4()))
        refusal = await desk.stranger().refused(route.method, filled(route, ids))
        assert (refusal.status, refusal.code) == (401, "token_missing"), route
        assert refusal.headers["WWW-Authenticate"] == 'Bearer realm="callboard"'


async def test_nothing_of_another_account_can_be_read_changed_or_inferred(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    owner, other = await desk.caller("Acme"), await desk.caller("Globex")
    foreign = await owned(owner, pool)
    unknown = {name: str(uuid4()) for name in foreign}
    before = await contents(pool)

    for route in with_ids():
        body = None if route.method in {"GET", "DELETE"} else body_for(route)
        answers = [
            await other.refused(route.method, filled(route, ids), body)
            for ids in (foreign, unknown)
        ]
        assert [answer.status for answer in answers] == [404, 404], route
        for answer in answers:
            del answer.data["request_id"]
        assert answers[0].data == answers[1].data, route

    for route in ROUTES:
        if route.method == "GET" and "{" not in route.path and "types" not in route.path:
            page = json.dumps(await other.get(route.path))
            assert not [id_ for id_ in foreign.values() if len(id_) > 8 and id_ in page], route
    for name in ("workflow_id", "contact_id"):
        assert (await other.get("/api/v1/executions", **{name: foreign[name]}))["items"] == []
    assert (await other.get("/api/v1/contacts", email="ada@example.com"))["items"] == []
    assert await contents(pool) == before


async def test_foreign_ids_in_query_strings_are_as_unknown_as_any(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    owner, other = await desk.caller("Acme"), await desk.caller("Globex")
    foreign, own = await owned(owner, pool), await owned(other, pool)
    before = await contents(pool)
    asked = [
        (route, name) for route in ROUTES if route.method == "GET" for name in ids_asked_by(route)
    ]
    assert len(asked) > 5
    for route, name in asked:
        path = filled(route, own)
        answers = [
            await other.call("GET", path, params={name: id_})
            for id_ in (id_of(foreign, name, route), str(uuid4()))
        ]
        for answer in answers:
            answer.data.pop("request_id", None)
        assert answers[0].status == answers[1].status, (route, name)
        assert answers[0].data == answers[1].data, (route, name)
    assert await contents(pool) == before


async def test_ids_of_another_account_in_bodies_are_as_unknown_as_any(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    owner, other = await desk.caller("Acme"), await desk.caller("Globex")
    foreign = await owned(owner, pool)
    path = await other.workflow(READY)
    action = {"action_type": "add_tag"}
    for field in ("previous_action_id", "fallback_action_id"):
        body = action | {field: foreign["action_id"]}
        assert (await other.refused("POST", f"{path}/actions", body)).status == 422
    own = await other.post("/api/v1/contacts", {"first_name": "Bo"})
    for field, name in (("execution_id", "execution_id"), ("related_action_id", "action_id")):
        told = {"event_type": "form_submit", "contact_id": own["id"]}
        answers = [
            await other.refused("POST", "/api/v1/events", {**told, field: id_})
            for id_ in (foreign[name], str(uuid4()))
        ]
        assert [answer.faults[0][0] for answer in answers] == [field, field]
        bulk = {"events": [{**told, field: foreign[name]}, told]}
        counts = await other.post("/api/v1/events/bulk", bulk)
        assert (counts["taken_in"], counts["refused"]) == (1, 1)
    event = {"event_type": "form_submit", "contact_id": foreign["contact_id"]}
    assert (await other.refused("POST", "/api/v1/events", event)).code == "contact_unknown"
    await other.post(f"{path}/activate")
    enrolled = await other.post(f"{path}/enroll", {"contact_ids": [foreign["contact_id"]]})
    assert enrolled["outcomes"][0]["reason"] == "no_such_contact"
    # The same address may belong to a contact of each account.
    await other.post("/api/v1/contacts", {"email": "ada@example.com"})


WRONG_HEADERS = [
    "Bearer",
    "Bearer ",
    "Bearer cb_" + "A" * 43,
    "Bearer cb_" + "A" * 5000,
    "Basic cb_" + "A" * 43,
    "cb_" + "A" * 43,
    "Bearer \u00e9" + "A" * 45,
]


async def test_a_wrong_token_is_refused(desk: Desk) -> None:
    for header in WRONG_HEADERS:
        answer = await desk.stranger().call(
            "GET", "/api/v1/workflows", headers={"Authorization": header}
        )
        assert (answer.status, answer.code) == (401, "token_invalid"), header
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_a_token_ends_when_it_is_revoked_or_expires(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    await caller.get("/api/v1/workflows")
    await pool.execute("update api_tokens set expires_at = current_instant() + interval '1 hour'")
    await caller.get("/api/v1/workflows")
    await clock.advance(pool, timedelta(hours=1))
    assert (await caller.refused("GET", "/api/v1/workflows")).status == 401
    await pool.execute("update api_tokens set expires_at = null")
    await caller.get("/api/v1/workflows")
    await pool.execute("update api_tokens set revoked_at = current_instant()")
    assert (await caller.refused("GET", "/api/v1/workflows")).status == 401


async def test_only_the_hash_of_a_token_is_kept(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    assert caller.token is not None
    assert re.fullmatch(tokens.TOKEN_PATTERN, caller.token)
    [row] = await pool.fetch("select * from api_tokens")
    assert row["token_sha256"] == tokens.digest(caller.token)
    assert caller.token not in str(row)


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_a_role_may_do_what_its_permissions_say(desk: Desk, role: str) -> None:
    caller = await desk.caller(role=role)
    for route in ROUTES:
        ids = dict.fromkeys(re.findall(r"\{(\w+)\}", route.path), str(uuid4()))
        answer = await caller.call(route.method, filled(route, ids))
        is_denied = answer.status == 403 and answer.code == "permission_denied"
        assert is_denied is (route.permission not in ROLES[role]), route


def test_a_viewer_reads_and_an_admin_may_do_everything() -> None:
    assert ROLES["viewer"] == {Permission.READ}
    assert Permission.EDIT_WORKFLOWS in ROLES["editor"]
    assert ROLES["admin"] == set(Permission)
    for route in ROUTES:
        # Everybody has tokens, notifications and preferences of their own.
        is_own = route.path.startswith(("/api/v1/tokens", "/api/v1/notifications", "/api/v1/me/"))
        assert route.method == "GET" or is_own or route.permission is not Permission.READ, route


def test_the_command_line_prints_a_token_alone(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create_from_cli(settings, account=None, role="editor", name="mine") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(tokens.TOKEN_PATTERN + "\n", out)
    assert "editor" in err
    assert "default" in err
    assert create_from_cli(settings, account="default", role="editor", name="two") == 0


async def test_tokens_of_one_account_name_share_the_account(desk: Desk, pool: asyncpg.Pool) -> None:
    for account, role in (("Acme", "admin"), ("Acme", "viewer"), ("Acme", "viewer")):
        await desk.caller(account, role)
    [counts] = await pool.fetch(
        "select (select count(*) from accounts) as accounts, (select count(*) from users) as users,"
        " (select count(*) from api_tokens) as tokens"
    )
    assert tuple(counts) == (1, 2, 3)
