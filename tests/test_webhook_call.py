"""webhook_call: requests with the contact's data, signed, retried by kind, held by host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from actors import registry, webhook_signing
from actors.sealed_configs import place_of_secret, redacted, sealed, with_kept
from runtime import effect_recording
from runtime.failures import backoff
from runtime.house import House
from runtime.secrets import Vault
from tests.serving import serving
from tests.stand_ins import WorldWith
from tests.world import World

WEBHOOK = registry.actions["webhook_call"]


@dataclass
class Came:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """The other side: remembers what came, answers as scripted, then always with 200."""

    place: str = ""
    came: list[Came] = field(default_factory=list)
    script: list[web.Response] = field(default_factory=list)

    def url(self, path: str = "/hook") -> str:
        return f"http://{self.place}{path}"

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.came.append(Came(request.method, request.path_qs, headers, await request.read()))
        return self.script.pop(0) if self.script else web.json_response({"ok": True})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with serving(receiver.answer) as receiver.place:
        yield receiver


@pytest.fixture
async def world(world_with: WorldWith, receiver: Receiver) -> World:
    return await world_with(inside_hosts=frozenset({receiver.place}))


@pytest.fixture(autouse=True)
def full_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that the jitter may give, so that no retry falls due by itself."""
    monkeypatch.setattr(effect_recording, "backoff", partial(backoff, jitter=lambda: 1.0))


@pytest.fixture(autouse=True)
async def opened(world: World) -> AsyncIterator[None]:
    """The pool of webhooks with its client open, as a worker has it."""
    async with world.worker._effects["webhook"].open():
        yield


def call(receiver: Receiver, path: str = "/hook", **config: Any) -> tuple[str, dict[str, Any]]:
    return "webhook_call", {"url": receiver.url(path), "method": "POST", **config}


async def one_step(world: World, execution: UUID) -> Any:
    (step,) = await world.steps(execution)
    return step


async def statuses_of_effects(world: World) -> list[tuple[str, str | None, int]]:
    rows = await world.pool.fetch("SELECT status, error_code, attempt FROM effects ORDER BY id")
    return [tuple(row) for row in rows]


async def test_webhook_action(world: World, receiver: Receiver) -> None:
    """R5.3: the request with the contact's data goes out, its response serves later steps."""
    receiver.script = [web.json_response({"order": {"number": 7}}, status=201)]
    workflow = await world.workflow(
        {
            "action_type": "webhook_call",
            "key": "shop",
            "action_config": {
                "url": receiver.url("/orders?from={{contact.first_name}}"),
                "method": "PUT",
                "headers": {"X-Contact": "{{contact.first_name}}"},
                "payload": {"name": "{{contact.first_name}}", "deep": [{"n": 1.5}, None, True]},
                "store_response": True,
            },
        },
        ("add_tag", {"tag_name": "Order {{steps.shop.response.body.order.number}}"}),
    )
    execution = await world.run(workflow, await world.contact(first_name="Ada"))
    assert await world.statuses(execution) == ["completed", "completed"]
    (came,) = receiver.came
    assert (came.method, came.path) == ("PUT", "/orders?from=Ada")
    assert came.headers["x-contact"] == "Ada"
    assert came.headers["content-type"] == "application/json"
    assert orjson.loads(came.body) == {"name": "Ada", "deep": [{"n": 1.5}, None, True]}
    assert await world.pool.fetchval("SELECT name FROM tags") == "Order 7"
    result = (await world.steps(execution))[0]["result_data"]
    assert result["status"] == 201
    assert result["response"]["headers"]["content-type"].startswith("application/json")


async def test_the_response_is_kept_only_if_asked_for(world: World, receiver: Receiver) -> None:
    execution = await world.run(await world.workflow(call(receiver)), await world.contact())
    assert (await one_step(world, execution))["result_data"] == {"status": 200}
    assert receiver.came[0].body == b""


