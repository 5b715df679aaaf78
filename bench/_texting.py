"""Where the texts of a benchmark go to: the fake Twilio in its own process, and a sender."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from actors.integrations import Integration, place_of
from bench._world import World
from runtime.secrets import vault_of
from runtime.settings import Settings
from sql import Queries
from tests.counterparts.twilio.server import ACCOUNT_SID, AUTH_TOKEN

queries = Queries(Path(__file__).with_name("_texts.sql"))

FROM: Final = "+14155550199"
_ROOT: Final = Path(__file__).resolve().parent.parent
_START_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The fake, in its own process."""

    url: str

    async def counts(self) -> dict[str, int]:
        """How many messages came, and to how many numbers."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/counts") as got:
            counts: dict[str, int] = await got.json()
            return counts


@asynccontextmanager
async def counterpart() -> AsyncIterator[Counterpart]:
    """Start the fake; it sends no callbacks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.counterparts.twilio",
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
        yield Counterpart(line.decode().strip())
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def with_keys(settings: Settings) -> Settings:
    """Settings under which worker processes can open what is sealed here."""
    if settings.secret_keys is not None:
        return settings
    keys = f"bench:{base64.b64encode(os.urandom(32)).decode()}"
    return settings.model_copy(update={"secret_keys": SecretStr(keys)})


def keys_of(settings: Settings) -> str:
    """Give the keys, as the environment of another process takes them."""
    assert settings.secret_keys is not None, "see with_keys"
    return settings.secret_keys.get_secret_value()


async def integrate(world: World, url: str) -> Integration:
    """Give everybody a phone, and the account an integration that leads to the fake."""
    account_id, integration_id = world.account_id, UUID(str(uuid7()))
    sealed = vault_of(world.settings).seal(
        AUTH_TOKEN, place_of(account_id, integration_id, "auth_token")
    )
    settings: dict[str, Any] = {"account_sid": ACCOUNT_SID, "base_url": url}
    await world.pool.execute(queries.give_phones, account_id)
    await world.pool.execute(
        queries.add_integration, account_id, integration_id, settings, {"auth_token": sealed}
    )
    await world.pool.execute(queries.add_sender, account_id, integration_id, FROM)
    return Integration(
        id=integration_id,
        account_id=account_id,
        kind="twilio",
        name="Twilio",
        address=FROM,
        addresses=(FROM,),
        settings=settings,
        is_test=False,
        is_disabled=False,
        secrets={"auth_token": AUTH_TOKEN},
    )
