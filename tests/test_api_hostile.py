"""Whatever is sent to whatever route: never a 5xx, never a hang, and a problem that says why."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from api import bodies, server
from api.calls import Route
from api.server import ROUTES
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk
from tests.test_api_access import filled, owned


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


JSON = {"Content-Type": "application/json"}

# None of these is a body that any route may take.
BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "empty": (b"", JSON),
    "not JSON": (b"{", JSON),
    "a list": (b"[]", JSON),
    "a number": (b"1", JSON),
    "null": (b"null", JSON),
    "two documents": (b"{}{}", JSON),
    "a key twice": (b'{"name": "a", "name": "b"}', JSON),
    "NaN": (b'{"name": NaN}', JSON),
    "infinity": (b'{"name": 1e999}', JSON),
    "NUL": (b'{"name": "\\u0000"}', JSON),
    "a lone surrogate": (b'{"name": "\\ud800"}', JSON),
    "no UTF-8": (b'{"name": "\xff"}', JSON),
    "a huge number": (b'{"name": 1' + b"0" * 5_000 + b"}", JSON),
    "65 deep": (b'{"a":' * 65 + b"1" + b"}" * 65, JSON),
    "100,000 deep": (b"[" * 100_000, JSON),
    "a field nobody has": (b'{"no_such_field_here": 1}', JSON),
    "UTF-16": (
        '{"name": "x"}'.encode("utf-16"),
        {"Content-Type": "application/json; charset=utf-16"},
    ),
    "an unknown charset": (b"{}", {"Content-Type": "application/json; charset=klingon"}),
    "XML": (b"<name/>", {"Content-Type": "application/xml"}),
    "a broken media type": (b"{}", {"Content-Type": ";;;"}),
    "no gzip": (b"{}", {**JSON, "Content-Encoding": "gzip"}),
    "half a gzip": (gzip.compress(b'{"name": "x"}')[:-6], {**JSON, "Content-Encoding": "gzip"}),
    "brotli": (b"{}", {**JSON, "Content-Encoding": "br"}),
    "a bomb": (gzip.compress(b" " * 30_000_000), {**JSON, "Content-Encoding": "gzip"}),
}  # fmt: skip


async def send(
    caller: Caller, route: Route, ids: dict[str, str], body: bytes, **headers: str
) -> Any:
    client, path = caller.client, filled(route, ids)
    headers = {"Authorization": f"Bearer {caller.token}", **headers}
    response = await client.request(
        route.method, path, data=body, headers=headers, skip_auto_headers=["Content-Type"]
    )
    return response.status, await response.read()


async def test_no_route_takes_or_trips_over_a_hostile_body(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    ids = await owned(caller, pool)
    for route in ROUTES:
        if route.body is None or "import" in route.path:
            continue
        for what, (body, headers) in BODIES.items():
            status, answer = await send(caller, route, ids, body, **headers)
            if what in {"empty", "a field nobody has"} and route.body_is_optional:
                assert status < 500, (what, route.path, answer)
                continue
            assert 400 <= status < 500, (what, route.method, route.path, status, answer)
            assert json.loads(answer)["code"], (what, route.path, answer)
    await caller.get("/api/v1/me")


async def test_a_body_that_is_not_compressed_as_it_says_leaves_the_connection_whole(
    desk: Desk,
) -> None:
    caller = await desk.caller()
    head = (
        f"POST /api/v1/workflows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n"
        "Content-Type: application/json\r\n"
    )
    last = (
        f"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n"
        "Connection: close\r\n\r\n"
    )
    whole = gzip.compress(b'{"name": "packed"}')
    for coding, body, status in (
        ("gzip", b"no gzip", b"400"),
        ("deflate", b"no deflate", b"400"),
        ("gzip", whole[:-6], b"400"),
        ("br", b"x", b"415"),
        ("zstd", b"x", b"415"),
        ("gzip, gzip", whole, b"415"),
        ("gzip", whole, b"201"),
        ("gzip", gzip.compress(b'{"name": ') + gzip.compress(b'"in two"}'), b"201"),
        ("deflate", zlib.compress(b'{"name": "flat"}'), b"201"),
        ("identity", b'{"name": "plain"}', b"201"),
    ):
        asked = f"{head}Content-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(desk.client.host, desk.client.port)
        writer.write(asked.encode() + body + last.encode())
        async with asyncio.timeout(10):
            answers = await reader.read()
        writer.close()
        found = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
        assert found == [status, b"200"], (coding, answers)


async def test_a_file_that_is_cut_off_in_its_compression_is_not_taken(desk: Desk) -> None:
    caller = await desk.caller()
    whole = gzip.compress(b"last_name\n" + b"ada\n" * 5_000)
    for path, media_type in (("files?name=a.csv", "text/csv"), ("contacts/import", "text/csv")):
        for body, is_taken in ((whole[: len(whole) // 2], False), (whole, True)):
            answer = await caller.call(
                "POST",
                f"/api/v1/{path}",
                data=body,
                headers={"Content-Type": media_type, "Content-Encoding": "gzip"},
            )
            assert (answer.status < 300) is is_taken, (path, answer.data)


UNKNOWN = "00000000-0000-4000-8000-000000000000"
ODD_PATHS = [
    "/api/v1/workflows/%00",
    "/api/v1/workflows/%ff%fe",
    "/api/v1/workflows/%2e%2e%2f",
    "/api/v1/workflows/..%2f..%2fetc",
    "/api/v1/workflows/{}",
    "/api/v1/workflows/" + "a" * 6000,
    "/api/v1/workflows/00000000-0000-0000-0000-00000000000g",
    "/api/v1/workflows/\u06600000000-0000-0000-0000-000000000000",
    "/api/v1//workflows",
    "/api/v1/contacts?limit=0",
    "/api/v1/contacts?limit=1e3",
    "/api/v1/contacts?limit=99999999999999999999",
    "/api/v1/contacts?limit=1&limit=2",
    "/api/v1/contacts?cursor=%00",
    "/api/v1/contacts?cursor=" + "A" * 5000,
    "/api/v1/contacts?owner_id=1",
    "/api/v1/contacts?created_from=99999-01-01T00:00:00Z",
    "/api/v1/contacts?created_from=0.5",
    "/api/v1/contacts?sort=%27;drop",
    "/api/v1/contacts?fields=,,,",
    "/api/v1/contacts?" + "&".join(f"a{n}=1" for n in range(500)),
]


@pytest.mark.parametrize("path", ODD_PATHS, ids=range(len(ODD_PATHS)))
async def test_odd_paths_and_query_strings_are_refused(desk: Desk, path: str) -> None:
    caller = await desk.caller()
    answer = await caller.call("GET", path)
    assert 400 <= answer.status < 500, (path, answer.data)


async def test_a_method_that_a_route_has_not_says_which_it_has(desk: Desk) -> None:
    caller = await desk.caller()
    methods: dict[str, set[str]] = {}
    for route in ROUTES:
        methods.setdefault(route.path, set()).add(route.method)
    for path, allowed in methods.items():
        answer = await caller.call("PROPFIND", re.sub(r"\{[^}]*\}", UNKNOWN, path))
        assert answer.status == 405, path
        assert set(answer.headers["Allow"].split(",")) - {"HEAD"} == allowed, path


async def raw(desk: Desk, *parts: bytes, close: bool = False) -> bytes:
    """What the server says to these bytes, until it hangs up or has answered."""
    host, port = desk.client.host, desk.client.port
    reader, writer = await asyncio.open_connection(host, port)
    for part in parts:
        writer.write(part)
    await writer.drain()
    if close:
        writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read(65_536)
    writer.close()
    return answer


async def test_what_is_no_http_gets_a_400_or_nothing(desk: Desk) -> None:
    assert b" 400 " in await raw(desk, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert b" 400 " in await raw(desk, b"GET / HTTP/9.9\r\n\r\n")
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    assert b" 400 " in await raw(desk, head + b"X: " + b"a" * 20_000 + b"\r\n\r\n")
    post = b"POST /api/v1/workflows HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 40" in await raw(desk, post + b"zz\r\nhello\r\n")
    both = head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 400 " in await raw(desk, both)
    assert (await raw(desk, b"GET /healthz HT", close=True))[:12] in {
        b"",
        b"HTTP/1.0 400",
        b"HTTP/1.1 400",
    }


async def test_requests_may_come_in_a_row_without_waiting(desk: Desk) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection(desk.client.host, desk.client.port)
    writer.write(one * 3 + last)
    async with asyncio.timeout(10):
        answers = await reader.read()
    writer.close()
    assert answers.count(b"HTTP/1.1 200 OK") == 4


async def test_a_connection_without_a_whole_head_is_closed(
    pool: asyncpg.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent, cut off, after a request, or a header at a time: none holds a place for ever."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    whole, part = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost:"
    async with open_desk(pool, settings) as desk:
        for beginning in (b"", part, whole, whole + part):
            reader, writer = await asyncio.open_connection(desk.client.host, desk.client.port)
            writer.write(beginning)
            answers = await asyncio.wait_for(reader.read(), 10)
            assert answers.count(b"HTTP/1.1 200") == (whole in beginning)
            writer.close()
        reader, writer = await asyncio.open_connection(desk.client.host, desk.client.port)
        writer.write(part)
        end = asyncio.create_task(reader.read())
        while not end.done():  # each header before the time is up
            writer.write(b" x\r\nX-More:")
            await asyncio.wait([end], timeout=0.02)
        assert end.result() == b""
        writer.close()


async def test_a_body_that_does_not_come_in_its_time_is_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.05)
    caller = await desk.caller()
    head = (
        f"POST /api/v1/workflows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    answer = await raw(desk, head.encode(), b'{"name":')
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in answer