async def test_a_request_is_signed_by_the_standard_webhooks_scheme(
    world: World, receiver: Receiver, house: House
) -> None:
    await world.run(await world.workflow(call(receiver, payload={"n": 1})), await world.contact())
    (came,) = receiver.came
    (secret,) = await webhook_signing.secrets_of(house, world.account_id)
    assert Webhook(secret.text).verify(came.body, dict(came.headers)) == {"n": 1}
    effect = await world.pool.fetchrow("SELECT id, idempotency_key FROM effects")
    assert effect is not None
    assert came.headers["webhook-id"] == effect["idempotency_key"] == str(effect["id"])
    stored = await world.pool.fetchval("SELECT sealed FROM webhook_secrets")
    assert secret.text not in stored


async def test_of_many_requests_that_need_the_secrets_one_reads_them(
    world: World, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read = list[UUID](), webhook_signing.secrets_of

    async def counted(house: House, account_id: UUID) -> Any:
        reads.append(account_id)
        return await read(house, account_id)

    monkeypatch.setattr(webhook_signing, "secrets_of", counted)
    signer = webhook_signing.Signer(house)
    other = await world.account("Other")
    wanted = [world.account_id, other] * 50
    signed = await asyncio.gather(*(signer.headers(one, "m", b"{}") for one in wanted))
    assert sorted(reads) == sorted({world.account_id, other})
    assert len({headers["webhook-signature"] for headers in signed}) <= 4  # two accounts, a second
    monkeypatch.setattr(webhook_signing, "FRESH_SECONDS", -1.0)
    await webhook_signing.Signer(house).headers(other, "m", b"{}")
    assert len(reads) == 3


async def test_while_a_secret_is_being_replaced_both_sign(
    world: World, receiver: Receiver, house: House
) -> None:
    (old,) = await webhook_signing.secrets_of(house, world.account_id)
    async with world.pool.acquire() as db, db.transaction():
        await webhook_signing.rotate(house, db, world.account_id)
    new, same_old = await webhook_signing.secrets_of(house, world.account_id)
    assert (same_old.text, new.retires_at) == (old.text, None)
    await world.run(await world.workflow(call(receiver, payload={})), await world.contact())
    (came,) = receiver.came
    for secret in (old, new):
        Webhook(secret.text).verify(came.body, dict(came.headers))
    await world.advance(hours=25)
    (left,) = await webhook_signing.secrets_of(house, world.account_id)
    assert left.text == new.text


async def test_two_who_need_the_first_secret_at_once_get_the_same(
    world: World, house: House
) -> None:
    both = await asyncio.gather(
        *(webhook_signing.secrets_of(house, world.account_id) for _ in range(4))
    )
    assert len({found[0].text for found in both}) == 1


async def test_the_id_stays_the_same_on_every_attempt(world: World, receiver: Receiver) -> None:
    receiver.script = [web.Response(status=503), web.Response(status=500)]
    execution = await world.run(await world.workflow(call(receiver)), await world.contact())
    await world.advance(seconds=2)
    await world.advance(seconds=4)
    assert (await one_step(world, execution))["status"] == "completed"
    assert len(receiver.came) == 3
    assert len({came.headers["webhook-id"] for came in receiver.came}) == 1


@pytest.mark.parametrize(
    ("config", "calls"),
    [({"max_retries": 1}, 2), ({"retry_on_failure": False}, 1), ({"max_retries": 0}, 1),
     ({"max_retries": 4}, 5)],
)  # fmt: skip
async def test_max_retries_bounds_the_tries_over_all_kinds(
    world: World, receiver: Receiver, config: dict[str, Any], calls: int
) -> None:
    # A breaker of its own that stays out of the way.
    workflow = await world.workflow(call(receiver, **config))
    receiver.script = [web.Response(status=(503, 429)[n % 2]) for n in range(8)]
    (enrolment,) = await world.enrol(workflow, await world.contact())
    await world.settle()
    await world.pool.execute("UPDATE integrations SET breaker_failures = 100")
    for _ in range(8):
        await world.advance(minutes=10)
    assert enrolment.execution_id is not None
    step = await one_step(world, enrolment.execution_id)
    assert (step["status"], len(receiver.came)) == ("failed", calls)
    assert step["error_code"] in {"http_503", "http_429"}


async def test_a_rate_limit_is_waited_for_as_long_as_it_says(
    world: World, receiver: Receiver
) -> None:
    receiver.script = [web.Response(status=429, headers={"Retry-After": "90"})]
    execution = await world.run(await world.workflow(call(receiver)), await world.contact())
    await world.advance(seconds=85)
    assert len(receiver.came) == 1
    await world.advance(seconds=6)
    assert (await one_step(world, execution))["status"] == "completed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
async def test_a_refusal_is_final(world: World, receiver: Receiver, status: int) -> None:
    receiver.script = [web.Response(status=status)]
    execution = await world.run(await world.workflow(call(receiver)), await world.contact())
    step = await one_step(world, execution)
    assert (step["status"], step["error_code"]) == ("failed", f"http_{status}")
    assert await statuses_of_effects(world) == [("failed", f"http_{status}", 1)]


async def test_the_breaker_of_a_host_holds_its_calls_and_no_others(
    world: World, receiver: Receiver
) -> None:
    good = Receiver()
    async with serving(good.answer) as good.place:
        tools = world.worker._effects["webhook"]._tools["webhook.call"]
        tools.client._inside = frozenset({receiver.place, good.place})
        bad_one = await world.workflow(call(receiver, retry_on_failure=False))
        receiver.script = [web.Response(status=503) for _ in range(5)]
        for _ in range(5):
            await world.run(bad_one, await world.contact())
        assert len(receiver.came) == 5
        held = await world.run(bad_one, await world.contact())
        fine = await world.run(await world.workflow(call(good)), await world.contact())
        assert await world.statuses(held) == ["running"]
        assert await world.statuses(fine) == ["completed"]
        assert len(receiver.came) == 5
    attempts = "SELECT attempt FROM effects WHERE execution_id = $1"
    assert await world.pool.fetchval(attempts, held) == 0
    await world.advance(seconds=31)
    assert await world.statuses(held) == ["completed"]
    assert await world.pool.fetchval(attempts, held) == 1


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (web.Response(text="plain"), "plain"),
        (web.Response(body=b'{"a":"\\u0000b"}', content_type="application/json"), {"a": "\ufffdb"}),
        (web.Response(body=b'{"a":', content_type="application/json"), '{"a":'),
        (web.Response(body=b"[1]", content_type="application/problem+json"), [1]),
        (web.Response(body=b"\xff\x00", content_type="text/plain"), "\ufffd\ufffd"),
        (web.Response(status=204), ""),
    ],
)
async def test_a_response_is_json_when_it_is_json(
    world: World, receiver: Receiver, response: web.Response, body: Any
) -> None:
    receiver.script = [response]
    workflow = await world.workflow(call(receiver, store_response=True))
    execution = await world.run(workflow, await world.contact())
    step = await one_step(world, execution)
    assert step["status"] == "completed"
    assert step["result_data"]["response"]["body"] == body


