"""remove_tag: requirement R3.4."""

import asyncpg
import pytest

from actors.remove_tag import ACTION
from runtime.stage import Account
from tests.crm import Crm


@pytest.fixture
def crm(pool: asyncpg.Pool) -> Crm:
    return Crm(pool)


async def _tag(crm: Crm, account: Account, name: str, *contacts: object) -> object:
    tag_id = await crm.add("tags", account_id=account.id, name=name)
    await crm.pool.executemany(
        "INSERT INTO contact_tags (account_id, contact_id, tag_id, added_at)"
        " VALUES ($1, $2, $3, now())",
        [(account.id, contact_id, tag_id) for contact_id in contacts],
    )
    return tag_id


async def test_removes_the_tag_in_any_case_and_emits_tag_removed(crm: Crm) -> None:
    account = await crm.account()
    contact = await crm.contact(account, first_name="vip")
    tag = await _tag(crm, account, "VIP Österreich", contact)

    done = await crm.perform(
        ACTION, (account, contact, {"tag_name": " {{contact.first_name}} ÖSTERREICH "})
    )

    assert done.result == {"tag_name": "vip ÖSTERREICH", "tag_id": str(tag), "removed": True}
    assert await crm.rows("contact_tags", account) == []
    (event,) = done.events
    assert (event.event_type, event.contact_id) == ("tag_removed", contact)
    assert event.payload == {"tag_id": str(tag), "tag_name": "vip ÖSTERREICH"}


@pytest.mark.parametrize("name", ["never made", "{{contact.nothing}}", "x" * 200])
async def test_a_tag_that_is_not_there_lets_the_workflow_continue(crm: Crm, name: str) -> None:
    account = await crm.account()
    contact = await crm.contact(account)
    await _tag(crm, account, "other", contact)

    done = await crm.perform(ACTION, (account, contact, {"tag_name": name}))

    assert done.result["removed"] is False
    assert done.events == []
    assert len(await crm.rows("contact_tags", account)) == 1


async def test_takes_off_one_tag_each_from_contacts_of_several_accounts(crm: Crm) -> None:
    ours, theirs = await crm.account(), await crm.account()
    anna, ben = await crm.contact(ours), await crm.contact(ours)
    carl = await crm.contact(theirs)
    await _tag(crm, ours, "a", anna, ben)
    await _tag(crm, ours, "b", anna, ben)
    await _tag(crm, theirs, "a", carl)

    done = await crm.perform(
        ACTION,
        (ours, anna, {"tag_name": "a"}),
        (ours, ben, {"tag_name": "b"}),
        (theirs, carl, {"tag_name": "b"}),
    )

    assert [result["removed"] for result in done.results] == [True, True, False]
    left = {row["contact_id"] for row in await crm.rows("contact_tags", ours)}
    assert left == {anna, ben}
    assert len(await crm.rows("contact_tags", theirs)) == 1


async def test_merge_fields_of_later_steps_no_longer_see_the_tag(crm: Crm) -> None:
    account = await crm.account()
    contact = await crm.contact(account)
    await _tag(crm, account, "Gone", contact)

    async with crm.performing(ACTION, (account, contact, {"tag_name": "x"})) as performed:
        (item,) = performed.items
        item.contact["tags"] = ["Gone", "kept"]
        item.values = {"tag_name": "gone"}
        assert ACTION.perform is not None
        await ACTION.perform(performed.stage, [item])

    assert item.contact["tags"] == ["kept"]
