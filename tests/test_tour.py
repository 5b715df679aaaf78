"""The five-minute tour of the README runs as it stands."""

import asyncio
import os
import re
import socket
import sys
from pathlib import Path

import asyncpg
from cli.environment import ROOT


def tour() -> str:
    """The tour's commands, as a reader would paste them."""
    readme = (ROOT / "README.md").read_text()
    part = readme.partition("\n## Five minutes\n")[2].partition("\n## ")[0]
    return "set -euo pipefail\n" + "\n".join(re.findall(r"```sh\n(.*?)```", part, re.DOTALL))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_the_tour_does_what_it_says(dsn: str, pool: asyncpg.Pool, tmp_path: Path) -> None:
    bash = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        tour(),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": dsn,
            "CALLBOARD_DATA": str(tmp_path),
            "CALLBOARD_API_PORT": str(free_port()),
        },
    )
    try:
        said = (await asyncio.wait_for(bash.communicate(), 100))[0].decode()
    finally:
        if bash.returncode is None:
            os.killpg(bash.pid, 9)  # the server as well
    assert bash.returncode == 0, said
    assert "form_submit" in said
    assert "completed Welcome" in said
    assert "Ada wants a demo" in said
    assert await pool.fetchval("SELECT status FROM workflow_executions") == "completed"
    assert await pool.fetchval("SELECT count(*) FROM workers") == 0, "the worker has drained"
