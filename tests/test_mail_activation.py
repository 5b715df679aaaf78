"""A workflow that sends marketing mail is not activated before the account has an address."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from runtime.settings import Settings
from tests.api_desk import Desk, open_desk


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.mark.parametrize("purpose", ["marketing", "transactional"])
async def test_marketing_mail_waits_for_the_postal_address(desk: Desk, purpose: str) -> None:
    admin = await desk.caller()
    template = await admin.post(
        "/api/v1/templates", {"name": "News", "purpose": purpose, "html": "<p>Hi</p>"}
    )
    path = await admin.workflow()
    config = {
        "template_id": template["id"],
        "subject": "Hi",
        "from_name": "Ada",
        "from_email": "ada@acme.com",
    }
    body = {"action_type": "send_email", "action_config": config}
    action = await admin.post(f"{path}/actions", body)
    if purpose == "marketing":
        await admin.call("PATCH", "/api/v1/account", {"postal_address": " \n"})
        refused = await admin.refused("POST", f"{path}/activate")
        assert (refused.status, refused.code) == (422, "postal_address_missing")
        where = f"actions[{action['id']}].action_config.template_id"
        assert refused.faults == [(where, "postal_address_missing")]
        await admin.call("PATCH", "/api/v1/account", {"postal_address": "1 Way\nTown"})
    activated = await admin.post(f"{path}/activate")
    assert activated["status"] == "active"
