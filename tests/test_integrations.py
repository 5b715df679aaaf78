"""Integrations over the API: sealed secrets, addresses that find them, limits, probes, removal."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult
from pydantic import SecretStr

from actors.integration_kinds import normalize_address
from actors.integrations import Integrations, Sender, default_senders, find_senders
from actors.rendered import UnusableError
from actors.secret_rotation import seal_anew
from actors.test_mode import is_loopback
from actors.webhook_signing import secrets_of
from runtime import clock
from runtime.house import House
from runtime.secret_keys import new_key, parse_keys
from runtime.secrets import Vault, VaultError, vault_of
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk
from tests.backstage import Backstage

ALL = "/api/v1/integrations"
PASSWORD = "correct horse battery staple"
MAIL: dict[str, Any] = {
    "kind": "smtp",
    "name": "Mail",
    "addresses": ["Ada@Acme.test", "@news.acme.test"],
    "settings": {"host": "127.0.0.1", "port": 2525, "security": "none", "username": "ada"},
    "secrets": {"password": PASSWORD},
}
TEXTS: dict[str, Any] = {
    "kind": "twilio",
    "name": "Texts",
    "addresses": ["+1 (415) 555-0100", "+14155550101"],
    "settings": {"account_sid": "AC" + "0" * 32},
    "secrets": {"auth_token": "token"},
}
PAGE: dict[str, Any] = {
    "kind": "facebook",
    "name": "Page",
    "addresses": ["1234567890"],
    "secrets": {"page_access_token": "EAAB", "app_secret": "s3cret"},
}


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def admin(desk: Desk) -> Caller:
    return await desk.caller()


async def made(admin: Caller, body: dict[str, Any] = MAIL, **more: Any) -> dict[str, Any]:
    shown: dict[str, Any] = await admin.post(ALL, {**body, **more})
    return shown


# Secrets


async def test_a_secret_is_sealed_and_never_shown_or_audited(
    admin: Caller, pool: asyncpg.Pool, house: House
) -> None:
    shown = await made(admin)
    assert shown["secrets"] == {"password": True}
    path = f"{ALL}/{shown['id']}"
    changed = await admin.call("PATCH", path, {"secrets": {"password": PASSWORD + "!"}})
    said = json.dumps([shown, changed.data, await admin.get(ALL), await admin.get(path)])
    rows = await pool.fetch("SELECT before::text || after::text AS text FROM audit_log")
    kept = await pool.fetchval("SELECT secrets::text FROM integrations")
    assert PASSWORD not in said + kept + "".join(row["text"] or "" for row in rows)
    found = await Integrations(house).get(UUID(shown["id"]))
    assert found is not None
    assert found.secrets == {"password": PASSWORD + "!"}
    assert PASSWORD not in repr(found)


async def test_a_sealed_secret_cannot_be_opened_in_another_integration(
    admin: Caller, pool: asyncpg.Pool, house: House
) -> None:
    first, second = await made(admin), await made(admin, addresses=["bo@acme.test"])
    await pool.execute(
        "UPDATE integrations SET secrets = (SELECT secrets FROM integrations WHERE id = $1)"
        " WHERE id = $2",
        UUID(first["id"]),
        UUID(second["id"]),
    )
    with pytest.raises(VaultError, match="stands where it was not put"):
        await Integrations(house).get(UUID(second["id"]))
    answer = await admin.post(f"{ALL}/{second['id']}/test")
    assert (answer["is_ok"], answer["code"]) == (False, "secret_damaged")


async def test_secrets_are_sealed_anew_by_the_first_key_once_a_new_one_stands_before_the_old(
    admin: Caller, pool: asyncpg.Pool, house: House
) -> None:
    id_ = UUID((await made(admin))["id"])
    await made(admin, TEXTS)
    assert await seal_anew(house) == 0
    assert house.settings.secret_keys is not None
    both = parse_keys(f"{new_key('fresh')},{house.settings.secret_keys.get_secret_value()}")
    assert await seal_anew(replace(house, vault=Vault(both))) == 2
    with pytest.raises(VaultError, match="no key named fresh"):
        await Integrations(house).get(id_)
    alone = replace(house, vault=Vault({"fresh": both["fresh"]}))
    found = await Integrations(alone).get(id_)
    assert found is not None
    assert found.secrets == {"password": PASSWORD}
    with pytest.raises(VaultError):
        await seal_anew(replace(house, vault=Vault({"lost": bytes(32)})))


async def test_without_a_key_nothing_is_sealed_and_the_answer_says_so(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    async with open_desk(pool, settings.model_copy(update={"secret_keys": None})) as desk:
        answer = await (await desk.caller()).call("POST", ALL, MAIL)
    assert (answer.status, answer.code) == (503, "secret_key_missing")


async def test_secrets_of_webhooks_and_of_actions_and_their_versions_are_sealed_anew_too(
    admin: Caller, pool: asyncpg.Pool, house: House
) -> None:
    path = await admin.workflow()
    config = {
        "url": "https://x.test/hook",
        "method": "POST",
        "auth_type": "bearer",
        "auth_config": {"token": PASSWORD},
    }
    body = {"action_type": "webhook_call", "action_config": config}
    action = await admin.post(f"{path}/actions", body)
    await admin.post(f"{path}/activate")
    account = await pool.fetchval("SELECT id FROM accounts")
    await secrets_of(house, account)
    assert house.settings.secret_keys is not None
    both = parse_keys(f"{new_key('fresh')},{house.settings.secret_keys.get_secret_value()}")
    assert await seal_anew(replace(house, vault=Vault(both))) == 3
    alone = replace(house, vault=Vault({"fresh": both["fresh"]}))
    assert await secrets_of(alone, account)
    place = f"{account}:workflow_actions:{action['id']}:auth_config"
    for table in ("workflow_actions", "workflow_version_actions"):
        kept = await pool.fetchval(f"SELECT action_config FROM {table}")
        assert json.loads(alone.vault.open(kept["auth_config"]["sealed"], place)) == {
            "token": PASSWORD
        }


# What is made


async def test_addresses_are_normalised_and_belong_to_one_integration_of_an_account(
    desk: Desk, admin: Caller
) -> None:
    assert (await made(admin))["addresses"] == ["ada@acme.test", "@news.acme.test"]
    assert (await made(admin, TEXTS))["addresses"] == ["+14155550100", "+14155550101"]
    again = await admin.refused("POST", ALL, {**MAIL, "addresses": ["ADA@acme.test"]})
    assert (again.status, again.code) == (409, "address_taken")
    await made(await desk.caller("Other"))


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({**MAIL, "settings": {}}, [("settings.host", "missing")]),
        ({**MAIL, "settings": {"host": "a b"}}, [("settings.host", "host")]),
        ({**MAIL, "addresses": ["nobody"]}, [("addresses[0]", "address_unusable")]),
        ({**TEXTS, "secrets": {}}, [("secrets.auth_token", "missing")]),
        ({**MAIL, "secrets": {"pass": "y"}}, [("secrets.pass", "unknown_field")]),
        ({**TEXTS, "addresses": ["555"]}, [("addresses[0]", "address_unusable")]),
        ({**PAGE, "addresses": ["page"]}, [("addresses[0]", "address_unusable")]),
        ({**MAIL, "rate_per_second": 0}, [("rate_per_second", "greater_than")]),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named(
    admin: Caller, body: dict[str, Any], faults: list[tuple[str, str]]
) -> None:
    assert (await admin.refused("POST", ALL, body)).faults == faults


async def test_only_an_admin_makes_integrations_and_nobody_sees_another_account_s(
    desk: Desk, admin: Caller
) -> None:
    path = f"{ALL}/{(await made(admin))['id']}"
    editor, stranger = await desk.caller(role="editor"), await desk.caller("Other")
    assert (await editor.refused("POST", ALL, MAIL)).status == 403
    assert (await editor.get(path))["name"] == "Mail"
    assert (await stranger.get(ALL))["items"] == []
    for method, end in (("GET", ""), ("POST", "/test"), ("POST", "/disable"), ("DELETE", "")):
        assert (await stranger.refused(method, path + end)).code == "integration_not_found"
    assert (await stranger.refused("PATCH", path, {"name": "x"})).status == 404


async def test_a_secret_that_cannot_be_done_without_is_not_taken_away(admin: Caller) -> None:
    path = f"{ALL}/{(await made(admin, TEXTS))['id']}"
    answer = await admin.refused("PATCH", path, {"secrets": {"auth_token": None}})
    assert answer.faults == [("secrets.auth_token", "missing")]
    mail = f"{ALL}/{(await made(admin))['id']}"
    changed = await admin.call("PATCH", mail, {"secrets": {"password": None}, "name": "Post"})
    assert (changed.data["secrets"], changed.data["name"]) == ({"password": False}, "Post")


# How it is found


async def test_senders_are_found_by_their_addresses_whole_ones_before_domains(
    admin: Caller, backstage: Backstage, pool: asyncpg.Pool
) -> None:
    mail = UUID((await made(admin))["id"])
    special = UUID((await made(admin, addresses=["vip@news.acme.test"]))["id"])
    texts = UUID((await made(admin, TEXTS))["id"])
    page = UUID((await made(admin, PAGE))["id"])
    await admin.post(f"{ALL}/{texts}/disable")
    account = await pool.fetchval("SELECT id FROM accounts")
    other = (await backstage.account()).id
    wanted = {
        (account, "smtp", "ada@acme.test"): mail,
        (account, "smtp", "any@news.acme.test"): mail,
        (account, "smtp", "vip@news.acme.test"): special,
        (account, "twilio", "+14155550101"): texts,
        (account, "facebook", str(page)): page,
        (account, "smtp", "bo@acme.test"): None,
        (account, "facebook", str(mail)): None,
        (other, "smtp", "ada@acme.test"): None,
        (other, "facebook", str(page)): None,
    }
    async with backstage.stage() as stage:
        found = await find_senders(stage, list(wanted))
        senders = await default_senders(stage.db, [account, other], ["smtp"])
    assert {key: found[key].integration_id for key in found} == {
        k: v for k, v in wanted.items() if v
    }
    assert [key[1] for key, sender in found.items() if sender.is_disabled] == ["twilio"]
    assert senders == {(account, "smtp"): Sender(mail, "ada@acme.test")}


async def test_what_is_read_is_kept_for_seconds_and_then_read_anew(
    admin: Caller, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = UUID((await made(admin))["id"])
    integrations = Integrations(house)
    instant = 100.0
    monkeypatch.setattr("runtime.kept.time.monotonic", lambda: instant)
    for seen, name in enumerate(("Mail", "Mail", "Changed")):
        found = await integrations.get(id_)
        assert found is not None
        assert found.name == name
        await admin.call("PATCH", f"{ALL}/{id_}", {"name": "Changed"})
        instant += 5.1 if seen else 0
    await admin.delete(f"{ALL}/{id_}")
    instant += 5.1
    assert await integrations.get(id_) is None


@pytest.mark.parametrize("address", ["@", "@acme", "@-.test", "a@b@c.test", ""])
def test_what_is_no_address_is_none(address: str) -> None:
    with pytest.raises(UnusableError):
        normalize_address("smtp", address)


# Limits, disabling, removal


async def test_changed_limits_let_go_at_once_what_the_old_ones_held(
    admin: Caller, pool: asyncpg.Pool, desk: Desk
) -> None:
    shown = await made(admin, rate_per_second=0.001, burst=1)
    id_ = UUID(shown["id"])
    now = await clock.current_instant(pool)
    await pool.execute(
        "INSERT INTO lanes (account_id, family, integration_id, held_until, held_reason)"
        " SELECT account_id, 'email', id, current_instant() + '1 hour', reason"
        " FROM integrations, unnest($1::text[]) AS reason LIMIT 1",
        ["rate_limit"],
    )
    await pool.execute("INSERT INTO rate_limits VALUES ($1, $2)", id_, now + timedelta(hours=1))
    changed = await admin.call(
        "PATCH", f"{ALL}/{id_}", {"rate_per_second": 50.0, "breaker_failures": 2}
    )
    assert (changed.data["rate_per_second"], changed.data["breaker_failures"]) == (50.0, 2)
    assert desk.rung == ["email"]
    assert await pool.fetchval("SELECT held_until FROM lanes") is None
    taking = "SELECT granted FROM take_tokens(ARRAY[$1::uuid], ARRAY[1], current_instant())"
    assert await pool.fetchval(taking, id_) == 1
    without = await admin.call("PATCH", f"{ALL}/{id_}", {"rate_per_second": None})
    assert without.data["rate_per_second"] is None


async def test_an_integration_is_disabled_and_enabled_and_says_how_its_breaker_is(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    path = f"{ALL}/{(await made(admin))['id']}"
    assert (await admin.post(f"{path}/disable"))["is_disabled"]
    assert not (await admin.post(f"{path}/enable"))["is_disabled"]
    await pool.execute(
        "INSERT INTO circuit_breakers"
        " (integration_id, account_id, window_began_at, state, open_until)"
        " SELECT id, account_id, now(), 'open', now() FROM integrations"
    )
    assert (await admin.get(path))["breaker"] == "open"


async def test_what_actions_send_by_is_removed_only_by_force_and_its_uses_are_named(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    path = f"{ALL}/{(await made(admin, addresses=['@news.example.com']))['id']}"
    workflow = (await admin.post("/api/v1/workflows", {"name": "Welcome"}))["id"]
    config = {"from_email": "Any@News.example.com"}
    action = await admin.post(
        f"/api/v1/workflows/{workflow}/actions",
        {"action_type": "send_email", "action_config": config},
    )
    refused = await admin.refused("DELETE", path)
    place = f"workflows[{workflow}].actions[{action['id']}].action_config.from_email"
    assert (refused.status, refused.code, refused.faults) == (409, "in_use", [(place, "in_use")])
    (use,) = (await admin.get(f"{path}/references"))["items"]
    assert (use["action_id"], use["path"]) == (action["id"], "action_config.from_email")
    assert (use["in_draft"], use["in_force"]) == (True, False)
    forced = await admin.call("DELETE", f"{path}?force=true")
    assert (forced.status, forced.data["references"][0]["action_id"]) == (200, action["id"])
    assert (await admin.refused("GET", path)).status == 404
    assert await pool.fetchval("SELECT secrets FROM integrations") == {}
    again = f"{ALL}/{(await made(admin, addresses=['new@acme.test']))['id']}"
    assert (await admin.call("DELETE", again)).status == 204
    words = await pool.fetch("SELECT action FROM audit_log WHERE entity_type = 'integration'")
    assert [row["action"] for row in words].count("integration_removed") == 2


# Trying it out


@asynccontextmanager
async def mail_server(**options: Any) -> AsyncIterator[int]:
    """An SMTP server on a free port of loopback that knows ada's password."""

    def login(
        _server: object, _session: object, _envelope: object, _how: str, data: Any
    ) -> AuthResult:
        is_right = data.password == PASSWORD.encode()
        return AuthResult(success=is_right, handled=is_right)

    settings = {"auth_require_tls": False, "authenticator": login, **options}
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(object(), hostname="mail.test", **settings), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("changed", "password", "code"),
    [
        ({}, PASSWORD, "ok"),
        ({"username": None}, PASSWORD, "ok"),
        ({}, "wrong", "authentication_failed"),
        ({"security": "starttls"}, PASSWORD, "refused"),
        ({"security": "tls"}, PASSWORD, "tls_failed"),
        ({"port": 1}, PASSWORD, "unreachable"),
    ],
)
async def test_a_mail_server_is_tried_out_up_to_the_login(
    admin: Caller, changed: dict[str, Any], password: str, code: str
) -> None:
    async with mail_server() as port:
        settings = {**MAIL["settings"], "port": port, **changed}
        shown = await made(admin, settings=settings, secrets={"password": password})
        probed = await admin.post(f"{ALL}/{shown['id']}/test")
    assert (probed["code"], probed["is_ok"]) == (code, code == "ok")
    assert password not in probed["message"]


