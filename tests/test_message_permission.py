"""One place decides whether a message may go, and its record says why; «why» says it in words."""

from collections.abc import AsyncIterator, Sequence
from datetime import time
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from actors.fields import Config
from actors.message_permission import PERMISSION, check_messages, terms
from runtime import clock, executions
from runtime.dispatching import opt_out
from runtime.effect import Effect, Result, Sent
from runtime.outcomes import Dispatch, EffectRequest, Outcome
from runtime.registry import ActionType, EffectType
from runtime.settings import Settings
from runtime.stage import Item, Stage
from tests.api_desk import Caller, open_desk
from tests.stand_ins import WorldWith, registry_with
from tests.world import World

PHONE, MAIL = "+12125550100", "bo@x.test"


class Text(Config):
    """A message as a channel would send it."""

    channel: str = "sms"
    purpose: str = "marketing"
    quiet: bool = False
    integration: UUID | None = None


async def write(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
    outcomes = []
    for item in items:
        config: Any = item.config
        column = "email_normalized" if config.channel == "email" else "phone_normalized"
        hours = (time(21), time(9)) if config.quiet else None
        request = {PERMISSION: terms(config.purpose, hours), "body": "Hi"}
        outcomes.append(
            Dispatch(
                [
                    EffectRequest(
                        kind="test.message",
                        request=request,
                        channel=config.channel,
                        address=item.contact[column],
                        integration_id=config.integration,
                    )
                ]
            )
        )
    return outcomes


async def send(_effect: Effect, _tools: object) -> Result:
    return Sent({"sid": "SM1"})


REGISTRY = registry_with(
    ActionType(name="send_sms", family="sms", config=Text, perform=write),
    effects=[
        EffectType(
            kind="test.message", family="sms", send=send, on_unknown="fail", check=check_messages
        )
    ],
)


@pytest.fixture
async def world(world_with: WorldWith) -> World:
    return await world_with(REGISTRY)


@pytest.fixture
async def admin(world: World, settings: Settings) -> AsyncIterator[Caller]:
    async with open_desk(world.pool, settings, REGISTRY) as desk:
        yield await desk.caller("Acme")


async def contact(world: World, **columns: Any) -> UUID:
    return await world.contact(phone=PHONE, email=MAIL, first_name="Bo", **columns)


async def consent(world: World, contact_id: UUID, channel: str = "sms", given: bool = True) -> None:
    await world.pool.execute(
        "INSERT INTO consents (account_id, contact_id, channel, is_given, source, at, recorded_at)"
        " SELECT $1, $2, $3, $4, 'web form', t, t FROM current_instant() t",
        world.account_id, contact_id, channel, given,
    )  # fmt: skip


async def at_utc(world: World, hour: int) -> None:
    """Set the clock to that full hour (UTC) of the next day."""
    await world.pool.execute(
        "UPDATE clock SET \"offset\" = date_trunc('day', clock_timestamp(), 'UTC')"
        " + '1 day' + make_interval(hours => $1) - clock_timestamp()",
        hour,
    )


async def sent(world: World, contact_id: UUID, **config: Any) -> asyncpg.Record:
    """Send one message; gives its effect."""
    workflow = await world.workflow(("send_sms", config))
    execution = await world.run(workflow, contact_id)
    row = await world.pool.fetchrow("SELECT * FROM effects WHERE execution_id = $1", execution)
    assert row is not None
    return row


async def why(admin: Caller, effect: asyncpg.Record) -> str:
    by_step = await admin.get(f"/api/v1/steps/{effect['step_id']}/why")
    path = f"/api/v1/executions/{effect['execution_id']}/steps/{effect['step_id']}/why"
    assert (await admin.get(path)) == by_step
    text: str = by_step["why"]
    return text


async def test_marketing_texts_need_consent_and_what_is_no_marketing_does_not(
    world: World, admin: Caller
) -> None:
    bo = await contact(world)
    refused = await sent(world, bo)
    assert (refused["status"], refused["error_code"]) == ("suppressed", "no_consent")
    assert "needs consent, and the contact has given none" in await why(admin, refused)
    path = f"/api/v1/steps/{refused['step_id']}/why"
    told = await admin.call("GET", path, headers={"Accept-Language": "de"})
    meaning = told.data["meaning"]
    assert (meaning["code"], meaning["title"]) == ("no_consent", "Die Einwilligung fehlt")
    assert told.data["effects"][0]["meaning"] == meaning
    assert (await sent(world, bo, purpose="transactional"))["status"] == "succeeded"
    assert (await sent(world, bo, channel="email"))["status"] == "succeeded"
    await consent(world, bo)
    going = await sent(world, bo)
    assert going["status"] == "succeeded"
    assert [c["check"] for c in going["decision"]["checks"]] == [
        "contact", "opt_out", "do_not_disturb", "consent",
    ]  # fmt: skip
    assert (await why(admin, going)).startswith("It went out at ")


async def test_consent_is_recorded_listed_and_withdrawn_over_the_api(
    world: World, admin: Caller
) -> None:
    bo = await contact(world)
    path = f"/api/v1/contacts/{bo}/consents"
    given = {"channel": "email", "source": "web form", "wording": "Yes, mail me."}
    await admin.post(path, {**given, "is_given": True, "at": "2026-01-01T10:00:00Z"})
    await admin.post(path, {**given, "is_given": False, "source": "phone call"})
    newest, oldest = (await admin.get(path))["items"]
    assert (newest["is_given"], oldest["wording"]) == (False, "Yes, mail me.")
    refused = await sent(world, bo, channel="email")
    assert refused["error_code"] == "consent_withdrawn"
    assert "withdrew consent on" in await why(admin, refused)
    assert "(phone call)" in await why(admin, refused)
    future = {**given, "is_given": True, "at": "2999-01-01T00:00:00Z"}
    assert (await admin.refused("POST", path, future)).code == "in_the_future"


async def test_an_account_says_on_which_channels_marketing_needs_consent(
    world: World, admin: Caller
) -> None:
    rules = "/api/v1/consent-rules"
    assert (await admin.get(rules)) == {"required_for": ["sms", "voice"]}
    await admin.put(rules, {"required_for": ["email"]})
    bo = await contact(world)
    assert (await sent(world, bo))["status"] == "succeeded"
    assert (await sent(world, bo, channel="email"))["error_code"] == "no_consent"


async def test_do_not_disturb_holds_for_its_channel_until_it_is_lifted(
    world: World, admin: Caller
) -> None:
    bo = await contact(world)
    path = f"/api/v1/contacts/{bo}/do-not-disturb"
    await admin.put(path, {"channels": ["email"]})
    refused = await sent(world, bo, channel="email")
    assert refused["error_code"] == "do_not_disturb"
    assert await why(admin, refused) == "The contact wants no e-mails (do not disturb)."
    assert (await sent(world, bo, purpose="transactional"))["status"] == "succeeded"
    assert (await sent(world, bo, channel="email", purpose="internal"))["status"] == "succeeded"
    await admin.put(path, {"channels": []})
    assert (await admin.get(path)) == {"channels": []}
    assert (await sent(world, bo, channel="email"))["status"] == "succeeded"


@pytest.mark.parametrize(
    ("reason", "purpose", "goes", "sentence"),
    [
        ("stop", "transactional", False, "its owner wrote STOP"),
        ("hard_bounce", "transactional", False, "mail to it came back for good"),
        ("unsubscribed", "marketing", False, "its owner has unsubscribed"),
        ("unsubscribed", "transactional", True, ""),
    ],
)
async def test_an_opt_out_stops_what_its_reason_says(
    world: World, admin: Caller, reason: str, purpose: str, *, goes: bool, sentence: str
) -> None:
    bo = await contact(world)
    async with world.pool.acquire() as db:
        await opt_out(db, world.account_id, "email", MAIL, reason)
    effect = await sent(world, bo, channel="email", purpose=purpose)
    assert effect["status"] == ("succeeded" if goes else "suppressed")
    assert goes or effect["error_code"] == "opted_out"
    assert sentence in await why(admin, effect)


async def test_nothing_goes_out_by_a_disabled_or_removed_integration(
    world: World, admin: Caller
) -> None:
    bo = await contact(world)
    body = {
        "kind": "smtp", "name": "Mail", "addresses": ["@x.test"], "settings": {"host": "127.0.0.1"}
    }  # fmt: skip
    made = await admin.post("/api/v1/integrations", body)
    path = f"/api/v1/integrations/{made['id']}"
    config = {"channel": "email", "integration": made["id"]}
    assert (await sent(world, bo, **config))["status"] == "succeeded"
    await admin.post(f"{path}/disable")
    refused = await sent(world, bo, **config)
    assert refused["error_code"] == "integration_disabled"
    assert await why(admin, refused) == (
        "The integration that it would have gone out by is disabled."
    )
    await admin.delete(path)
    removed = await sent(world, bo, **config)
    assert removed["error_code"] == "integration_removed"
    assert "was removed" in await why(admin, removed)


async def test_by_night_a_message_is_put_off_to_the_morning_of_the_contact(
    world: World, admin: Caller
) -> None:
    bo = await contact(world, time_zone="Asia/Tokyo")
    await consent(world, bo)
    await at_utc(world, 13)  # 22:00 in Tokyo
    effect = await sent(world, bo, quiet=True)
    found = effect["decision"]["checks"][-1]
    assert (effect["status"], effect["attempt"]) == ("scheduled", 0)
    assert effect["scheduled_at"].hour == 0
    assert (found["zones"], found["zone_from"]) == (["Asia/Tokyo"], "contact")
    sentence = await why(admin, effect)
    assert "Quiet hours (21:00–09:00) held in Asia/Tokyo (the contact's own time zone)" in sentence
    await world.advance(hours=11, minutes=1)
    assert await world.statuses(effect["execution_id"]) == ["completed"]


async def test_what_was_put_off_is_looked_at_again_in_the_morning(
    world: World, admin: Caller
) -> None:
    bo = await contact(world, time_zone="Asia/Tokyo")
    await consent(world, bo)
    await at_utc(world, 13)
    effect = await sent(world, bo, quiet=True)
    await admin.put(f"/api/v1/contacts/{bo}/do-not-disturb", {"channels": ["sms"]})
    await world.advance(hours=12)
    (step,) = await world.steps(effect["execution_id"])
    assert (step["status"], step["skip_reason"]) == ("skipped", "do_not_disturb")


async def test_without_a_zone_of_their_own_the_number_says_where_people_are(
    world: World,
) -> None:
    bo = await contact(world)
    await consent(world, bo)
    await at_utc(world, 4)  # about midnight in New York
    found = (await sent(world, bo, quiet=True))["decision"]["checks"][-1]
    assert (found["zones"], found["zone_from"]) == (["America/New_York"], "phone_number")
    nowhere = await world.contact(email="cy@x.test")
    await at_utc(world, 12)
    found = (await sent(world, nowhere, quiet=True, channel="email"))["decision"]["checks"][-1]
    assert (found["zones"], found["zone_from"]) == (["UTC"], "account")


async def test_the_statutory_hours_are_a_floor_for_marketing_without_consent(
    world: World, admin: Caller
) -> None:
    await admin.put("/api/v1/consent-rules", {"required_for": []})
    await at_utc(world, 16)
    bo = await contact(world)
    solicited = (await sent(world, bo, quiet=True))["decision"]["checks"][-1]
    assert (solicited["is_statutory"], solicited["windows"]) == (
        True, ["21:00–09:00", "21:00–08:00"],
    )  # fmt: skip
    await consent(world, bo)
    asked_for = (await sent(world, bo, quiet=True))["decision"]["checks"][-1]
    assert asked_for["is_statutory"] is False


async def test_a_reply_ends_the_runs_of_workflows_that_say_so_and_no_others(
    world: World, admin: Caller
) -> None:
    bo, cy = await contact(world), await world.contact()
    runs = []
    for name in ("Stops", "Goes on"):
        workflow = await world.workflow(
            ("wait_time", {"duration": 1, "unit": "days"}), ("send_sms", {}), name=name
        )
        enrolments = await world.enrol(workflow, bo, cy)
        runs += [e.execution_id for e in enrolments if e.execution_id]
        path = f"/api/v1/workflows/{workflow}/settings"
        await admin.put(path, {"stop_on_reply": name == "Stops"})
        assert (await admin.get(path)) == {"stop_on_reply": name == "Stops"}
    await world.settle()
    await world.event("form_submit", bo)
    await world.event("sms_reply", bo)
    ended = [await world.execution(run) for run in runs]
    assert [(e["status"], e["end_reason"]) for e in ended] == [
        ("cancelled", "replied"), ("running", None), ("running", None), ("running", None),
    ]  # fmt: skip
    (step,) = await world.steps(runs[0])
    said = await admin.get(f"/api/v1/steps/{step['id']}/why")
    assert said["why"] == "The contact has replied, and the workflow ends its runs on a reply."


async def test_why_says_what_a_step_that_stands_waits_for(world: World, admin: Caller) -> None:
    bo = await contact(world)

    async def said(run: UUID) -> dict[str, Any]:
        (*_, step) = await world.steps(run)
        answer: dict[str, Any] = await admin.get(f"/api/v1/steps/{step['id']}/why")
        return answer

    sleeping = await world.workflow(("wait_time", {"duration": 1, "unit": "days"}))
    run = await world.run(sleeping, bo)
    asleep = await said(run)
    assert asleep["why"].startswith("It sleeps until ")
    assert asleep["until"] is not None
    waiting = await world.run(
        await world.workflow(("wait_for_event", {"event_type": "sms_reply"})), bo
    )
    assert (await said(waiting))["why"] == "It waits for the event sms_reply."
    tag = await world.workflow(("add_tag", {"tag_name": "x"}))
    assert (await said(await world.run(tag, bo)))["why"].startswith("It was done at ")
    (enrolment,) = await world.enrol(tag, bo, entry_key="2")
    assert enrolment.execution_id
    assert (await said(enrolment.execution_id))["why"] == (
        "It is ready and is done as soon as a worker is free."
    )
    async with world.pool.acquire() as db, db.transaction():
        await executions.pause(db, world.account_id, [enrolment.execution_id])
    assert "paused" in (await said(enrolment.execution_id))["why"]
    async with world.pool.acquire() as db, db.transaction():
        now = await clock.current_instant(db)
        await executions.cancel(db, now, world.account_id, [enrolment.execution_id], "enough")
    assert (await said(enrolment.execution_id))["why"] == SKIPPED_CANCELLED
    other = await admin.refused("GET", "/api/v1/steps/00000000-0000-0000-0000-000000000000/why")
    assert other.code == "step_not_found"


SKIPPED_CANCELLED = "The run was ended before this step was done."
