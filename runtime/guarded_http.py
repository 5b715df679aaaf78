"""HTTP requests on behalf of users: they reach the public Internet and nothing of ours.

Judged is the address that a socket is about to connect to, so that literals, odd spellings, names
that resolve to loopback, redirects and answers of DNS that change all end the same way. Redirects
are followed here, hop by hop: each is judged anew, and credentials stay with the origin that they
were meant for. Hosts of the setting `inside_hosts` are let through wherever they are.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from yarl import URL

from runtime.failures import Failure, Kind
from runtime.public_addresses import is_public

MOST_REDIRECTS: Final = 5
LARGEST_ANSWER: Final = 1 << 20
# Over all hosts; a host's own number is limited by its integration.
MOST_CONNECTIONS: Final = 1_000
KEEP_SECONDS: Final = 30.0
# Headers that are meant for one origin (RFC 9110, 15.4).
_OF_ORIGIN: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_OF_BODY: Final = frozenset({"content-type", "content-length", "content-encoding"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be asked. `secret_headers` are dropped when a redirect leads to another origin.

    `largest` bytes of the answer are read; what comes after is cut off.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_seconds: float = 30.0
    secret_headers: frozenset[str] = frozenset()
    largest: int = LARGEST_ANSWER


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, from `url` after redirects; `is_cut`: its end was not waited for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    is_cut: bool = False


@dataclass(slots=True)
class _Hop:
    is_inside: bool
    was_blocked: bool = False


_hop: ContextVar[_Hop] = ContextVar("hop")


class _BlockedError(OSError):
    """The address is not public."""


def _guarded_socket(address: tuple[Any, ...]) -> socket.socket:
    family, type_, protocol, _, place = address
    hop = _hop.get()
    if not hop.is_inside and not is_public(place[0]):
        hop.was_blocked = True
        raise _BlockedError("this address is not public")
    return socket.socket(family, type_, protocol)


class GuardedClient:
    """Sends requests with kept connections; opened by `open_guarded_client`."""

    def __init__(self, session: aiohttp.ClientSession, inside_hosts: frozenset[str]) -> None:
        self._session = session
        self._inside = inside_hosts

    async def send(self, request: Request) -> Reply | Failure:
        """Send a request and follow its redirects, all within its time; never raises.

        A Reply has any status, a Failure says why there is none: url_unusable,
        address_not_allowed, too_many_redirects, tls_failed, dns_failed, connection_refused,
        connection_lost, timeout, answer_malformed.
        """
        url = _url(request.url)
        if isinstance(url, Failure):
            return url
        try:
            async with asyncio.timeout(request.timeout_seconds) as limit:
                return await self._follow(request, url, limit)
        except TimeoutError:
            message = f"no answer within {request.timeout_seconds:g} s"
            return Failure(Kind.NETWORK_TIMEOUT, "timeout", message)

    async def _follow(self, request: Request, url: URL, limit: asyncio.Timeout) -> Reply | Failure:
        for _ in range(MOST_REDIRECTS + 1):
            hop = _Hop(_place(url) in self._inside or (url.host or "") in self._inside)
            _hop.set(hop)
            try:
                reply = await self._once(request, url, limit)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return _failure(error, hop)
            target = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or target is None:
                return reply
            to = _url(target, url)
            if isinstance(to, Failure):
                return to
            request, url = _redirected(request, reply.status, url, to), to
        message = f"more than {MOST_REDIRECTS} redirects"
        return Failure(Kind.REFUSED, "too_many_redirects", message)

    async def _once(self, request: Request, url: URL, limit: asyncio.Timeout) -> Reply:
        async with self._session.request(
            request.method,
            url,
            headers=request.headers,
            data=request.body,
            allow_redirects=False,
        ) as response:
            body, is_cut = await _read(response, request.largest, limit)
            # Repeated headers in one line, as RFC 9110, 5.3 allows.
            headers = {
                name.title(): ", ".join(response.headers.getall(name)) for name in response.headers
            }
            return Reply(response.status, headers, body, str(url), is_cut)


@asynccontextmanager
async def open_guarded_client(
    inside_hosts: frozenset[str], *, connections: int = MOST_CONNECTIONS
) -> AsyncIterator[GuardedClient]:
    """Open a client of so many connections at once; they are closed at the block's end."""
    connector = aiohttp.TCPConnector(
        limit=connections,
        keepalive_timeout=KEEP_SECONDS,
        socket_factory=_guarded_socket,
        # A kept name would also keep an answer that is meant to change.
        use_dns_cache=False,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        headers={"User-Agent": "Callboard"},
    ) as session:
        yield GuardedClient(session, inside_hosts)


