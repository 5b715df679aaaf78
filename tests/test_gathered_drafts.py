"""Many requests that ask who they are and add to drafts in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from api import chains
from api.calls import turns_at
from api.gathered_drafts import Addition, GatheredDrafts
from runtime.ids import new_id
from runtime.settings import Settings
from tests.api_desk import Caller, Desk, open_desk


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
def drafts(pool: asyncpg.Pool) -> GatheredDrafts:
    return GatheredDrafts(pool, turns_at(pool))


def named(tag: str) -> dict[str, Any]:
    return {"action_type": "add_tag", "action_config": {"tag_name": tag}}


async def addition(drafts: GatheredDrafts, pool: asyncpg.Pool, path: str) -> Addition:
    """One more action for a draft, as it stands now, made by nobody."""
    workflow_id = UUID(path.rpartition("/")[2])
    account_id = await pool.fetchval("SELECT account_id FROM workflows WHERE id = $1", workflow_id)
    rows = await drafts.read(account_id, workflow_id)
    id_ = new_id()
    row = {
        "id": id_,
        "workflow_id": workflow_id,
        "action_type": "add_tag",
        "action_config": {"tag_name": "vip"},
        "position": sum(row["id"] is not None for row in rows),
        "previous_action_id": rows[-1]["id"],
        "next_action_id": None,
        "branch_id": None,
        "is_enabled": True,
        "on_failure": "fail",
        "fallback_action_id": None,
        "key": f"add_tag_{id_.hex}",
        "canvas_x": None,
        "canvas_y": None,
        "created_at": rows[0]["changed_at"],
    }
    links = [
        chains.Link(one["id"], None, one["position"], one["previous_action_id"], id_)
        for one in rows[-1:]
        if one["id"] is not None
    ]
    change = (account_id, None, None, None, "test", "action.created", "action", id_, None, "{}")
    read = rows[0]
    return Addition(account_id, read["revision"], read["was_updated_at"], row, links, change)


async def test_callers_of_several_accounts_each_add_to_their_own(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    callers = [await desk.caller(account) for account in ("Acme", "Globex", "Initech")]
    paths = [(caller, await caller.workflow()) for caller in callers for _ in range(4)]

    async def build(caller: Caller, path: str, number: int) -> None:
        for step in range(5):
            made = await caller.post(f"{path}/actions", named(f"{number} {step}"))
            assert (made["position"], made["workflow_id"]) == (step, path.rpartition("/")[2])

    await asyncio.gather(*(build(*one, number) for number, one in enumerate(paths)))
    for number, (caller, path) in enumerate(paths):
        chain = await caller.chain(path)
        assert [action["action_config"]["tag_name"] for action in chain] == [
            f"{number} {step}" for step in range(5)
        ]
        ids = [action["id"] for action in chain]
        assert [action["previous_action_id"] for action in chain] == [None, *ids[:-1]]
        assert [action["next_action_id"] for action in chain] == [*ids[1:], None]
    logged = await pool.fetchval(
        "SELECT count(*) FROM audit_log l JOIN workflow_actions a ON a.id = l.entity_id"
        " AND a.account_id = l.account_id AND a.created_by = l.user_id"
        " WHERE l.action = 'action.created' AND l.after->>'id' = a.id::text"
    )
    assert logged == 12 * 5


async def test_one_token_is_not_taken_for_another(desk: Desk) -> None:
    acme, globex = await desk.caller("Acme"), await desk.caller("Globex", "viewer")
    foreign = await globex.get("/api/v1/me")
    own = await acme.get("/api/v1/me")
    bad = desk.stranger("cb_" + "x" * 43)
    asked = [acme, globex, bad] * 10
    answers = await asyncio.gather(*(caller.call("GET", "/api/v1/me") for caller in asked))
    for who, answer in zip(asked, answers, strict=True):
        if who is bad:
            assert (answer.status, answer.code) == (401, "token_invalid")
        else:
            assert answer.data == (own if who is acme else foreign)


async def test_many_inserts_into_one_draft_all_find_their_place(desk: Desk) -> None:
    caller = await desk.caller()
    path = await caller.workflow()
    await asyncio.gather(*(caller.post(f"{path}/actions", named(str(n))) for n in range(20)))
    chain = await caller.chain(path)
    assert sorted(int(action["action_config"]["tag_name"]) for action in chain) == list(range(20))
    assert [action["position"] for action in chain] == list(range(20))
    assert len({action["key"] for action in chain}) == 20


async def test_a_draft_under_somebody_s_lock_holds_up_no_other(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    acme, globex = await desk.caller("Acme"), await desk.caller("Globex")
    locked, free = await acme.workflow(), await globex.workflow()
    async with pool.acquire() as db, db.transaction():
        lock = "SELECT FROM workflows WHERE id = $1 FOR UPDATE"
        await db.execute(lock, UUID(locked.rpartition("/")[2]))
        waiting = asyncio.create_task(acme.post(f"{locked}/actions", named("late")))
        for _ in range(3):
            await globex.post(f"{free}/actions", named("at once"))
        assert not waiting.done()
    await waiting
    assert len(await globex.chain(free)) == 3
    assert len(await acme.chain(locked)) == 1


async def test_what_cannot_be_stored_takes_no_other_along(
    desk: Desk, pool: asyncpg.Pool, drafts: GatheredDrafts
) -> None:
    caller = await desk.caller()
    good, bad = await caller.workflow(named("a")["action_config"]), await caller.workflow()
    one = await addition(drafts, pool, good)
    other = await addition(drafts, pool, bad)
    other = replace(other, row={**other.row, "fallback_action_id": uuid4()})
    written, refused = await asyncio.gather(
        drafts.add(one), drafts.add(other), return_exceptions=True
    )
    assert written is True
    assert isinstance(refused, asyncpg.ForeignKeyViolationError)
    assert [action["position"] for action in await caller.chain(good)] == [0, 1]
    assert await caller.chain(bad) == []


async def test_of_two_that_read_the_same_revision_one_is_told_to_read_again(
    desk: Desk, pool: asyncpg.Pool, drafts: GatheredDrafts
) -> None:
    caller = await desk.caller()
    path = await caller.workflow()
    one, other = await addition(drafts, pool, path), await addition(drafts, pool, path)
    assert list(await asyncio.gather(*map(drafts.add, (one, other)))) == [True, False]
    assert await drafts.add(other) is False
    again = await addition(drafts, pool, path)
    assert await drafts.add(again) is True
    assert [action["id"] for action in await caller.chain(path)] == [
        str(one.row["id"]),
        str(again.row["id"]),
    ]


async def test_a_workflow_that_was_renamed_meanwhile_is_read_again(
    desk: Desk, pool: asyncpg.Pool, drafts: GatheredDrafts
) -> None:
    """Otherwise If-Match would have been asked of what no longer stands."""
    caller = await desk.caller()
    path = await caller.workflow()
    one = await addition(drafts, pool, path)
    assert (await caller.call("PATCH", path, {"name": "Renamed"})).status == 200
    assert await drafts.add(one) is False
    assert await drafts.add(await addition(drafts, pool, path)) is True


async def test_a_draft_of_another_account_is_no_draft(
    desk: Desk, pool: asyncpg.Pool, drafts: GatheredDrafts
) -> None:
    acme, globex = await desk.caller("Acme"), await desk.caller("Globex")
    path = await acme.workflow()
    own = await addition(drafts, pool, path)
    foreign_id = UUID((await globex.get("/api/v1/me"))["account"]["id"])
    workflow_id = own.row["workflow_id"]
    mine, theirs = await asyncio.gather(
        drafts.read(own.account_id, workflow_id), drafts.read(foreign_id, workflow_id)
    )
    assert (len(mine), len(theirs)) == (1, 0)
    assert await drafts.add(replace(own, account_id=foreign_id)) is False
    assert await acme.chain(path) == []
