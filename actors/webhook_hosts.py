"""Hosts that webhooks go to, as integrations: each with a breaker and a limit of calls at once.

So they are known before a call is claimed: a call that its host's breaker or limit does not let
through stays in its lane and spends no attempt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from runtime.stage import Stage
from sql import load

queries = load("webhooks")

HostKey = tuple[UUID, str]
"""An account and a host with its port, such as example.com:443."""

# Calls at once over all workers; `PATCH /integrations/{id}` changes it for a host.
CALLS_AT_ONCE: Final = 50
# Hosts that merge fields make up have no end.
MOST_HOSTS: Final = 1_000


async def get_or_create(stage: Stage, wanted: Iterable[HostKey]) -> dict[HostKey, UUID]:
    """Find the integrations of hosts, making those that are missing.

    A host beyond an account's 1,000 has none: its calls are neither limited nor held.
    """
    keys = sorted(set(wanted))
    found = await _find(stage, keys)
    missing = [key for key in keys if key not in found]
    if missing:
        # Outside of the batch's transaction: many batches share them.
        arguments = (*_columns(missing), MOST_HOSTS, CALLS_AT_ONCE)
        await stage.outside(queries.make_hosts, *arguments)
        found |= await _find(stage, missing)
    return found


async def _find(stage: Stage, keys: list[HostKey]) -> dict[HostKey, UUID]:
    rows = await stage.db.fetch(queries.find_hosts, *_columns(keys)) if keys else []
    return {(row["account_id"], row["name"]): row["id"] for row in rows}


def _columns(keys: list[HostKey]) -> tuple[list[UUID], list[str]]:
    return [account for account, _ in keys], [host for _, host in keys]
