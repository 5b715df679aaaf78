"""Tokens: whose they are, what they may do, when they end, what is written down of them."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from api import token_commands
from api.access import PERMITS, ROLES, Permission
from api.calls import SERVICES
from api.rate_limits import RateLimit
from api.token_uses import TokenUses
from runtime import clock
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk
from tests.test_readme import README


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def made(caller: Caller, **fields: Any) -> Caller:
    answer = await caller.post("/api/v1/tokens", {"name": "new", **fields})
    return Caller(caller.client, answer["token"])


def test_the_readme_shows_what_each_role_may_do() -> None:
    for permission in Permission:
        marks = " | ".join("×" if permission in ROLES[role] else "–" for role in ROLES)
        assert f"| `{permission}` | {marks} | {PERMITS[permission]} |" in README
    assert list(ROLES) == ["viewer", "editor", "admin"]


async def test_a_token_says_whom_it_speaks_for(desk: Desk) -> None:
    viewer = await desk.caller(role="viewer")
    me = await viewer.get("/api/v1/me")
    assert (me["user"]["email"], me["user"]["role"]) == ("viewer@callboard.invalid", "viewer")
    assert (me["account"]["name"], me["permissions"]) == ("Acme", ["read"])
    assert me["token"]["scopes"] is None


async def test_scopes_narrow_a_role_and_never_widen_it(desk: Desk) -> None:
    admin = await desk.caller()
    narrow = await made(admin, scopes=["read", "run"])
    assert (await narrow.get("/api/v1/me"))["permissions"] == ["read", "run"]
    refusal = await narrow.refused("POST", "/api/v1/workflows", {"name": "W"})
    assert (refusal.status, refusal.code) == (403, "scope_missing")
    assert 'error="insufficient_scope"' in refusal.headers["WWW-Authenticate"]
    viewer = await desk.caller(role="viewer")
    wider = {"name": "x", "scopes": ["read", "run"]}
    assert (await viewer.refused("POST", "/api/v1/tokens", wider)).code == "scopes_exceed_yours"


async def test_nobody_gives_a_token_more_than_they_have(desk: Desk, pool: asyncpg.Pool) -> None:
    admin = await desk.caller()
    me = await admin.get("/api/v1/me")
    narrow = await made(admin, scopes=["read", "manage_users"])
    child = await made(narrow)
    assert (await child.get("/api/v1/me"))["permissions"] == ["manage_users", "read"]
    for body in ({"scopes": ["run"]}, {"scopes": ["read", "run"], "user_id": me["user"]["id"]}):
        refusal = await narrow.refused("POST", "/api/v1/tokens", {"name": "x", **body})
        assert (refusal.status, refusal.code) == (403, "scopes_exceed_yours")
    now = await clock.current_instant(pool)
    ending = await made(admin, expires_at=(now + timedelta(hours=1)).isoformat())
    grandchild = await ending.post("/api/v1/tokens", {"name": "x"})
    assert datetime.fromisoformat(grandchild["expires_at"]) == now + timedelta(hours=1)
    later = {"name": "x", "expires_at": (now + timedelta(hours=2)).isoformat()}
    assert (await ending.refused("POST", "/api/v1/tokens", later)).code == "token_outlives_yours"
    past = {"name": "x", "expires_at": now.isoformat()}
    assert (await admin.refused("POST", "/api/v1/tokens", past)).code == "instant_has_passed"
    wrong = {"name": "x", "scopes": ["raed"]}
    assert "read" in str((await admin.refused("POST", "/api/v1/tokens", wrong)).data)


async def test_a_demoted_user_takes_their_tokens_along(desk: Desk, pool: asyncpg.Pool) -> None:
    editor = await desk.caller(role="editor")
    token = await made(editor, scopes=["read", "edit_workflows"])
    await token.workflow()
    await pool.execute("update users set role = 'viewer' where role = 'editor'")
    refusal = await token.refused("POST", "/api/v1/workflows", {"name": "W"})
    assert refusal.code == "permission_denied"


async def test_tokens_of_others_are_for_those_who_manage_users(desk: Desk) -> None:
    admin, editor = await desk.caller(), await desk.caller(role="editor")
    other = (await admin.get("/api/v1/me"))["user"]["id"]
    [own] = (await editor.get("/api/v1/tokens"))["items"]
    everybodys = (await admin.get("/api/v1/tokens"))["items"]
    assert len(everybodys) == 2
    [foreign] = [token for token in everybodys if token["id"] != own["id"]]
    assert (await editor.refused("GET", f"/api/v1/tokens/{foreign['id']}")).status == 404
    assert (await editor.refused("DELETE", f"/api/v1/tokens/{foreign['id']}")).status == 404
    body = {"name": "x", "user_id": other}
    assert (await editor.refused("POST", "/api/v1/tokens", body)).code == "permission_denied"
    refusal = await editor.refused("GET", f"/api/v1/tokens?user_id={other}")
    assert refusal.code == "permission_denied"
    unknown = {"name": "x", "user_id": str(uuid4())}
    assert (await admin.refused("POST", "/api/v1/tokens", unknown)).code == "user_unknown"
    await admin.delete(f"/api/v1/tokens/{own['id']}")
    await admin.delete(f"/api/v1/tokens/{own['id']}")
    assert (await editor.refused("GET", "/api/v1/me")).status == 401


async def test_what_is_done_with_tokens_is_audited_without_the_token(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    admin = await desk.caller()
    new = await admin.post("/api/v1/tokens", {"name": "new"})
    me = await admin.get("/api/v1/me")
    await admin.delete(f"/api/v1/tokens/{new['id']}")
    changes = (await admin.get("/api/v1/audit", entity_type="token"))["items"]
    assert [change["action"] for change in changes] == ["token.revoked", "token.created"]
    assert {change["token_id"] for change in changes} == {me["token"]["id"]}
    assert new["token"] not in str(await pool.fetch("select * from audit_log"))


async def test_the_audit_log_of_a_workflow_tells_who_when_before_and_after(desk: Desk) -> None:
    admin = await desk.caller()
    path = await admin.workflow({"tag_name": "a"})
    [action] = await admin.chain(path)
    answer = await admin.call(
        "PUT",
        f"{path}/actions/{action['id']}",
        {"action_config": {"tag_name": "b"}},
        headers={"X-Request-Id": "mine"},
    )
    assert answer.status == 200
    await admin.delete(f"{path}/actions/{action['id']}")
    changes = (await admin.get(f"{path}/audit"))["items"]
    assert [change["action"] for change in changes] == [
        "action.deleted",
        "action.updated",
        "action.created",
        "workflow.created",
    ]
    updated = changes[1]
    assert updated["before"]["action_config"] == {"tag_name": "a"}
    assert updated["after"]["action_config"] == {"tag_name": "b"}
    assert updated["request_id"] == "mine"
    me = await admin.get("/api/v1/me")
    assert (updated["user_id"], updated["token_id"]) == (me["user"]["id"], me["token"]["id"])
    instant = updated["at"]
    assert len((await admin.get("/api/v1/audit", before_instant=instant))["items"]) == 2
    first = await admin.get("/api/v1/audit", limit="2")
    rest = await admin.get("/api/v1/audit", limit="50", cursor=first["next_cursor"])
    assert first["items"] + rest["items"] == (await admin.get("/api/v1/audit"))["items"]
    editor = await desk.caller(role="editor")
    assert (await editor.refused("GET", "/api/v1/audit")).status == 403
    stranger = await desk.caller("Globex")
    assert (await stranger.get("/api/v1/audit"))["items"] == []
    assert (await stranger.refused("GET", f"{path}/audit")).status == 404


async def test_the_use_of_a_token_is_written_once_a_minute(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    [token_id] = [row["id"] for row in await pool.fetch("select id from api_tokens")]
    ticks = [100.0]
    uses = TokenUses(pool, lambda: ticks[0])

    async def used() -> Any:
        uses.note(token_id)
        await uses.written()
        return await pool.fetchval("select last_used_at from api_tokens")

    first = await used()
    assert (first.second, first.microsecond) == (0, 0)
    await clock.advance(pool, timedelta(minutes=1))
    assert await used() == first  # this process has written within the minute
    ticks[0] += 60
    assert await used() == first + timedelta(minutes=1)
    await caller.get("/api/v1/me")
    await desk.client.app[SERVICES].gate.uses.written()


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    now = [0.0]
    limit = RateLimit("token", per_second=2, burst=3, now=lambda: now[0])
    assert [limit.take("a").remaining for _ in range(3)] == [2, 1, 0]
    refused = limit.take("a")
    assert refused.is_refused
    assert refused.wait == pytest.approx(0.5)
    assert not limit.take("b").is_refused
    now[0] = 0.5
    assert not limit.take("a").is_refused
    assert limit.take("a").is_refused
    now[0] = 100.0
    assert limit.take("a").remaining == 2


async def test_too_many_requests_of_a_token_are_told_when_to_come_again(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    few = settings.model_copy(update={"api_rate_per_second": 0.01, "api_rate_burst": 2})
    async with open_desk(pool, few) as desk:
        caller, other = await desk.caller(), await desk.caller(role="viewer")
        answers = [await caller.call("GET", "/api/v1/me") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[0].headers["RateLimit-Policy"] == '"token";q=2;w=200'
        assert answers[0].headers["RateLimit"] == '"token";r=1;t=100'
        assert answers[2].code == "rate_limited"
        assert 90 <= int(answers[2].headers["Retry-After"]) <= 100
        await other.get("/api/v1/me")


async def test_an_address_that_guesses_is_shut_out_and_good_tokens_are_not(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    few = settings.model_copy(update={"api_failures_per_minute": 2})
    async with open_desk(pool, few) as desk:
        caller = await desk.caller()
        await caller.get("/api/v1/me")
        guesser = desk.stranger("cb_" + "A" * 43)
        statuses = [(await guesser.call("GET", "/api/v1/me")).status for _ in range(3)]
        assert statuses == [401, 401, 429]
        await caller.get("/api/v1/me")


def test_the_command_line_makes_lists_and_revokes_tokens(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    create = token_commands.create_from_cli
    assert create(settings, "Acme", "viewer", "mine", days=3, scopes=["read"]) == 0
    capsys.readouterr()
    assert token_commands.list_from_cli(settings, "Acme") == 0
    line = capsys.readouterr().out
    assert "'mine'" in line
    assert "ends 20" in line
    token_id = line.split()[0]
    assert token_commands.revoke_from_cli(settings, UUID(token_id)) == 0
    assert capsys.readouterr().out == "revoked\n"
    email = "viewer@callboard.invalid"
    assert create(settings, "Acme", "admin", "two", email=email) == 0
    assert "(viewer)" in capsys.readouterr().err
    assert create(settings, "Acme", "viewer", "x", scopes=["raed"]) == 2
    assert "Did you mean 'read'?" in capsys.readouterr().err
    assert create(settings, "Acme", "viewer", "x", email="no@example.com") == 2
