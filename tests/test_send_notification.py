"""send_notification: people of the account are told, each on the channels they have left open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests import mail_board, twilio_board
from tests.counterparts.smtp.script import Say
from tests.counterparts.smtp.server import PostOffice, post_office
from tests.counterparts.twilio.script import Callbacks
from tests.counterparts.twilio.server import Twilio, twilio
from tests.stand_ins import WorldWith
from tests.world import World

PHONE = "+14155550123"


@pytest.fixture
async def world(world_with: WorldWith) -> AsyncIterator[World]:
    world = await world_with(public_url=mail_board.PUBLIC_URL)
    async with world.worker._effects["notification"].open():
        yield world


@pytest.fixture
async def office(world: World) -> AsyncIterator[PostOffice]:
    async with post_office() as office, world.worker._effects["email"].open():
        id_ = await mail_board.add_integration(world, office.port)
        await world._add(
            "sender_addresses",
            account_id=world.account_id,
            kind="smtp",
            address="notices@acme.com",
            integration_id=id_,
            ordinal=1,
        )
        yield office


@pytest.fixture
async def texts(world: World) -> AsyncIterator[Twilio]:
    async with twilio() as fake, world.worker._effects["sms"].open():
        fake.callbacks = Callbacks(are_sent=False)
        await twilio_board.add_integration(world, fake.url)
        yield fake


async def telling(world: World, *channels: str, **config: Any) -> UUID:
    return await world.workflow(
        (
            "send_notification",
            {
                "recipient_type": "contact_owner",
                "channels": list(channels) or ["in_app"],
                "title": "Look at {{contact.first_name}}",
                "message": "{{contact.first_name}} <b> has answered",
                **config,
            },
        )
    )


async def step_of(world: World, workflow: UUID, **contact: Any) -> asyncpg.Record:
    contact = {"first_name": "Bo", "owner_id": world.user_id, **contact}
    execution = await world.run(workflow, await world.contact(**contact))
    (step,) = await world.steps(execution)
    return step


async def prefer(world: World, user_id: UUID, **columns: Any) -> None:
    now = await world.pool.fetchval("SELECT current_instant()")
    own = {"account_id": world.account_id, "user_id": user_id, "updated_at": now}
    names = ", ".join({**own, **columns})
    values = list({**own, **columns}.values())
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    await world.pool.execute(
        f"INSERT INTO notification_preferences ({names}) VALUES ({places})", *values
    )


async def test_a_person_is_told_on_every_channel_once(
    world: World, office: PostOffice, texts: Twilio
) -> None:
    await world.pool.execute("UPDATE users SET phone = $1", PHONE)
    step = await step_of(world, await telling(world, "in_app", "email", "sms"))
    user = str(world.user_id)
    assert step["status"] == "completed"
    assert step["result_data"] == {
        "deliveries": [
            {"user_id": user, "channel": channel, "status": "succeeded", "reason": None}
            for channel in ("in_app", "email", "sms")
        ],
        "skipped": [],
    }
    (row,) = await world.pool.fetch("SELECT * FROM notifications")
    assert (row["user_id"], row["title"]) == (world.user_id, "Look at Bo")
    (mail,) = office.mails
    assert mail.recipients == ("ada@acme.test",)
    assert "Bo &lt;b&gt; has answered" in mail.body("html")
    (text,) = texts.messages
    assert (text.to, text.body) == (PHONE, "Look at Bo\nBo <b> has answered")


async def test_teams_roles_and_named_users_are_told_but_no_program_and_nobody_who_left(
    world: World,
) -> None:
    people = {
        name: await world.user(f"{name}@acme.test", role=role)
        for name, role in (("bo", "viewer"), ("cy", "admin"), ("di", "admin"), ("ed", "viewer"))
    }
    await world.user("robot@acme.test", role="admin", is_service=True)
    gone = await world.user("gone@acme.test", role="admin", is_available=False)
    await world.pool.execute("UPDATE users SET deactivated_at = now() WHERE id = $1", gone)
    other = await world.account("Other")
    await world.user("spy@other.test", role="admin", account_id=other)
    team = await world._add("teams", account_id=world.account_id, name="Sales")
    for user in (people["bo"], people["ed"], gone):
        await world.pool.execute(
            "INSERT INTO team_members (account_id, team_id, user_id) VALUES ($1, $2, $3)",
            *(world.account_id, team, user),
        )

    async def told(kind: str, *ids: str) -> set[str]:
        await world.pool.execute("DELETE FROM notifications")
        await step_of(world, await telling(world, recipient_type=kind, recipient_ids=list(ids)))
        rows = await world.pool.fetch("SELECT user_id FROM notifications")
        assert len({row["user_id"] for row in rows}) == len(rows)
        return {name for name, id_ in people.items() if id_ in {row["user_id"] for row in rows}}

    assert await told("team", str(team)) == {"bo", "ed"}
    assert await told("role", "admin") == {"cy", "di"}
    assert await told("specific_user", str(people["bo"]), str(people["di"])) == {"bo", "di"}


async def test_who_cannot_be_reached_is_named_with_the_reason(
    world: World, office: PostOffice
) -> None:
    await prefer(world, world.user_id, muted=["in_app"])
    step = await step_of(world, await telling(world, "in_app", "email", "sms"))
    assert step["status"] == "completed"
    assert [one["channel"] for one in step["result_data"]["deliveries"]] == ["email"]
    assert [(one["channel"], one["reason"]) for one in step["result_data"]["skipped"]] == [
        ("in_app", "muted"),
        ("sms", "no_phone"),
    ]


async def test_without_anybody_to_tell_the_step_is_skipped(world: World) -> None:
    workflow = await telling(world)
    assert (await step_of(world, workflow, owner_id=None))["skip_reason"] == "no_recipient"
    await prefer(world, world.user_id, muted=["in_app"])
    step = await step_of(world, workflow)
    assert (step["status"], step["skip_reason"]) == ("skipped", "nobody_reachable")
    step = await step_of(world, await telling(world, "email"))  # the account has no sender
    assert step["result_data"]["skipped"][0]["reason"] == "no_sender"


async def test_mails_wait_for_the_end_of_a_person_s_quiet_hours(
    world: World, office: PostOffice
) -> None:
    now = await world.pool.fetchval("SELECT current_instant()")
    start = (now - timedelta(hours=1)).time().replace(microsecond=0)
    end = (now + timedelta(hours=2)).time().replace(microsecond=0)
    await prefer(world, world.user_id, quiet_from=start, quiet_until=end, time_zone="UTC")
    step = await step_of(world, await telling(world, "in_app", "email"))
    assert step["status"] == "running"
    assert await world.pool.fetchval("SELECT count(*) FROM notifications") == 1
    assert office.mails == []
    decision = await world.pool.fetchval(
        "SELECT decision FROM effects WHERE kind = 'email.message'"
    )
    assert (decision["verdict"], decision["checks"][-1]["zone_from"]) == ("put_off", "user")
    await world.advance(hours=2, minutes=1)
    await world.settle()
    assert len(office.mails) == 1


async def test_what_fails_on_one_channel_is_told_beside_what_went_through(
    world: World, office: PostOffice
) -> None:
    office.of_recipient["ada@acme.test"] = Say("550 5.1.1 no such mailbox")
    step = await step_of(world, await telling(world, "in_app", "email"))
    assert step["status"] == "completed"
    statuses = {one["channel"]: one["status"] for one in step["result_data"]["deliveries"]}
    assert statuses == {"in_app": "succeeded", "email": "failed"}
    step = await step_of(world, await telling(world, "email"))
    assert step["status"] in {"failed", "skipped"}


async def test_notices_of_other_actions_heed_the_same_wish(world: World) -> None:
    other = await world.user("bo@acme.test")
    await prefer(world, other, muted=["in_app"])
    workflow = await world.workflow(
        ("assign_to_user", {"assignment_type": "specific", "user_id": str(other)})
    )
    await world.run(workflow, await world.contact())
    row = await world.pool.fetchrow("SELECT status, error_code FROM effects")
    assert row is not None
    assert (row["status"], row["error_code"]) == ("suppressed", "muted")
    assert await world.pool.fetchval("SELECT count(*) FROM notifications") == 0


@pytest.mark.parametrize("first_name", ["", "x" * 201])
async def test_a_title_that_cannot_be_used_fails_by_name(world: World, first_name: str) -> None:
    workflow = await telling(world, title="{{contact.first_name}}", message="m")
    step = await step_of(world, workflow, first_name=first_name)
    assert step["error_code"] == ("text_too_long" if first_name else "notice_empty")
