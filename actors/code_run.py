"""code.run: the effect that runs one script in the sandbox, with fetch through the guard.

Not repeated when its outcome is unknown: a script may have called somebody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from actors.http_headers import fault_of_name, is_one_line
from runtime.effect import Effect, Result, Sent
from runtime.failures import Failure
from runtime.guarded_http import GuardedClient, Request, open_guarded_client, place_of
from runtime.house import House
from runtime.javascript import JavaScript, Ran, Script, open_javascript
from runtime.javascript.pool import Fetch, no_network
from runtime.registry import EffectType
from runtime.storable import storable, storable_text

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
LARGEST_BODY: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Tools:
    """What all runs of one process share."""

    javascript: JavaScript
    client: GuardedClient
    inside_hosts: frozenset[str]


@asynccontextmanager
async def open_tools(house: House, size: int) -> AsyncIterator[Tools]:
    """Open a sandbox for `size` scripts at once, and a client for what they fetch."""
    inside = house.settings.inside_hosts
    async with open_javascript(size) as javascript, open_guarded_client(inside) as client:
        yield Tools(javascript, client, inside)


@asynccontextmanager
async def tools(house: House) -> AsyncIterator[Tools]:
    """Open as many places as the family has slots."""
    async with open_tools(house, house.settings.slots_of("code")) as opened:
        yield opened


async def send(effect: Effect, tools: Tools) -> Result:
    """Run the script. What became of it is the result, be it an error of the script's own."""
    asked = effect.request
    script = Script(
        asked["code"],
        asked["given"],
        asked["modules"],
        asked["timeout_ms"],
        asked["memory_limit_mb"],
    )
    return Sent(shown(await run(script, tools, is_test=asked["is_test"])))


async def run(script: Script, tools: Tools, *, is_test: bool) -> Ran:
    """Run a script; an account in test mode fetches from nowhere but hosts inside."""
    fetch = _fetch_inside(tools) if is_test else _fetch(tools.client, script.timeout_ms / 1000)
    return await tools.javascript.run(script, fetch)


def shown(ran: Ran) -> dict[str, Any]:
    """Show what became of a script, as JSON that can be stored."""
    return {
        "output": storable(ran.output),
        "error": storable(asdict(ran.error)) if ran.error else None,
        "logs": [{"level": level, "text": storable_text(text)} for level, text in ran.logs],
        "logs_dropped": ran.logs_dropped,
        "duration_ms": ran.duration_ms,
    }


def _fetch_inside(tools: Tools) -> Fetch:
    outside = no_network
    inside = _fetch(tools.client, 5.0)

    async def fetch(call: Mapping[str, Any]) -> Mapping[str, Any]:
        place = place_of(call["url"]) or ""
        is_inside = {place, place.rpartition(":")[0]} & tools.inside_hosts
        return await (inside if is_inside else outside)(call)

    return fetch


def _fetch(client: GuardedClient, timeout_seconds: float) -> Fetch:
    async def fetch(call: Mapping[str, Any]) -> Mapping[str, Any]:
        headers, body = call["headers"], call["body"]
        if call["method"] not in METHODS:
            return {"error": "fetch: this method is not permitted"}
        if any(fault_of_name(n) or not is_one_line(v) for n, v in headers.items()):
            return {"error": "fetch: a header is not permitted"}
        data = None if body is None else body.encode("utf-8", "replace")
        if data is not None and len(data) > LARGEST_BODY:
            return {"error": f"fetch: the body is over {LARGEST_BODY} bytes"}
        request = Request(
            call["method"],
            call["url"],
            headers,
            data,
            timeout_seconds,
            # Whatever a script sets may be a credential: none of it goes to another origin.
            frozenset(headers),
            LARGEST_BODY,
        )
        reply = await client.send(request)
        if isinstance(reply, Failure):
            return {"error": f"fetch: {reply.message}"}
        return {
            "status": reply.status,
            "headers": {name.lower(): value for name, value in reply.headers.items()},
            "body": reply.body.decode("utf-8", "replace"),
            "url": reply.url,
        }

    return fetch


EFFECT = EffectType(
    kind="code.run",
    family="code",
    send=send,
    on_unknown="fail",
    open=tools,
    # A script's own time is 5 s at most; a new process may have to be started before.
    timeout_seconds=30.0,
)
