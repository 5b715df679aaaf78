"""Live notifications: a WebSocket on which the caller's own come as they are written.

The socket is told `{"type": "ready", "unread": …}` once nothing can be missed any more, and then
`{"type": "notification", "notification": {…}}` for each, at least once; `since` (an instant) asks
for those from then on first. The process listens on one connection of the pool while anybody is
there; when it is lost, sockets are caught up from the database, so that nobody misses anything.

Who reads slowly holds up nobody: a socket keeps ids only, and is closed (1013, try again later)
when it has too many before it or takes too long for one. Close codes 4401: the token has ended;
1001: the server stops. A browser, which can set no header, offers the subprotocols `callboard`
and `bearer.<token>`; a token is never in the address. There are no cookies: another site's page
knows no token, so that its origin does not matter.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiohttp import WSCloseCode, web

from api.access import Caller, Permission, require
from api.answers import encode
from api.calls import SERVICES, PublicRoute
from api.credentials import Gate
from api.fields import Instant
from api.notifications import queries
from api.parameters import Parameters, read_parameters
from api.problems import Problem
from runtime import log
from runtime.clock import current_instant
from runtime.database import LOST_CONNECTION

logger = log.get(__name__)

CHANNEL: Final = "notifications"
PROTOCOL: Final = "callboard"
TOKEN_ENDED: Final = 4401

MOST_SOCKETS: Final = 10
"""Of one user in one process."""
MOST_AHEAD: Final = 1_000
AT_ONCE: Final = 100
HEARTBEAT_SECONDS: Final = 30.0
SEND_SECONDS: Final = 10.0
CHECK_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 1.0
# Whoever wrote later may have committed first; and the listener was away for a moment.
OVERLAP: Final = timedelta(minutes=1)


class Since(Parameters):
    """From which instant on to tell what is there already."""

    since: Instant | None = None


class Socket:
    """One reader: what it is to be told next, and what it was told already."""

    def __init__(self, request: web.Request, caller: Caller, ws: web.WebSocketResponse) -> None:
        self.request = request
        self.caller = caller
        self.ws = ws
        self._ahead: dict[UUID, None] = {}
        self._told: dict[UUID, None] = {}
        self._is_behind = True
        self._is_ready = False
        self._wake = asyncio.Event()

    def hear(self, notification_id: UUID) -> None:
        """Note that there is one more."""
        self._ahead[notification_id] = None
        self._wake.set()

    def catch_up(self) -> None:
        """Look into the database for everything that it may not have heard of."""
        self._is_behind = True
        self._wake.set()

    async def tell(self, pool: asyncpg.Pool, gate: Gate, since: datetime) -> None:
        """Tell what comes, until the socket or the token ends."""
        while not self.ws.closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), CHECK_SECONDS)
            was_woken = self._wake.is_set()
            self._wake.clear()
            if not await gate.is_good(self.request):
                await self.ws.close(code=TOKEN_ENDED, message=b"the token has ended")
            elif len(self._ahead) > MOST_AHEAD:
                await self.ws.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too far behind")
            elif was_woken:
                since = await self._tell(pool, since)

    async def _tell(self, pool: asyncpg.Pool, since: datetime) -> datetime:
        own = self.caller.account_id, self.caller.user_id
        if self._is_behind:
            self._is_behind = False
            since = await self._tell_since(pool, since - OVERLAP if self._is_ready else since)
        if not self._is_ready:
            self._is_ready = True
            await self._send({"type": "ready", "unread": await pool.fetchval(queries.unread, *own)})
        while self._ahead:
            ids = list(self._ahead)[:AT_ONCE]
            for id_ in ids:
                del self._ahead[id_]
            rows = await pool.fetch(queries.named, *own, ids)
            await self._send_all(rows)
            since = max([since, *(row["created_at"] for row in rows)])
        return since

    async def _tell_since(self, pool: asyncpg.Pool, since: datetime) -> datetime:
        own = self.caller.account_id, self.caller.user_id
        last, rows = (since, UUID(int=0)), None
        while rows is None or len(rows) == AT_ONCE:
            rows = await pool.fetch(queries.since, *own, *last, AT_ONCE)
            await self._send_all(rows)
            if rows:
                last = rows[-1]["created_at"], rows[-1]["id"]
        return last[0]

    async def _send_all(self, rows: list[asyncpg.Record]) -> None:
        for row in rows:
            if row["id"] in self._told:
                continue
            self._told[row["id"]] = None
            if len(self._told) > MOST_AHEAD:
                del self._told[next(iter(self._told))]
            await self._send({"type": "notification", "notification": dict(row)})

    async def _send(self, said: dict[str, Any]) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self.ws.send_str(encode(said).decode())


class Hub:
    """All sockets of a process, and the connection that hears for them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sockets: dict[UUID, set[Socket]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._hears = False

    def add(self, socket: Socket) -> None:
        """Let a socket hear; a 429 Problem if its user has too many."""
        of_user = self._sockets[socket.caller.user_id]
        if len(of_user) >= MOST_SOCKETS:
            detail = f"A user may have {MOST_SOCKETS} sockets at once."
            raise Problem(429, "too_many_sockets", detail, headers={"Retry-After": "60"})
        of_user.add(socket)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        elif self._hears:
            socket.catch_up()

    def remove(self, socket: Socket) -> None:
        """Let it go; when nobody is left the connection is given back."""
        of_user = self._sockets[socket.caller.user_id]
        of_user.discard(socket)
        if not of_user:
            del self._sockets[socket.caller.user_id]
        if not self._sockets and self._listening is not None:
            # Whoever comes before it has ended starts another one.
            self._listening.cancel()
            self._ending.add(self._listening)
            self._listening.add_done_callback(self._ending.discard)
            self._listening, self._hears = None, False

    async def close(self) -> None:
        """Say goodbye to everybody."""
        for socket in [one for of_user in self._sockets.values() for one in of_user]:
            await socket.ws.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops")
        listening = {self._listening} if self._listening is not None else set()
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, *self._ending, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._pool.acquire() as db:
                    await self._hear_on(db)
            except (*LOST_CONNECTION, asyncpg.InterfaceError) as error:
                logger.warning("notifications.not_heard", error=type(error).__name__)
            await _again(AGAIN_SECONDS)

    async def _hear_on(self, db: Any) -> None:
        lost = asyncio.Event()

        def end(_connection: object) -> None:
            lost.set()

        db.add_termination_listener(end)
        await db.add_listener(CHANNEL, self._heard)
        try:
            self._hears = True
            for of_user in self._sockets.values():
                for socket in of_user:
                    socket.catch_up()
            await lost.wait()
        finally:
            if self._listening is asyncio.current_task():
                self._hears = False
            if not lost.is_set():
                db.remove_termination_listener(end)
                await db.remove_listener(CHANNEL, self._heard)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        user, _, notification = str(payload).partition(" ")
        for socket in self._sockets.get(UUID(user), ()):
            socket.hear(UUID(notification))


async def _again(seconds: float) -> None:
    await asyncio.sleep(seconds)


HUB: Final = web.AppKey("notifications_live", Hub)


async def live(request: web.Request) -> web.StreamResponse:
    """Open the socket; 426 for what does not ask for one."""
    services = request.app[SERVICES]
    caller = await services.gate.identify(request)
    require(caller, Permission.READ)
    services.gate.admit(caller)
    since = read_parameters(request, Since).since
    ws = web.WebSocketResponse(
        heartbeat=HEARTBEAT_SECONDS, protocols=(PROTOCOL,), max_msg_size=4096
    )
    if not ws.can_prepare(request).ok:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
        raise Problem(426, "upgrade_required", "This is a WebSocket.", headers=headers)
    since = since - OVERLAP if since else await current_instant(services.pool)
    hub, socket = request.app[HUB], Socket(request, caller, ws)
    hub.add(socket)
    try:
        await ws.prepare(request)
        await _serve(socket, services.pool, services.gate, since)
    finally:
        hub.remove(socket)
    return ws


async def _serve(socket: Socket, pool: asyncpg.Pool, gate: Gate, since: datetime) -> None:
    telling = asyncio.create_task(socket.tell(pool, gate, since))
    reading = asyncio.create_task(_read(socket.ws))
    try:
        await asyncio.wait({telling, reading}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        reading.cancel()
        telling.cancel()
        ended = await asyncio.gather(telling, reading, return_exceptions=True)
    if isinstance(ended[0], TimeoutError) and socket.request.transport is not None:
        socket.request.transport.abort()  # it does not read: a goodbye would not go out either
    elif isinstance(ended[0], (*LOST_CONNECTION, asyncpg.InterfaceError)):
        await socket.ws.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"try again later")


async def _read(ws: web.WebSocketResponse) -> None:
    """Take what the reader says, which means nothing, until it is gone."""
    async for _ in ws:
        pass


async def _open(app: web.Application) -> None:
    app[HUB] = Hub(app[SERVICES].pool)


async def _close(app: web.Application) -> None:
    await app[HUB].close()


def add_live(app: web.Application) -> None:
    """Let an application serve sockets, and say goodbye to them when it stops."""
    app.on_startup.append(_open)
    app.on_shutdown.append(_close)


PUBLIC_ROUTES: Final = (PublicRoute("GET", "/api/v1/notifications/live", live),)