@pytest.mark.parametrize(
    ("body", "status", "said", "code"),
    [
        (TEXTS, 200, {"status": "active"}, "ok"),
        (TEXTS, 200, {"status": "suspended"}, "account_not_active"),
        (TEXTS, 401, {}, "authentication_failed"),
        (TEXTS, 404, {}, "account_unknown"),
        (TEXTS, 503, {}, "refused"),
        (PAGE, 200, {"id": "1234567890"}, "ok"),
        (PAGE, 200, {"id": "1"}, "another_page"),
        (PAGE, 400, {}, "authentication_failed"),
        (PAGE, 302, {}, "refused"),
    ],
)
async def test_twilio_and_facebook_are_asked_who_we_are(
    admin: Caller, body: dict[str, Any], status: int, said: dict[str, str], code: str
) -> None:
    asked = []

    async def reply(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers["Authorization"].split()[0]))
        return web.json_response(said, status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", reply)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    settings = {**body.get("settings", {}), "base_url": f"http://127.0.0.1:{port}"}
    shown = await made(admin, body, settings=settings)
    probed = await admin.post(f"{ALL}/{shown['id']}/test")
    await runner.cleanup()
    assert probed["code"] == code
    assert asked in (
        [(f"/2010-04-01/Accounts/AC{'0' * 32}.json", "Basic")],
        [("/v23.0/me", "Bearer")],
    )


async def test_an_account_in_test_mode_asks_nobody_beyond_loopback(
    admin: Caller, pool: asyncpg.Pool
) -> None:
    await pool.execute("UPDATE accounts SET is_test = true")
    shown = await made(admin, settings={"host": "192.0.2.1"})
    assert (await admin.post(f"{ALL}/{shown['id']}/test"))["code"] == "test_mode"


@pytest.mark.parametrize(
    ("host", "is_home"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True),
        ("localhost", True), ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False), ("0.0.0.0", False), ("10.0.0.1", False), ("", False),
        ("no-such-host.invalid", False),
    ],
)  # fmt: skip
async def test_what_is_loopback_is_told_by_the_address_and_not_by_the_name(
    host: str, is_home: bool
) -> None:
    assert await is_loopback(host) is is_home


def test_a_new_key_can_be_put_before_the_others(settings: Settings) -> None:
    assert settings.secret_keys is not None
    keys = f"{new_key('k2')},{settings.secret_keys.get_secret_value()}"
    vault = vault_of(settings.model_copy(update={"secret_keys": SecretStr(keys)}))
    old = vault_of(settings).seal("x", "here")
    assert vault.open(old, "here") == "x"
    assert not vault.is_current(old)
