"""The API as a process: says where it listens, works with a worker beside it, ends cleanly."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg

from api import server
from api.tokens import create_for
from runtime.house import House
from runtime.secrets import vault_of
from runtime.settings import Settings
from tests.api_desk import READY

PROGRAM = """
import sys
from api.server import run
from runtime.settings import load_settings
sys.exit(run(load_settings(), with_worker=sys.argv[1] == "serve"))
"""


@asynccontextmanager
async def running(dsn: str, way: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The server as a child process, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        way,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "DATABASE_URL": dsn,
            "CALLBOARD_API_PORT": "0",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield process, line.rpartition(" ")[2].strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_serve_runs_a_workflow_and_ends_on_sigterm(dsn: str, pool: asyncpg.Pool) -> None:
    async with pool.acquire() as db:
        token = await create_for(db, "Acme", "editor", "test")
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        running(dsn, "serve") as (process, address),
        aiohttp.ClientSession(address, headers=headers) as client,
    ):

        async def call(method: str, path: str, body: Any = None) -> Any:
            async with client.request(method, f"/api/v1/{path}", json=body) as response:
                assert response.status < 300, await response.text()
                return json.loads(await response.read())

        workflow = f"workflows/{(await call('POST', 'workflows', {'name': 'W'}))['id']}"
        action = {"action_type": "add_tag", "action_config": READY}
        await call("POST", f"{workflow}/actions", action)
        await call("POST", f"{workflow}/activate")
        contact = await call("POST", "contacts", {"first_name": "Ada"})
        run = await call("POST", f"{workflow}/enroll", {"contact_ids": [contact["id"]]})
        execution = f"executions/{run['outcomes'][0]['execution_id']}"
        while (await call("GET", execution))["status"] == "running":
            pass

        assert (await call("GET", execution))["status"] == "completed"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_the_api_alone_ends_on_ctrl_c(dsn: str) -> None:
    async with running(dsn, "api") as (process, address), aiohttp.ClientSession() as client:
        async with client.get(f"{address}/readyz") as response:
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_a_taken_address_is_said(settings: Settings, dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings.model_copy(update={"api_port": other.getsockname()[1]})
        assert await server._run(taken, with_worker=False) == server.CANNOT_LISTEN


def test_links_name_the_port_that_was_taken(settings: Settings, pool: asyncpg.Pool) -> None:
    known, listening = server._with_its_port(settings.model_copy(update={"api_port": 0}))
    assert listening is not None
    with listening:
        port = listening.getsockname()[1]
        house = House(pool, known, vault_of(known))
        assert house.public_url == f"http://127.0.0.1:{port}"
