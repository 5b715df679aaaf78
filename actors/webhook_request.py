"""webhook.call: the effect that makes one HTTP request and keeps what came back.

It may be repeated: `webhook-id` is the effect's idempotency key and the same on every attempt.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from actors.webhook_signing import Signer
from runtime.effect import Effect, Result, Sent
from runtime.failures import Failure, Kind
from runtime.guarded_http import (
    GuardedClient,
    Reply,
    Request,
    failure_of_status,
    open_guarded_client,
    place_of,
)
from runtime.house import House
from runtime.registry import EffectType
from runtime.secrets import VaultError
from runtime.storable import storable, storable_text

LONGEST_TIMEOUT: Final = 120
LARGEST_STORED: Final = 64 * 1024
MOST_HEADERS: Final = 50
LONGEST_HEADER: Final = 1_000

_NOT_KEPT: Final = frozenset({"set-cookie", "set-cookie2"})


@dataclass(frozen=True, slots=True)
class Tools:
    """What all requests of one pool share."""

    client: GuardedClient
    signer: Signer
    house: House


@asynccontextmanager
async def tools(house: House) -> AsyncIterator[Tools]:
    """Open a client with kept connections."""
    async with open_guarded_client(
        house.settings.inside_hosts, connections=house.settings.slots_of("webhook")
    ) as client:
        yield Tools(client, Signer(house), house)


async def send(effect: Effect, tools: Tools) -> Result:
    """Make the request; a status other than 2xx is a failure of the retry table."""
    asked = effect.request
    if asked["is_test"] and not _is_inside(asked["url"], tools):
        return Sent({"status": None, "test_mode": True})
    credentials = _credentials(effect, tools.house)
    if isinstance(credentials, Failure):
        return credentials
    body = b"" if asked["payload"] is None else orjson.dumps(asked["payload"])
    signature = await tools.signer.headers(effect.account_id, effect.idempotency_key, body)
    content = {} if asked["payload"] is None else {"Content-Type": "application/json"}
    request = Request(
        asked["method"],
        asked["url"],
        {**_merged(content, asked["headers"]), **credentials, **signature},
        body if content else None,
        asked["timeout_seconds"],
        frozenset(credentials),
        LARGEST_STORED,
    )
    return _result(await tools.client.send(request), asked)


def _is_inside(url: str, tools: Tools) -> bool:
    place = place_of(url) or ""
    inside = tools.house.settings.inside_hosts
    return place in inside or place.rpartition(":")[0] in inside


def _merged(defaults: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that the action sets stand before ours, in whatever case they are written."""
    given = {name.lower() for name in headers}
    return {**{k: v for k, v in defaults.items() if k.lower() not in given}, **headers}


def _credentials(effect: Effect, house: House) -> dict[str, str] | Failure:
    asked = effect.request
    if asked["auth_type"] == "none":
        return {}
    try:
        auth = orjson.loads(house.vault.open(asked["auth"], asked["auth_place"]))
    except VaultError as error:
        return Failure(Kind.INVALID_CONFIG, error.code, "the credentials cannot be opened")
    match asked["auth_type"]:
        case "basic":
            pair = f"{auth['username']}:{auth['password']}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        case "bearer":
            return {"Authorization": f"Bearer {auth['token']}"}
        case _:
            return {auth.get("header", "X-API-Key"): auth["key"]}


def _result(reply: Reply | Failure, asked: Mapping[str, Any]) -> Result:
    failure = reply if isinstance(reply, Failure) else failure_of_status(reply)
    if failure is not None:
        return replace(failure, most_retries=asked["max_retries"])
    assert isinstance(reply, Reply)
    result: dict[str, Any] = {"status": reply.status}
    if asked["store_response"]:
        result["response"] = _stored(reply)
    return Sent(result)


def _stored(reply: Reply) -> dict[str, Any]:
    """Keep what later steps may read: headers, and the body as JSON where it is JSON."""
    headers = {
        name.lower(): storable_text(value)[:LONGEST_HEADER]
        for name, value in list(reply.headers.items())[:MOST_HEADERS]
        if name.lower() not in _NOT_KEPT
    }
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    body: Any = storable_text(reply.body.decode("utf-8", "replace"))
    if (media_type == "application/json" or media_type.endswith("+json")) and not reply.is_cut:
        with suppress(orjson.JSONDecodeError):  # what says it is JSON and is none stays text
            body = storable(orjson.loads(reply.body))
    return {"headers": headers, "body": body, "is_cut": reply.is_cut}


EFFECT = EffectType(
    kind="webhook.call",
    family="webhook",
    send=send,
    on_unknown="repeat",
    open=tools,
    # Each request has a time of its own, within this.
    timeout_seconds=LONGEST_TIMEOUT + 5.0,
)
