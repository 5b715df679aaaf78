"""Operations: chunks committed with their progress, cancelled, resumed, one bad item alone."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from runtime import operations
from runtime.operations import (
    MOST_OPEN,
    ItemError,
    OperationError,
    OperationType,
    Portion,
    TooManyOperationsError,
    Work,
)
from runtime.settings import Settings
from runtime.sweep import MOST_LOSSES
from tests.api_desk import open_desk
from tests.stand_ins import WorldWith, registry_with
from tests.world import World

SIZE = 3


async def select(work: Work) -> Portion:
    """The numbers below `count`, SIZE at a time."""
    first, count = work.operation.state.get("next", 0), work.operation.parameters["count"]
    items = range(first, min(first + SIZE, count))
    return Portion(items, {"next": first + SIZE}, first + SIZE >= count, total=count)


async def perform(work: Work, items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
    """Make a tag of each number: a second one of the same name would be refused."""
    await work.db.execute(
        "INSERT INTO tags (account_id, name) SELECT $1, 'tag ' || n FROM unnest($2::int[]) n",
        work.account_id,
        list(items),
    )
    work.result["made"] = work.result.get("made", 0) + len(items)
    odd = work.operation.parameters.get("refused", ())
    return [[ItemError("refused", "not this one", line=n)] if n in odd else [] for n in items]


def counting(doing: Any = perform, selecting: Any = select) -> OperationType:
    return OperationType(
        "count", selecting, doing, lambda n, code, message: ItemError(code, message, line=n)
    )


async def begin(world: World, **parameters: Any) -> UUID:
    async with world.pool.acquire() as db, db.transaction():
        return await operations.begin(
            db, world.account_id, "count", parameters, created_by=world.user_id
        )


async def state_of(world: World, operation_id: UUID) -> dict[str, Any]:
    row = await operations.read(world.pool, world.account_id, operation_id)
    assert row is not None
    return dict(row)


async def made(world: World) -> int:
    count: int = await world.pool.fetchval("SELECT count(*) FROM tags")
    return count


async def bury(world: World, worker_id: UUID) -> None:
    """Let a worker's lease run out, and the sweep find it."""
    expire = "UPDATE workers SET lease_expires_at = now() - interval '1 hour' WHERE id = $1"
    await world.pool.execute(expire, worker_id)
    await world.worker.sweep()


async def test_an_operation_counts_what_it_has_done_and_says_what_it_could_not(
    world_with: WorldWith,
) -> None:
    world = await world_with(registry_with(operations=[counting()]))
    operation = await begin(world, count=7, refused=[1, 5])
    assert (await state_of(world, operation))["status"] == "queued"
    await world.settle()
    shown = await state_of(world, operation)
    assert (shown["status"], shown["total"], shown["done"], shown["failed"]) == (
        "completed", 7, 5, 2,
    )  # fmt: skip
    assert shown["result"] == {"made": 7}
    errors = await world.pool.fetch("SELECT line, code FROM operation_errors ORDER BY id")
    assert [tuple(row) for row in errors] == [(1, "refused"), (5, "refused")]


