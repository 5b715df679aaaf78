"""remove_tag: requirement R3.4."""

import pytest

from actors.remove_tag import ACTION
from runtime.stage import Account
from tests.backstage import Backstage


async def _tag(backstage: Backstage, account: Account, name: str, *contacts: object) -> object:
    tag_id = await backstage.add("tags", account_id=account.id, name=name)
    await backstage.pool.executemany(
        "INSERT INTO contact_tags (account_id, contact_id, tag_id, added_at)"
        " VALUES ($1, $2, $3, now())",
        [(account.id, contact_id, tag_id) for contact_id in contacts],
    )
    return tag_id


async def test_removes_the_tag_in_any_case_and_emits_tag_removed(backstage: Backstage) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account, first_name="vip")
    tag = await _tag(backstage, account, "VIP Österreich", contact)

    done = await backstage.perform(
        ACTION, (account, contact, {"tag_name": " {{contact.first_name}} ÖSTERREICH "})
    )

    assert done.result == {"tag_name": "vip ÖSTERREICH", "tag_id": str(tag), "removed": True}
    assert await backstage.rows("contact_tags", account) == []
    (event,) = done.events
    assert (event.event_type, event.contact_id) == ("tag_removed", contact)
    assert event.payload == {"tag_id": str(tag), "tag_name": "vip ÖSTERREICH"}


@pytest.mark.parametrize("name", ["never made", "{{contact.nothing}}", "x" * 200])
async def test_a_tag_that_is_not_there_lets_the_workflow_continue(
    backstage: Backstage, name: str
) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    await _tag(backstage, account, "other", contact)

    done = await backstage.perform(ACTION, (account, contact, {"tag_name": name}))

    assert done.result["removed"] is False
    assert done.events == []
    assert len(await backstage.rows("contact_tags", account)) == 1


async def test_takes_off_one_tag_each_from_contacts_of_several_accounts(
    backstage: Backstage,
) -> None:
    ours, theirs = await backstage.account(), await backstage.account()
    anna, ben = await backstage.contact(ours), await backstage.contact(ours)
    carl = await backstage.contact(theirs)
    await _tag(backstage, ours, "a", anna, ben)
    await _tag(backstage, ours, "b", anna, ben)
    await _tag(backstage, theirs, "a", carl)

    done = await backstage.perform(
        ACTION,
        (ours, anna, {"tag_name": "a"}),
        (ours, ben, {"tag_name": "b"}),
        (theirs, carl, {"tag_name": "b"}),
    )

    assert [result["removed"] for result in done.results] == [True, True, False]
    left = {row["contact_id"] for row in await backstage.rows("contact_tags", ours)}
    assert left == {anna, ben}
    assert len(await backstage.rows("contact_tags", theirs)) == 1


async def test_merge_fields_of_later_steps_no_longer_see_the_tag(backstage: Backstage) -> None:
    account = await backstage.account()
    contact = await backstage.contact(account)
    await _tag(backstage, account, "Gone", contact)

    async with backstage.performing(ACTION, (account, contact, {"tag_name": "x"})) as performed:
        (item,) = performed.items
        item.contact["tags"] = ["Gone", "kept"]
        item.values = {"tag_name": "gone"}
        assert ACTION.perform is not None
        await ACTION.perform(performed.stage, [item])

    assert item.contact["tags"] == ["kept"]
