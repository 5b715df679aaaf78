"""add_tag: requirement R3.3."""

import pytest

from tests.world import World


async def test_a_tag_is_made_once_with_its_colour_and_given_to_all(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "VIP", "tag_color": "#ff0000"}))
    contacts = await world.contacts(3)
    await world.enrol(workflow, *contacts)
    await world.settle()
    tags = await world.pool.fetch("SELECT name, color FROM tags")
    assert [tuple(t) for t in tags] == [("VIP", "#ff0000")]
    events = await world.pool.fetch("SELECT contact_id, event_type FROM domain_events")
    assert {(e["contact_id"], e["event_type"]) for e in events} == {
        (contact, "tag_added") for contact in contacts
    }


async def test_a_tag_that_the_contact_has_is_added_again_without_an_event(world: World) -> None:
    workflow = await world.workflow(
        ("add_tag", {"tag_name": "VIP"}), ("add_tag", {"tag_name": "vip"})
    )
    execution = await world.run(workflow, await world.contact())
    results = [step["result_data"]["added"] for step in await world.steps(execution)]
    assert results == [True, False]
    assert await world.pool.fetchval("SELECT count(*) FROM domain_events") == 1


@pytest.mark.parametrize("names", [("ΑΣ", "ας"), ("İstanbul", "İSTANBUL"), ("Straße", "STRASSE")])
async def test_which_names_are_one_tag_is_the_database_s_to_say(
    world: World, names: tuple[str, str]
) -> None:
    workflow = await world.workflow(*(("add_tag", {"tag_name": name}) for name in names))
    execution = await world.run(workflow, await world.contact())
    assert await world.statuses(execution) == ["completed", "completed"]
    equal = await world.pool.fetchval("SELECT lower($1::text) = lower($2::text)", *names)
    assert await world.pool.fetchval("SELECT count(*) FROM tags") == (1 if equal else 2)


async def test_two_spellings_in_one_batch_make_one_tag(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "{{contact.last_name}}"}))
    contacts = [await world.contact(last_name=name) for name in ("Gold", "GOLD", "gold")]
    await world.enrol(workflow, *contacts)
    await world.settle()
    assert await world.pool.fetchval("SELECT count(*) FROM tags") == 1
    assert await world.pool.fetchval("SELECT count(*) FROM contact_tags") == 3


async def test_a_name_that_renders_empty_or_too_long_fails_clearly(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "{{contact.last_name}}"}))
    for last_name in (None, "x" * 101):
        execution = await world.run(workflow, await world.contact(last_name=last_name))
        (step,) = await world.steps(execution)
        assert (step["status"], step["error_code"]) == ("failed", "tag_name_unusable")