async def test_one_bad_item_fails_alone(world_with: WorldWith) -> None:
    async def raise_on_four(work: Work, items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
        outcomes = await perform(work, items)
        if 4 in items:
            raise RuntimeError("4 is nobody's business")
        return outcomes

    world = await world_with(registry_with(operations=[counting(raise_on_four)]))
    operation = await begin(world, count=7)
    await world.settle()
    shown = await state_of(world, operation)
    assert (shown["status"], shown["done"], shown["failed"]) == ("completed", 6, 1)
    assert (await made(world), shown["result"]) == (6, {"made": 6})
    [error] = await world.pool.fetch("SELECT line, code, message FROM operation_errors")
    assert tuple(error) == (4, "action_crashed", "the action raised RuntimeError")


async def test_a_worker_that_dies_with_a_chunk_in_hand_is_followed_by_another(
    world_with: WorldWith,
) -> None:
    dying = True

    async def die_at_three(work: Work, items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
        outcomes = await perform(work, items)
        if dying and 3 in items:
            raise asyncio.CancelledError  # nothing of the chunk is committed
        return outcomes

    world = await world_with(registry_with(operations=[counting(die_at_three)]))
    operation = await begin(world, count=7)
    other = await world.new_worker()
    with pytest.raises(asyncio.CancelledError):
        await other.run_operations()
    assert (await state_of(world, operation))["done"] == SIZE

    await world.settle()  # it is still in the other's hand
    assert (await state_of(world, operation))["done"] == SIZE
    dying = False
    await bury(world, other.id)
    await world.settle()
    shown = await state_of(world, operation)
    assert (shown["status"], shown["done"], await made(world)) == ("completed", 7, 7)


async def test_what_was_taken_from_a_worker_meanwhile_is_not_committed_by_it(
    world_with: WorldWith,
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def sleep_at_three(work: Work, items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
        if 3 in items and not reached.is_set():
            reached.set()
            await go_on.wait()
        return await perform(work, items)

    world = await world_with(registry_with(operations=[counting(sleep_at_three)]))
    operation = await begin(world, count=7)
    sleeper = await world.new_worker()
    asleep = asyncio.create_task(sleeper.run_operations())
    await reached.wait()
    await bury(world, sleeper.id)
    await world.settle()
    assert (await state_of(world, operation))["status"] == "completed"
    go_on.set()
    await asleep
    shown = await state_of(world, operation)
    assert (shown["status"], shown["done"], await made(world)) == ("completed", 7, 7)


async def test_a_chunk_that_kills_its_workers_ends_its_operation(world_with: WorldWith) -> None:
    async def die(_work: Work, _items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
        raise asyncio.CancelledError

    world = await world_with(registry_with(operations=[counting(die)]))
    operation = await begin(world, count=7)
    for _ in range(MOST_LOSSES):
        worker = await world.new_worker()
        with pytest.raises(asyncio.CancelledError):
            await worker.run_operations()
        await bury(world, worker.id)
    shown = await state_of(world, operation)
    assert (shown["status"], shown["error_code"]) == ("failed", "worker_lost")


async def test_what_a_lost_connection_took_from_a_living_worker_goes_on(
    world_with: WorldWith,
) -> None:
    lose = True

    async def lose_once(work: Work, items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
        nonlocal lose
        if lose:
            lose = False
            pid = await work.db.fetchval("SELECT pg_backend_pid()")
            await world.side.execute("SELECT pg_terminate_backend($1)", pid)
        return await perform(work, items)

    world = await world_with(registry_with(operations=[counting(lose_once)]))
    operation = await begin(world, count=2)
    runs = world.worker._operations
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await runs.answer()
    await runs.drop_what_was_lost()
    await world.settle()
    assert (await state_of(world, operation))["status"] == "completed"
    assert await made(world) == 2


async def test_a_cancelled_operation_ends_behind_its_present_chunk(world_with: WorldWith) -> None:
    async def cancel_at_three(work: Work, items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
        if 3 in items:
            async with world.side.acquire() as db, db.transaction():
                status = await operations.cancel(db, world.account_id, operation)
            assert status == "running"
        return await perform(work, items)

    world = await world_with(registry_with(operations=[counting(cancel_at_three)]))
    operation = await begin(world, count=70)
    await world.settle()
    shown = await state_of(world, operation)
    assert (shown["status"], shown["done"], await made(world)) == ("cancelled", 6, 6)
    assert shown["completed_at"] is not None


async def test_an_operation_that_nobody_has_in_hand_is_cancelled_at_once(
    world_with: WorldWith,
) -> None:
    world = await world_with(registry_with(operations=[counting()]))
    operation = await begin(world, count=7)
    async with world.pool.acquire() as db, db.transaction():
        assert await operations.cancel(db, world.account_id, operation) == "cancelled"
        assert await operations.cancel(db, world.account_id, operation) is None
    await world.settle()
    assert await made(world) == 0


async def test_an_operation_that_cannot_go_on_fails_with_the_reason(world_with: WorldWith) -> None:
    async def gone(_work: Work) -> Portion:
        raise OperationError("tag_gone", "the tag was deleted")

    async def broken(_work: Work) -> Portion:
        raise RuntimeError("somebody's name")

    for selecting, code in ((gone, "tag_gone"), (broken, "operation_crashed")):
        world = await world_with(registry_with(operations=[counting(selecting=selecting)]))
        operation = await begin(world, count=1)
        await world.settle()
        shown = await state_of(world, operation)
        assert (shown["status"], shown["error_code"]) == ("failed", code)
        assert "name" not in shown["error_message"]


async def test_an_account_with_many_operations_does_not_keep_another_waiting(
    world_with: WorldWith,
) -> None:
    order: list[UUID] = []

    async def note(work: Work, items: Sequence[int]) -> Sequence[Sequence[ItemError]]:
        order.append(work.account_id)
        if len(order) == 1:
            # Another worker comes while this one is busy with the first of many.
            await (await world.new_worker()).run_operations()
        return [[] for _ in items]

    world = await world_with(registry_with(operations=[counting(note)]))
    for _ in range(3):
        await begin(world, count=1)
    first, world.account_id = world.account_id, await world.account("Other")
    world.user_id = await world.user("eve@other.test")
    await begin(world, count=1)
    await world.settle()
    assert order == [first, world.account_id, first, first]


async def test_an_account_has_only_so_many_operations_open(world_with: WorldWith) -> None:
    world = await world_with(registry_with(operations=[counting()]))
    for _ in range(MOST_OPEN):
        await begin(world, count=1)
    with pytest.raises(TooManyOperationsError):
        await begin(world, count=1)
    await world.settle()
    await begin(world, count=1)


async def test_operations_are_listed_read_and_cancelled_over_the_api(
    world_with: WorldWith, settings: Settings
) -> None:
    world = await world_with(registry_with(operations=[counting()]))
    done = await begin(world, count=7, refused=[1, 2, 3])
    await world.settle()
    waiting = await begin(world, count=7)
    async with open_desk(world.pool, settings) as desk:
        editor, stranger = await desk.caller("Acme", "editor"), await desk.caller("Other")
        listed = await editor.get("/api/v1/operations", limit="1")
        assert [item["id"] for item in listed["items"]] == [str(waiting)]
        rest = await editor.get("/api/v1/operations", cursor=listed["next_cursor"])
        assert [item["id"] for item in rest["items"]] == [str(done)]
        assert (await editor.get("/api/v1/operations", status="queued"))["items"] == listed["items"]

        path = f"/api/v1/operations/{done}"
        shown = await editor.get(path)
        assert (shown["done"], shown["failed"], shown["status"]) == (4, 3, "completed")
        page = await editor.get(f"{path}/errors", limit="2")
        assert [error["line"] for error in page["items"]] == [1, 2]
        page = await editor.get(f"{path}/errors", after=str(page["next_after"]))
        assert [error["line"] for error in page["items"]] == [3]
        assert page["next_after"] is None
        assert (await editor.refused("POST", f"{path}/cancel")).code == "operation_has_ended"

        ended = await editor.post(f"/api/v1/operations/{waiting}/cancel")
        assert ended["status"] == "cancelled"
        audited = await world.pool.fetchval(
            "SELECT action FROM audit_log WHERE entity_id = $1", waiting
        )
        assert audited == "operation.cancelled"
        for method, route in (("GET", path), ("GET", f"{path}/errors"), ("POST", f"{path}/cancel")):
            assert (await stranger.refused(method, route)).code == "operation_not_found"
        missing = await editor.refused("GET", f"/api/v1/operations/{uuid4()}")
        assert missing.status == 404
        assert (await stranger.get("/api/v1/operations"))["items"] == []