async def test_a_huge_response_is_cut(world: World, receiver: Receiver) -> None:
    receiver.script = [web.json_response(["x" * 100_000])]
    workflow = await world.workflow(call(receiver, store_response=True))
    step = await one_step(world, await world.run(workflow, await world.contact()))
    response = step["result_data"]["response"]
    assert (response["is_cut"], len(response["body"])) == (True, 65536)


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:1", "169.254.169.254", "[::1]:1"])
async def test_there_is_no_way_into_the_private_network(world: World, host: str) -> None:
    workflow = await world.workflow(("webhook_call", {"url": f"http://{host}/", "method": "GET"}))
    step = await one_step(world, await world.run(workflow, await world.contact()))
    assert (step["status"], step["error_code"]) == ("failed", "address_not_allowed")


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"url": "{{contact.first_name}}"}, "url_unusable"),
        ({"url": "http://host:{{contact.first_name}}/"}, "url_unusable"),
        ({"headers": {"X-A": "{{contact.last_name}}"}}, "header_unusable"),
        ({"payload": {"a": "{{contact.custom_fields.long}}" * 3}}, "payload_too_large"),
    ],
)
async def test_what_merge_fields_make_unusable_fails_by_name(
    world: World, receiver: Receiver, config: dict[str, Any], code: str
) -> None:
    contact = await world.contact(
        first_name="ftp://x", last_name="a\r\nX-B: c", custom_fields={"long": "x" * 90_000}
    )
    step = await one_step(
        world, await world.run(await world.workflow(call(receiver, **config)), contact)
    )
    assert (step["status"], step["error_code"]) == ("failed", code)
    assert receiver.came == []


