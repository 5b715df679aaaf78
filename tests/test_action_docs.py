"""actors/README.md: every type, every field as it is, and every example run as it stands."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

import pytest

from actors import registry
from runtime import clock
from tests.action_docs import fields_of, sections
from tests.api_desk import Caller, open_desk
from tests.stand_ins import WorldWith
from tests.world import World

ELSEWHERE: Final = "192.0.2.1"
"""No host of anybody's (RFC 5737). The account is in test mode: what would go there is recorded."""
SENDERS: Final[dict[str, tuple[str, dict[str, Any], dict[str, str]]]] = {
    "smtp": ("hello@acme.example", {"host": ELSEWHERE}, {}),
    "twilio": (
        "+14155550100",
        {"account_sid": f"AC{'a' * 32}", "base_url": f"http://{ELSEWHERE}"},
        {"auth_token": "t"},
    ),
    "facebook": (
        "1020304050",
        {"base_url": f"http://{ELSEWHERE}"},
        {"page_access_token": "t", "app_secret": "s", "verify_token": "v"},
    ),
}
ENDED: Final = {"wait_time": timedelta(days=3), "wait_for_event": timedelta(days=2)}
"""Waits that are over by the clock; wait_until_date is over within two days."""


def test_every_type_has_its_section() -> None:
    named = [section.name for section in sections()]
    assert sorted(named) == sorted(registry.actions)


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.name)
def test_fields_and_results_are_told_as_they_are(section: Any) -> None:
    type_ = registry.actions[section.name]
    assert section.fields == fields_of(type_)
    assert section.given == dict(type_.gives)
    assert f"Family: {type_.family}." in section.text
    assert all(f"`{event}`" in section.text for event in type_.emits)


class Place:
    """An account in test mode that has what the examples name."""

    def __init__(self, world: World, admin: Caller) -> None:
        self.world = world
        self.admin = admin
        self.ids: dict[str, str] = {}

    async def furnish(self) -> None:
        """Make what the examples name."""
        await self.world.pool.execute("UPDATE accounts SET is_test = true")
        await self.make("/account", method="PATCH", postal_address="1 Main Street, Springfield")
        await self.make("/users", email="kim@acme.example", name="Kim", role="admin")
        for key, kind in (("company", "text"), ("visits", "number")):
            await self.make("/custom-fields", key=key, label=key, field_type=kind)
        pipeline = await self.make("/pipelines", name="New", stages=["Lead", "Won"])
        newcomers = await self.make("/workflows", name="Newcomers")
        step: dict[str, Any] = {
            "action_type": "wait_time",
            "action_config": {"duration": 4, "unit": "weeks"},
        }
        await self.make(f"/workflows/{newcomers['id']}/actions", **step)
        await self.make(f"/workflows/{newcomers['id']}/activate")
        campaign: dict[str, Any] = {"name": "C", "status": "active", "workflow_id": newcomers["id"]}
        pages = [await self._sender(kind) for kind in SENDERS]
        self.ids = {
            "PIPELINE": pipeline["id"],
            "STAGE": pipeline["stages"][1]["id"],
            "CAMPAIGN": (await self.make("/campaigns", **campaign))["id"],
            "COURSE": (await self.make("/courses", name="First steps"))["id"],
            "TEMPLATE": (await self.make("/templates", name="T", html="<p>Hi</p>"))["id"],
            "AUDIO": await self._audio(),
            "PAGE": pages[-1],
        }

    async def make(self, path: str, *, method: str = "POST", **body: Any) -> Any:
        answer = await self.admin.call(method, f"/api/v1{path}", body)
        assert answer.status < 300, answer.data
        return answer.data

    async def _sender(self, kind: str) -> str:
        address, settings, secrets = SENDERS[kind]
        own: dict[str, Any] = {"kind": kind, "name": kind, "settings": settings, "secrets": secrets}
        return str((await self.make("/integrations", addresses=[address], **own))["id"])

    async def _audio(self) -> str:
        headers = {"Content-Type": "audio/mpeg"}
        content = b"ID3\x04" + bytes(64)
        path = "/api/v1/files?name=hello.mp3"
        answer = await self.admin.call("POST", path, data=io.BytesIO(content), headers=headers)
        return str(answer.data["id"])

    async def contact(self) -> str:
        """Make a contact whom all channels reach."""
        person: dict[str, Any] = {
            "first_name": "ada",
            "last_name": "Lovelace",
            "email": "ada@example.com",
            "phone": "+14155550199",
            "time_zone": "Europe/London",
            "custom_fields": {"company": "Engines", "visits": 1},
        }
        id_ = str((await self.make("/contacts", **person))["id"])
        known = {"page_id": self.ids["PAGE"], "psid": "7"}
        await self.make(f"/contacts/{id_}/messenger", method="PUT", **known)
        await self.world.pool.execute(
            "UPDATE messenger_people SET last_inbound_at = current_instant()"
        )
        return id_

    def config(self, example: str) -> Any:
        """Read an example, with ids in the place of its words in capitals."""
        for word, id_ in self.ids.items():
            example = example.replace(f'"{word}"', f'"{id_}"')
        return json.loads(example)


@pytest.fixture
async def place(world_with: WorldWith) -> AsyncIterator[Place]:
    world = await world_with()
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(open_desk(world.pool, world.settings))
        for effects in world.worker._effects.values():
            await stack.enter_async_context(effects.open())
        place = Place(world, await desk.caller("Acme", "admin"))
        await place.furnish()
        yield place


async def _until_noon(place: Place) -> None:
    """Move the clock to an hour at which texts and calls may go, whenever the test runs."""
    now = await clock.current_instant(place.world.pool)
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)
    await clock.advance(place.world.pool, noon - now)


async def test_every_example_runs(place: Place) -> None:
    """All of them in one workflow, one after the other, as they stand on the page."""
    workflow = (await place.make("/workflows", name="All"))["id"]
    for section in sections():
        action = {"action_type": section.name, "action_config": place.config(section.example)}
        made = await place.make(f"/workflows/{workflow}/actions", **action)
        assert made["configuration_status"]["complete"], (section.name, made)
    await place.make(f"/workflows/{workflow}/activate")
    await _until_noon(place)
    contact = await place.contact()
    run = await place.make(f"/workflows/{workflow}/enroll", contact_ids=[contact])
    execution = run["outcomes"][0]["execution_id"]
    for ahead in (ENDED["wait_time"], timedelta(days=2), ENDED["wait_for_event"]):
        await place.world.settle()
        await clock.advance(place.world.pool, ahead)
    await place.world.settle()
    steps = await place.world.steps(execution)
    told = [(step["action_type"], step["status"], step["skip_reason"]) for step in steps]
    assert told == [(section.name, "completed", None) for section in sections()]
    assert (await place.world.execution(execution))["status"] == "completed"
