"""Requests on behalf of users reach the public Internet and nothing of ours."""

import asyncio
import gzip
import json
import socket
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from runtime.failures import Failure, Kind
from runtime.guarded_http import (
    GuardedClient,
    Reply,
    Request,
    failure_of_status,
    open_guarded_client,
    place_of,
    retry_after,
)
from runtime.public_addresses import is_public
from tests.serving import serving


async def send(request: Request, *inside: str) -> Reply | Failure:
    async with open_guarded_client(frozenset(inside)) as client:
        return await client.send(request)


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "method": request.method,
            "headers": {k.lower(): v for k, v in request.headers.items()},
            "body": await request.text(),
        }
    )


def code(result: Reply | Failure) -> str:
    assert isinstance(result, Failure), result
    return result.code


def replied(result: Reply | Failure) -> Reply:
    assert isinstance(result, Reply), result
    return result


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
    ],
)
async def test_no_spelling_of_loopback_is_reached(host: str) -> None:
    calls = []

    async def secret(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response(text="SECRET")

    async with serving(secret) as place:
        port = place.rpartition(":")[2]
        result = await send(Request("GET", f"http://{host}:{port}/"))
    # Some spellings are no host to the URL library or resolver: refused all the same.
    assert code(result) in {"address_not_allowed", "url_unusable", "dns_failed"}
    assert calls == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1",
        "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:10.0.0.1", "2002:0a00:0001::1", "64:ff9b::a00:1", "64:ff9b:1::1", "nonsense", "",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_none(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:4700::1", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_mapped_into_ipv6_as_it_is(address: Any) -> None:
    assert is_public(f"::ffff:{address}") == is_public(str(address))


async def test_a_name_is_judged_by_the_address_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host != "rebinding.test":
            return real(host, port, *rest, **more)
        asked.append(host)
        place = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*place, (address, port)) for address in answers[min(len(asked), 2) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with open_guarded_client(frozenset()) as client:
        # The first answer is public (and unreachable here); a later one leads inside.
        socket.getaddrinfo("rebinding.test", 80)
        result = await client.send(Request("GET", "http://rebinding.test/", timeout_seconds=5))
    assert code(result) == "address_not_allowed"
    assert len(asked) == 2


async def test_a_name_with_an_address_inside_among_others_does_not_lead_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    real = socket.getaddrinfo

    async def secret(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response(text="SECRET")

    def resolve(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host != "several.test":
            return real(host, port, *rest, **more)
        place = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*place, (address, port)) for address in ("10.0.0.1", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with serving(secret) as place:
        port = place.rpartition(":")[2]
        result = await send(Request("GET", f"http://several.test:{port}/", timeout_seconds=5))
    assert code(result) == "address_not_allowed"
    assert calls == []


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would connect where we must not, and would see what is sent."""
    calls = []

    async def proxy(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response(text="proxied")

    async with serving(proxy) as place:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{place}")
        result = await send(Request("GET", "http://10.0.0.1/", timeout_seconds=5))
    assert code(result) == "address_not_allowed"
    assert calls == []


async def test_a_host_inside_is_reached_when_the_settings_allow_it_and_only_that() -> None:
    async with serving(echo) as place, serving(echo) as other:
        assert replied(await send(Request("GET", f"http://{place}/"), place)).status == 200
        assert replied(await send(Request("GET", f"http://{place}/"), "127.0.0.1")).status == 200
        assert code(await send(Request("GET", f"http://{other}/"), place)) == "address_not_allowed"


async def test_a_redirect_does_not_lead_inside() -> None:
    async with serving(echo) as secret:

        async def lead(_request: web.Request) -> web.Response:
            raise web.HTTPFound(f"http://{secret}/")

        async with serving(lead) as place:
            result = await send(Request("GET", f"http://{place}/"), place)
    assert code(result) == "address_not_allowed"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/", "http://u:p@x.test/"])
async def test_a_redirect_leads_to_nothing_but_http(target: str) -> None:
    async def lead(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    async with serving(lead) as place:
        assert code(await send(Request("GET", f"http://{place}/"), place)) == "url_unusable"


async def test_credentials_stay_with_their_origin() -> None:
    headers = {"Authorization": "Bearer s", "X-API-Key": "k", "X-Plain": "p", "Cookie": "c=1"}
    async with serving(echo) as other:

        async def lead(request: web.Request) -> web.StreamResponse:
            if request.path == "/start":
                return web.Response(status=307, headers={"Location": "/same"})
            if request.path == "/same":
                assert request.headers["X-API-Key"] == "k"
                return web.Response(status=307, headers={"Location": f"http://{other}/"})
            raise AssertionError(request.path)

        async with serving(lead) as place:
            request = Request(
                "POST",
                f"http://{place}/start",
                headers,
                b"data",
                secret_headers=frozenset({"X-API-Key"}),
            )
            reply = replied(await send(request, place, other))
    came = json.loads(reply.body)
    assert (came["method"], came["body"]) == ("POST", "data")
    assert came["headers"]["x-plain"] == "p"
    assert not {"authorization", "x-api-key", "cookie"} & set(came["headers"])


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [(301, "POST", "GET"), (302, "POST", "GET"), (303, "PUT", "GET"), (302, "PUT", "PUT"),
     (307, "POST", "POST"), (308, "POST", "POST")],
)  # fmt: skip
async def test_redirects_change_methods_as_the_standard_says(
    status: int, method: str, expected: str
) -> None:
    async def lead(request: web.Request) -> web.StreamResponse:
        if request.path == "/there":
            return await echo(request)
        return web.Response(status=status, headers={"Location": "/there"})

    async with serving(lead) as place:
        reply = replied(await send(Request(method, f"http://{place}/", {}, b"data"), place))
    came = json.loads(reply.body)
    assert (came["method"], came["body"]) == (expected, "" if expected == "GET" else "data")


async def test_redirects_without_end_are_given_up() -> None:
    async def lead(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/"})

    async with serving(lead) as place:
        assert code(await send(Request("GET", f"http://{place}/"), place)) == "too_many_redirects"


async def test_what_comes_after_the_largest_size_is_cut_off() -> None:
    async def pour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with serving(pour) as place:
        reply = replied(await send(Request("GET", f"http://{place}/", largest=1000), place))
    assert (len(reply.body), reply.is_cut, reply.status) == (1000, True, 200)


async def test_a_compressed_bomb_is_cut_like_any_answer() -> None:
    bomb = gzip.compress(bytes(50_000_000))

    async def explode(_request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with serving(explode) as place:
        reply = replied(await send(Request("GET", f"http://{place}/", largest=10_000), place))
    assert (len(reply.body), reply.is_cut) == (10_000, True)


async def test_an_answer_without_end_is_cut_when_its_time_is_over() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await asyncio.Event().wait()
        return response

    async with serving(drip) as place:
        reply = replied(await send(Request("GET", f"http://{place}/", timeout_seconds=0.3), place))
    assert (reply.status, reply.body, reply.is_cut) == (200, b"begun", True)


async def test_no_answer_in_time_is_a_time_out() -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(hang) as place:
        result = await send(Request("GET", f"http://{place}/", timeout_seconds=0.1), place)
    assert isinstance(result, Failure)
    assert (result.kind, result.code) == (Kind.NETWORK_TIMEOUT, "timeout")


async def test_connections_are_kept() -> None:
    peers = set()

    async def note(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="ok")

    async with serving(note) as place, open_guarded_client(frozenset({place})) as client:
        for _ in range(5):
            replied(await client.send(Request("GET", f"http://{place}/")))
    assert len(peers) == 1


async def raw(answer: bytes) -> str:
    """What a server that says this and hangs up makes of a request."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        return code(await send(Request("GET", f"http://{host}:{port}/"), host))
    finally:
        server.close()


async def test_what_is_no_http_is_named() -> None:
    assert await raw(b"") == "connection_lost"
    assert await raw(b"SSH-2.0-OpenSSH\r\n\r\n") == "answer_malformed"
    assert await raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") == "connection_lost"


async def test_a_port_that_nobody_listens_on_refuses() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = await send(Request("GET", f"http://127.0.0.1:{port}/"), "127.0.0.1")
    assert code(result) == "connection_refused"


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://x.test/", "http://", "http://x.test:0/", "http://x.test:99999/",
     "http://user:password@x.test/", "http://[::1/", "javascript:alert(1)", "http:///path"],
)  # fmt: skip
async def test_only_http_urls_with_a_host_are_called(url: str) -> None:
    assert code(await send(Request("GET", url))) == "url_unusable"
    assert place_of(url) is None


def test_a_place_has_its_port() -> None:
    assert place_of("HTTPS://Example.com/x") == "example.com:443"
    assert place_of("http://[2606:4700::1]/") == "[2606:4700::1]:80"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Kind.AUTHENTICATION), (403, Kind.AUTHENTICATION), (404, Kind.REFUSED),
     (408, Kind.NETWORK_TIMEOUT), (410, Kind.REFUSED), (429, Kind.RATE_LIMIT),
     (500, Kind.SERVICE_UNAVAILABLE), (501, Kind.REFUSED), (503, Kind.SERVICE_UNAVAILABLE),
     (304, Kind.REFUSED)],
)  # fmt: skip
def test_statuses_are_failures_of_the_retry_table(status: int, kind: Kind) -> None:
    failure = failure_of_status(Reply(status, {}, b"", ""))
    assert failure is not None
    assert failure.kind is kind
    assert failure_of_status(Reply(204, {}, b"", "")) is None


EARLIER, LATER = "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:10 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "120"}, 120), ({"Retry-After": " 0 "}, 0), ({}, None),
     ({"Retry-After": "soon"}, None), ({"Retry-After": "-5"}, None),
     ({"Retry-After": "9" * 400}, None),
     ({"Retry-After": LATER, "Date": EARLIER}, 10),
     ({"Retry-After": EARLIER, "Date": LATER}, 0)],
)  # fmt: skip
def test_retry_after_is_seconds_or_an_instant(headers: dict[str, str], seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after(headers) == expected


async def test_a_client_serves_many_at_once() -> None:
    async with serving(echo) as place, open_guarded_client(frozenset({place})) as client:

        async def one(client: GuardedClient) -> int:
            return replied(await client.send(Request("GET", f"http://{place}/"))).status

        assert set(await asyncio.gather(*(one(client) for _ in range(50)))) == {200}