@dataclass
class Auth:
    """Credentials as they are configured, and the header that they become."""

    type: str
    config: dict[str, str]
    secret: str
    header: str
    value: str


AUTHS = [
    Auth(
        "basic",
        {"username": "ada", "password": "pässword"},
        "pässword",
        "authorization",
        "Basic YWRhOnDDpHNzd29yZA==",
    ),
    Auth("bearer", {"token": "t0ken"}, "t0ken", "authorization", "Bearer t0ken"),
    Auth("api_key", {"key": "k3y"}, "k3y", "x-api-key", "k3y"),
    Auth("api_key", {"key": "k3y", "header": "X-Own"}, "k3y", "x-own", "k3y"),
]


@pytest.mark.parametrize("auth", AUTHS, ids=lambda auth: f"{auth.type} {auth.header}")
async def test_credentials_are_sealed_until_the_wire(
    world: World, receiver: Receiver, house: House, auth: Auth
) -> None:
    action_id = uuid4()
    _, config = call(receiver, auth_type=auth.type, auth_config=auth.config)
    kept = sealed(WEBHOOK, config, house.vault, world.account_id, action_id)
    workflow = await world.workflow(
        {"id": action_id, "action_type": "webhook_call", "action_config": kept}
    )
    await world.run(workflow, await world.contact())
    assert receiver.came[0].headers[auth.header] == auth.value
    for table in ("workflow_actions", "workflow_version_actions", "effects", "effect_attempts"):
        rows = await world.pool.fetch(f"SELECT t::text AS row FROM {table} t")
        assert all(auth.secret not in row["row"] for row in rows), table


async def test_credentials_of_another_action_do_not_open(
    world: World, receiver: Receiver, house: House
) -> None:
    _, config = call(receiver, auth_type="bearer", auth_config={"token": "t"})
    kept = sealed(WEBHOOK, config, house.vault, world.account_id, uuid4())
    workflow = await world.workflow(("webhook_call", kept))
    step = await one_step(world, await world.run(workflow, await world.contact()))
    assert (step["status"], step["error_code"]) == ("failed", "secret_damaged")
    assert receiver.came == []


def test_a_sealed_field_is_shown_as_such_and_kept_when_it_comes_back() -> None:
    vault, account, action = Vault({"a": bytes(32)}), uuid4(), uuid4()
    config = {"url": "u", "auth_config": {"token": "t"}}
    stored = sealed(WEBHOOK, config, vault, account, action)
    assert (
        vault.open(stored["auth_config"]["sealed"], place_of_secret(account, action, "auth_config"))
        == '{"token":"t"}'
    )
    shown = redacted(WEBHOOK, stored)
    assert shown == redacted(WEBHOOK, config) == {"url": "u", "auth_config": {"sealed": True}}
    assert with_kept(WEBHOOK, shown, stored) == stored
    assert with_kept(WEBHOOK, shown, None) == {"url": "u"}
    assert with_kept(WEBHOOK, {"auth_config": {"sealed": "cbs1.a.b"}}, None) == {}
    assert with_kept(WEBHOOK, config, stored) == config
    assert sealed(WEBHOOK, stored, vault, account, action) == stored


async def test_an_account_in_test_mode_calls_nobody_outside(
    world_with: WorldWith, world: World, receiver: Receiver
) -> None:
    await world.pool.execute("UPDATE accounts SET is_test = true")
    outside = ("webhook_call", {"url": "https://example.com/", "method": "POST"})
    execution = await world.run(
        await world.workflow(outside, call(receiver)), await world.contact()
    )
    first, second = await world.steps(execution)
    assert first["result_data"] == {"status": None, "test_mode": True}
    assert (second["status"], len(receiver.came)) == ("completed", 1)
