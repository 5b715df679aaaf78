"""Notifications by the API, and live over WebSockets: one's own, in any process, none missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest

from actors import notification_in_app
from api import notifications_live
from runtime.clock import current_instant
from runtime.effect import Effect, Sent
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk

ALL = "/api/v1/notifications"
LIVE = f"{ALL}/live"

Ws = aiohttp.ClientWebSocketResponse


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def user_of(caller: Caller) -> tuple[UUID, UUID]:
    me = await caller.get("/api/v1/me")
    return UUID(me["account"]["id"]), UUID(me["user"]["id"])


async def tell(caller: Caller, pool: asyncpg.Pool, message: str = "M") -> str:
    """Write a notification of a caller, as the effect does."""
    account_id, user_id = await user_of(caller)
    request = notification_in_app.request(user_id, "T", message)
    effect = Effect(uuid4(), account_id, request.kind, 1, "key", request.request)
    sent = await notification_in_app.send(effect, pool)
    assert isinstance(sent, Sent)
    return str(sent.result["notification_id"])


@asynccontextmanager
async def listening(
    desk: Desk, caller: Caller, *, since: str | None = None, **options: Any
) -> AsyncIterator[Ws]:
    options.setdefault("headers", {"Authorization": f"Bearer {caller.token}"})
    async with desk.client.ws_connect(
        LIVE, params={"since": since} if since else {}, **options
    ) as ws:
        yield ws


async def heard(ws: Ws) -> Any:
    async with asyncio.timeout(10):
        return await ws.receive_json()


async def ready(ws: Ws) -> int:
    said = await heard(ws)
    assert said["type"] == "ready"
    unread: int = said["unread"]
    return unread


async def closed(ws: Ws) -> int | None:
    async with asyncio.timeout(10):
        while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
    assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}
    return ws.close_code


async def test_one_s_own_are_listed_counted_and_marked_read(desk: Desk, pool: asyncpg.Pool) -> None:
    viewer, other = await desk.caller(role="viewer"), await desk.caller("Other")
    first, second = await tell(viewer, pool), await tell(viewer, pool)
    await tell(other, pool)
    listed = await viewer.get(ALL)
    assert [one["id"] for one in listed["items"]] == [second, first]
    assert await viewer.get(f"{ALL}/unread") == {"unread": 2}
    read = await viewer.post(f"{ALL}/{first}/read")
    assert (await viewer.post(f"{ALL}/{first}/read"))["read_at"] == read["read_at"] is not None
    assert [one["id"] for one in (await viewer.get(ALL, is_read="false"))["items"]] == [second]
    assert await viewer.post(f"{ALL}/read", {}) == {"marked": 1}
    assert await viewer.get(f"{ALL}/unread") == {"unread": 0}
    assert await other.get(f"{ALL}/unread") == {"unread": 1}


async def test_nobody_else_s_is_there_not_even_for_an_admin_of_the_account(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    viewer, admin = await desk.caller(role="viewer"), await desk.caller()
    if await user_of(viewer) == await user_of(admin):
        made = await admin.post("/api/v1/users", {"email": "bo@acme.test", "role": "viewer"})
        token = await admin.post("/api/v1/tokens", {"name": "x", "user_id": made["id"]})
        viewer = desk.stranger(token["token"])
    theirs = await tell(viewer, pool)
    for method, path in (("GET", f"{ALL}/{theirs}"), ("POST", f"{ALL}/{theirs}/read")):
        assert (await admin.refused(method, path)).code == "notification_not_found"
    assert (await admin.get(ALL))["items"] == []


async def test_preferences_are_one_s_own_or_a_manager_s_to_set(desk: Desk) -> None:
    admin = await desk.caller()
    made = await admin.post("/api/v1/users", {"email": "bo@acme.test", "role": "viewer"})
    token = await admin.post("/api/v1/tokens", {"name": "x", "user_id": made["id"]})
    viewer = desk.stranger(token["token"])
    path = "/api/v1/users/{}/notification-preferences"
    mine, of_viewer = "/api/v1/me/notification-preferences", path.format(made["id"])
    said = {
        "muted": ["sms"],
        "quiet_hours": {"start": "22:00:00", "end": "07:00:00", "time_zone": "europe/berlin"},
    }
    shown = await viewer.put(mine, said)
    assert shown["quiet_hours"]["time_zone"] == "Europe/Berlin"
    assert (await viewer.refused("GET", of_viewer)).status == 403
    assert await viewer.get(mine) == await admin.get(of_viewer) == shown
    assert (await admin.get(mine))["updated_at"] is None
    assert (await admin.put(of_viewer, {}))["muted"] == []
    for wrong, fault in (
        ({"time_zone": "Mars/Base"}, "time_zone_unknown"),
        ({"end": "22:00:00"}, "quiet_hours_unusable"),
        ({"start": "25:00"}, "time_parsing"),
    ):
        body = {"quiet_hours": {**said["quiet_hours"], **wrong}}  # type: ignore[dict-item]
        assert (await viewer.refused("PUT", mine, body)).faults[0][1] == fault
    unknown = path.format(uuid4())
    assert (await admin.refused("GET", unknown)).code == "user_not_found"


async def test_what_is_written_comes_at_once_in_every_process_to_its_user_alone(
    desk: Desk, pool: asyncpg.Pool, settings: Settings
) -> None:
    caller, other = await desk.caller(), await desk.caller("Other")
    async with (
        open_desk(pool, settings) as second,
        listening(desk, caller) as here,
        listening(second, caller) as there,
        listening(second, other) as elsewhere,
    ):
        assert [await ready(ws) for ws in (here, there, elsewhere)] == [0, 0, 0]
        told = await tell(caller, pool)
        for ws in (here, there):
            said = await heard(ws)
            assert (said["type"], said["notification"]["id"]) == ("notification", told)
        mine = await tell(other, pool)
        assert (await heard(elsewhere))["notification"]["id"] == mine


async def test_who_comes_back_is_told_first_what_came_meanwhile(
    desk: Desk, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications_live, "AT_ONCE", 2)
    caller = await desk.caller()
    since = await current_instant(pool)
    told = [await tell(caller, pool) for _ in range(5)]
    async with listening(desk, caller, since=since.isoformat()) as ws:
        assert [(await heard(ws))["notification"]["id"] for _ in told] == told
        assert await ready(ws) == 5
    late = (await current_instant(pool)) + timedelta(minutes=2)
    async with listening(desk, caller, since=late.isoformat()) as ws:
        assert await ready(ws) == 5


async def test_a_lost_listening_connection_loses_nobody_anything(
    desk: Desk, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await desk.caller()
    held = asyncio.Event()

    async def wait(_seconds: float) -> None:
        await held.wait()

    async with listening(desk, caller) as ws:
        await ready(ws)
        monkeypatch.setattr(notifications_live, "_again", wait)
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN %'"
        )
        unheard = await tell(caller, pool)
        held.set()
        assert (await heard(ws))["notification"]["id"] == unheard
        told = await tell(caller, pool)
        assert (await heard(ws))["notification"]["id"] == told


async def test_a_token_that_ends_ends_its_socket(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    async with listening(desk, caller) as ws:
        await ready(ws)
        user = await user_of(caller)
        await pool.execute("UPDATE api_tokens SET revoked_at = now()")
        await pool.execute("SELECT pg_notify('notifications', $1)", f"{user[1]} {uuid4()}")
        assert await closed(ws) == 4401


async def test_a_browser_offers_its_token_as_a_subprotocol(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    protocols = ("callboard", f"bearer.{caller.token}")
    async with listening(desk, caller, headers={}, protocols=protocols) as ws:
        assert ws.protocol == "callboard"
        await ready(ws)


@pytest.mark.parametrize("protocols", [(), ("callboard",), ("callboard", "bearer.cb_wrong")])
async def test_without_a_good_token_there_is_no_socket(
    desk: Desk, protocols: tuple[str, ...]
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with listening(desk, desk.stranger(), headers={}, protocols=protocols):
            pass
    assert caught.value.status == 401


async def test_what_asks_for_no_socket_is_told_so(desk: Desk) -> None:
    caller = await desk.caller()
    refusal = await caller.refused("GET", LIVE)
    assert (refusal.status, refusal.code) == (426, "upgrade_required")
    wrong = await caller.refused("GET", f"{LIVE}?since=yesterday")
    assert wrong.status == 422


async def test_a_user_has_so_many_sockets_and_no_more(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications_live, "MOST_SOCKETS", 1)
    caller = await desk.caller()
    async with listening(desk, caller) as ws:
        await ready(ws)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with listening(desk, caller):
                pass
        assert caught.value.status == 429


async def test_who_does_not_read_is_let_go_and_holds_up_nobody(
    desk: Desk, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications_live, "SEND_SECONDS", 0.1)
    slow, quick = await desk.caller(), await desk.caller("Other")
    reader, writer = await asyncio.open_connection(desk.client.host, desk.client.port)
    writer.write(
        f"GET {LIVE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {slow.token}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert b" 101 " in await reader.readline()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with listening(desk, quick) as ws:
        await ready(ws)
        hub = desk.client.app[notifications_live.HUB]
        (socket,) = hub._sockets[(await user_of(slow))[1]]
        account_id, user_id = await user_of(slow)
        await pool.execute(
            "INSERT INTO notifications (account_id, user_id, title, message, created_at)"
            " SELECT $1, $2, 'T', repeat('x', 100000), current_instant()"
            " FROM generate_series(1, 300)",
            *(account_id, user_id),
        )
        socket.catch_up()
        told = await tell(quick, pool)
        assert (await heard(ws))["notification"]["id"] == told
        async with asyncio.timeout(20):
            while user_id in hub._sockets:
                await pool.fetchval("SELECT 1")
    writer.close()


async def test_a_server_that_stops_says_goodbye(pool: asyncpg.Pool, settings: Settings) -> None:
    async with open_desk(pool, settings) as desk:
        caller = await desk.caller()
        async with listening(desk, caller) as ws:
            await ready(ws)
            goodbye = asyncio.create_task(closed(ws))
            await desk.client.app[notifications_live.HUB].close()
            assert await goodbye == 1001
