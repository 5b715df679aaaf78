"""add_tag: requirement R3.3."""

from typing import Any

import pytest
from pydantic import ValidationError

from actors.add_tag import AddTag
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


@pytest.mark.parametrize(
    "color", ["#fff", "#FF0000", "rebeccapurple", "DarkSeaGreen", "{{contact.nothing}}", " ", None]
)
def test_a_colour_is_written_as_in_css_or_by_merge_fields(color: str | None) -> None:
    AddTag(tag_name="VIP", tag_color=color)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"tag_color": "redd"}, "tag_color_unusable"),
        ({"tag_color": "#ff"}, "tag_color_unusable"),
        ({"tag_color": "#ff0000ff"}, "tag_color_unusable"),
        ({"tag_color": "#fff\n#000"}, "tag_color_unusable"),
        ({"tag_color": "{{"}, "template_error"),
        ({"tag_color": 0xFFFFFF}, "string_type"),
        ({"tag_name": "x" * 101}, "tag_name_unusable"),
        ({"tag_name": " "}, "blank"),
    ],
)
def test_a_name_or_colour_that_cannot_be_used_is_refused(config: dict[str, Any], code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AddTag.model_validate({"tag_name": "VIP", **config})
    assert [fault["type"] for fault in caught.value.errors()] == [code]


async def test_a_colour_from_merge_fields_is_checked_after_rendering(world: World) -> None:
    workflow = await world.workflow(
        ("add_tag", {"tag_name": "{{contact.last_name}}", "tag_color": "{{contact.first_name}}"})
    )
    outcomes = []
    for last_name, color in [("A", " Teal "), ("B", "#0aF"), ("C", ""), ("D", "loud")]:
        contact = await world.contact(last_name=last_name, first_name=color)
        (step,) = await world.steps(await world.run(workflow, contact))
        outcomes.append((step["status"], step["error_code"]))
    assert outcomes == [("completed", None)] * 3 + [("failed", "tag_color_unusable")]
    tags = await world.pool.fetch("SELECT name, color FROM tags ORDER BY name")
    assert [tuple(tag) for tag in tags] == [("A", "Teal"), ("B", "#0aF"), ("C", None)]


async def test_an_unusable_colour_fails_alone_in_its_batch(world: World) -> None:
    workflow = await world.workflow(
        ("add_tag", {"tag_name": "VIP", "tag_color": "{{contact.first_name}}"})
    )
    contacts = [await world.contact(first_name=name) for name in ("red", "loud", "red")]
    await world.enrol(workflow, *contacts)
    await world.settle()
    tagged = await world.pool.fetch("SELECT contact_id FROM contact_tags")
    assert {row["contact_id"] for row in tagged} == {contacts[0], contacts[2]}