def place_of(url: str) -> str | None:
    """Give host and port of a URL, as in example.com:443; None if it is unusable."""
    found = _url(url)
    return None if isinstance(found, Failure) else _place(found)


def failure_of_status(reply: Reply) -> Failure | None:
    """What a status says by the retry table; None for a success."""
    status = reply.status
    if 200 <= status < 300:
        return None
    match status:
        case 401 | 403 | 407:
            kind = Kind.AUTHENTICATION
        case 408:
            kind = Kind.NETWORK_TIMEOUT
        case 429:
            kind = Kind.RATE_LIMIT
        case 425 | 500 | 502 | 503 | 504:
            kind = Kind.SERVICE_UNAVAILABLE
        case _:
            kind = Kind.REFUSED
    message = f"the other side answered {status}"
    return Failure(kind, f"http_{status}", message, retry_after(reply.headers))


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or an instant by the other side's own Date."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return timedelta(seconds=int(text))
    at, now = _instant(text), _instant(headers.get("Date", "")) or datetime.now(UTC)
    return max(at - now, timedelta(0)) if at is not None else None


def _instant(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


async def _read(
    response: aiohttp.ClientResponse, largest: int, limit: asyncio.Timeout
) -> tuple[bytes, bool]:
    """Read the body up to a size; an answer whose end does not come in time is cut, not lost."""
    body = bytearray()
    deadline = limit.when()
    assert deadline is not None
    # A little earlier than the request's own limit, so that status and headers are not lost to it.
    try:
        async with asyncio.timeout_at(deadline - 0.05):
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > largest:
                    response.close()
                    return bytes(body[:largest]), True
    except TimeoutError:
        response.close()
        return bytes(body), True
    return bytes(body), False


def _url(text: str, base: URL | None = None) -> URL | Failure:
    try:
        url = URL(text) if base is None else base.join(URL(text))
        usable = url.scheme in _DEFAULT_PORTS and bool(url.host) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        message = "only http and https URLs that name a host can be called"
        return Failure(Kind.INVALID_CONFIG, "url_unusable", message)
    if url.user is not None or url.password is not None:
        message = "a URL must not hold credentials"
        return Failure(Kind.INVALID_CONFIG, "url_unusable", message)
    return url


def _place(url: URL) -> str:
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    return f"{host}:{url.port}"


def _redirected(request: Request, status: int, url: URL, to: URL) -> Request:
    headers = dict(request.headers)
    method, body = request.method, request.body
    # RFC 9110, 15.4.2 to 15.4.4: a POST becomes a GET, as browsers do it.
    if status == 303 or (status in {301, 302} and method == "POST"):
        method, body = "GET", None
        headers = {k: v for k, v in headers.items() if k.lower() not in _OF_BODY}
    if url.origin() != to.origin():
        secret = _OF_ORIGIN | {name.lower() for name in request.secret_headers}
        headers = {k: v for k, v in headers.items() if k.lower() not in secret}
    return replace(request, method=method, headers=headers, body=body)


def _failure(error: Exception, hop: _Hop) -> Failure:
    if hop.was_blocked:
        message = "the URL leads to an address that is not public"
        return Failure(Kind.INVALID_CONFIG, "address_not_allowed", message)
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return Failure(Kind.REFUSED, "tls_failed", "the other side's certificate is not valid")
        case aiohttp.ClientConnectorDNSError():
            return Failure(Kind.NETWORK_TIMEOUT, "dns_failed", "the host's name does not resolve")
        case aiohttp.ClientConnectorError():
            message = "the host takes no connection"
            return Failure(Kind.SERVICE_UNAVAILABLE, "connection_refused", message)
        case aiohttp.ClientResponseError():
            message = "the other side's answer is no HTTP"
            return Failure(Kind.SERVICE_UNAVAILABLE, "answer_malformed", message)
        case aiohttp.InvalidURL() | ValueError():
            message = "the request cannot be written"
            return Failure(Kind.INVALID_CONFIG, "url_unusable", message)
    return Failure(Kind.NETWORK_TIMEOUT, "connection_lost", "the connection was lost")
