"""add_note: requirement R3.10."""

import pytest

from actors.add_note import ACTION, LONGEST_NOTE
from tests.backstage import Backstage


async def test_creates_a_note_with_its_context_and_emits_note_added(backstage: Backstage) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account, first_name="Ada")

    done = await backstage.perform(
        ACTION, (account, contact, {"content": "Met {{contact.first_name}}"})
    )

    (item,) = done.items
    note = await backstage.row("notes", done.result["note_id"])
    assert (note["contact_id"], note["content"]) == (contact, "Met Ada")
    assert (note["step_id"], note["created_at"]) == (item.step_id, done.stage.now)
    assert note["metadata"] == {
        "workflow_id": str(item.workflow_id),
        "workflow_name": "Welcome",
        "version_id": str(item.version.id),
        "execution_id": str(item.execution_id),
        "action_id": str(item.action.id),
        "action_key": "add_note",
        "step_id": str(item.step_id),
    }
    (event,) = done.events
    assert (event.event_type, event.contact_id) == ("note_added", contact)
    assert event.payload == {"note_id": str(note["id"]), "note_type": "workflow"}


@pytest.mark.parametrize(
    ("config", "stored"),
    [({}, "workflow"), ({"note_type": "general"}, "general"), ({"note_type": "system"}, "system")],
)
async def test_a_note_is_of_type_workflow_unless_configured(
    backstage: Backstage, config: dict[str, str], stored: str
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    await backstage.perform(ACTION, (account, contact, {"content": "x", **config}))
    assert [note["note_type"] for note in await backstage.rows("notes", account)] == [stored]


async def test_one_unusable_note_leaves_the_others_of_its_batch_alone(backstage: Backstage) -> None:
    account = await backstage.account()
    contents = ["one", " {{contact.nothing}} ", "x{{contact.last_name}}", "five"]
    steps = [
        (
            account,
            await backstage.contact(account, last_name="y" * LONGEST_NOTE),
            {"content": content},
        )
        for content in contents
    ]

    done = await backstage.perform(ACTION, *steps)

    assert done.reasons == [None, "empty_note", "text_too_long", None]
    assert {note["content"] for note in await backstage.rows("notes", account)} == {"one", "five"}
    assert len(done.events) == 2
