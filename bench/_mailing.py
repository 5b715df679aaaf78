"""Where the mails of a benchmark go to: the fake SMTP server in its own process; and what they say.

Everybody sends the same: an order's confirmation of 6 kB of HTML with the contact's name in it,
and the same as plain text.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
from uuid_utils.compat import uuid7

from bench._world import World
from sql import Queries

queries = Queries(Path(__file__).with_name("_mails.sql"))

FROM: Final = "orders@acme.example"
FROM_NAME: Final = "Acme Orders"
SUBJECT: Final = "{{contact.first_name}}, your order is on its way"
CONNECTIONS: Final = 16
_ROOT: Final = Path(__file__).resolve().parent.parent
_START_SECONDS: Final = 30

_STYLE: Final = "font-family:Arial,Helvetica,sans-serif;font-size:14px;line-height:21px;color:#333"
_ROW: Final = (
    f'<tr><td style="padding:8px 24px;{_STYLE}">{{}}</td>'
    f'<td align="right" style="padding:8px 24px;{_STYLE}">{{}}</td></tr>\n'
)
_ITEMS: Final = "".join(
    _ROW.format(f"Item number {n} – in blue", f"€ {n}.90") for n in range(1, 23)
)
HTML: Final = (
    "<!DOCTYPE html>\n<html><head><title>Your order</title></head>\n"
    '<body style="margin:0;background:#f4f4f4">\n<table width="600" align="center">\n'
    f'<tr><td colspan="2" style="padding:24px;{_STYLE}">Hi {{{{contact.first_name}}}},<br>\n'
    "thank you for your order. It is on its way to you, and here is what is in it.</td></tr>\n"
    f"{_ITEMS}"
    f'<tr><td colspan="2" style="padding:24px;{_STYLE}">'
    '<a href="https://acme.example/orders?of={{contact.email}}&amp;from=mail">Follow it</a>'
    "</td></tr>\n</table>\n</body></html>\n"
)


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The fake, in its own process."""

    port: int
    counts_url: str

    async def counts(self) -> dict[str, int]:
        """How many mails came, to how many recipients, over how many connections."""
        async with aiohttp.ClientSession() as session, session.get(self.counts_url) as got:
            counts: dict[str, int] = await got.json()
            return counts


@asynccontextmanager
async def counterpart() -> AsyncIterator[Counterpart]:
    """Start the fake."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.counterparts.smtp",
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
        port, url = line.decode().split()
        yield Counterpart(int(port), url)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def integrate(world: World, port: int) -> dict[str, Any]:
    """Give the account an integration that leads to the fake, and a template; gives the config."""
    account_id, integration_id, template_id = (world.account_id, _new_id(), _new_id())
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "connections": CONNECTIONS,
    }
    await world.pool.execute(queries.add_integration, account_id, integration_id, settings)
    await world.pool.execute(queries.add_sender, account_id, integration_id, FROM)
    await world.pool.execute(queries.add_template, account_id, template_id, HTML)
    return {
        "template_id": str(template_id),
        "subject": SUBJECT,
        "from_name": FROM_NAME,
        "from_email": FROM,
        "track_opens": False,
        "track_clicks": False,
    }


def _new_id() -> UUID:
    return UUID(str(uuid7()))
