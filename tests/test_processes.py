"""Worker processes die, freeze and lose their database: nothing is lost, nothing done twice."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from runtime import embedded_postgres
from runtime.bells import Bells
from runtime.database import Connection, create_pool
from runtime.postgres_cluster import Cluster
from runtime.settings import Settings
from sql.migrate import migrate
from tests.processes import MORTAL, Counterpart, Crew, until
from tests.worker_process import CALL, COUNT, GATE, INSIDE, NAP, TEXT, registry
from tests.world import World


@pytest.fixture
async def counterpart() -> AsyncIterator[Counterpart]:
    async with Counterpart().open() as opened:
        yield opened


@pytest.fixture
def crew(dsn: str, tmp_path: Path, counterpart: Counterpart) -> Any:
    crew = Crew(dsn, tmp_path, counterpart.url)
    yield crew
    crew.end()


@pytest.fixture
async def world(pool: asyncpg.Pool, dsn: str, settings: Settings) -> AsyncIterator[World]:
    """A world whose own engine does nothing: only the worker processes work."""
    side = await create_pool(dsn, settings, size=2)
    yield await World(pool, side, settings, registry).begin()
    side.terminate()


async def enrol(world: World, workflow_id: UUID, contacts: Sequence[UUID], family: str) -> None:
    await world.enrol(workflow_id, *contacts)
    await world.ring(Bells(families={family}))


async def all_ended(world: World, count: int) -> None:
    async def ended() -> bool:
        n: int = await world.pool.fetchval(
            "SELECT count(*) FROM workflow_executions WHERE status NOT IN ('running', 'paused')"
        )
        return n == count

    await until(ended, f"{count} executions end")


async def tally(world: World, query: str, *arguments: Any) -> dict[Any, int]:
    return {row[0]: row[1] for row in await world.pool.fetch(query, *arguments)}


async def counted(world: World) -> dict[Any, int]:
    """How many contacts have how many visits."""
    return await tally(
        world,
        "SELECT coalesce((custom_fields ->> 'visits')::int, 0), count(*) FROM contacts GROUP BY 1",
    )


async def assert_each_was_counted(world: World, contacts: int, times: int) -> None:
    """Contacts, steps, attempts and events all say the same: each `times` times, once each."""
    assert await counted(world) == {times: contacts}
    steps = await tally(
        world,
        "SELECT s.status, count(*) FROM workflow_action_executions s"
        " JOIN workflow_actions a ON a.id = s.action_id WHERE a.action_type = $1 GROUP BY 1",
        COUNT,
    )
    assert steps == {"completed": contacts * times}
    per_step = await tally(
        world,
        "SELECT n, count(*) FROM (SELECT s.id, count(*) FILTER (WHERE t.outcome = 'completed') AS n"
        " FROM workflow_action_executions s JOIN workflow_actions a ON a.id = s.action_id"
        " LEFT JOIN workflow_action_attempts t ON t.step_id = s.id"
        " WHERE a.action_type = $1 GROUP BY s.id) x GROUP BY 1",
        COUNT,
    )
    assert per_step == {1: contacts * times}
    events = await tally(
        world,
        "SELECT n, count(*) FROM (SELECT contact_id, count(*) AS n FROM domain_events"
        " WHERE event_type = 'visited' GROUP BY 1) x GROUP BY 1",
    )
    assert events == {times: contacts}


async def assert_nothing_is_in_hand(world: World) -> None:
    async def is_nothing() -> bool:
        return not await world.pool.fetchval(
            "SELECT (SELECT count(*) FROM batches_in_hand)"
            " + (SELECT count(*) FROM workflow_action_executions WHERE worker_id IS NOT NULL)"
            " + (SELECT count(*) FROM effects WHERE worker_id IS NOT NULL)"
        )

    # The sweep cleans up behind the dead a moment after their work was done by others.
    await until(is_nothing, "nothing is in anybody's hand")


@asynccontextmanager
async def hearing(dsn: str, channel: str) -> AsyncIterator[asyncio.Queue[str]]:
    """What is notified on a channel, from now on."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(dsn)
    await listener.add_listener(channel, lambda *given: heard.put_nowait(str(given[-1])))
    try:
        yield heard
    finally:
        await listener.close()


async def test_a_worker_performs_an_enrolment_from_its_ticket_on_with_its_waits(
    world: World, crew: Crew
) -> None:
    crew.start()
    await crew.registered(world.pool)
    workflow = await world.workflow((COUNT, {}), (NAP, {"seconds": 1.5}), (COUNT, {}))
    await enrol(world, workflow, await world.contacts(20), "crm")
    await all_ended(world, 20)
    await assert_each_was_counted(world, contacts=20, times=2)
    naps = await world.pool.fetch(
        "SELECT result_data FROM workflow_action_executions s"
        " JOIN workflow_actions a ON a.id = s.action_id WHERE a.action_type = $1",
        NAP,
    )
    assert len(naps) == 20
    assert min(row["result_data"]["late"] for row in naps) >= 0
    tickets = await tally(world, "SELECT task_name, count(*) FROM procrastinate_jobs GROUP BY 1")
    assert {"ticket", "wake"} <= tickets.keys()


async def test_two_workers_share_two_thousand_executions_and_do_each_step_once(
    world: World, crew: Crew
) -> None:
    crew.start(batch_size=50)
    crew.start(batch_size=50)
    await crew.registered(world.pool)
    workflow = await world.workflow((COUNT, {}), (NAP, {"seconds": 0.5}), (COUNT, {}))
    await enrol(world, workflow, await world.contacts(2000), "crm")
    await all_ended(world, 2000)
    await assert_each_was_counted(world, contacts=2000, times=2)
    await assert_nothing_is_in_hand(world)


async def test_what_a_worker_killed_inside_a_batch_had_in_hand_is_done_once_and_alone(
    world: World, crew: Crew, dsn: str
) -> None:
    workflow = await world.workflow((COUNT, {}), (COUNT, {}))
    contacts = await world.contacts(40)
    killed = crew.start(inside_a_batch="block", batch_size=10, actors={"crm": 1}, **MORTAL)
    await crew.registered(world.pool)
    async with hearing(dsn, INSIDE) as heard:
        await enrol(world, workflow, contacts, "crm")
        await heard.get()
    (hand,) = await world.pool.fetch("SELECT step_ids FROM batches_in_hand")
    killed.kill()
    assert await counted(world) == {0: 40}
    crew.start()
    await all_ended(world, 40)
    await assert_each_was_counted(world, contacts=40, times=2)
    alone = await world.pool.fetch(
        "SELECT xmin::text, count(*) AS n FROM workflow_action_executions"
        " WHERE id = ANY ($1) GROUP BY 1",
        hand["step_ids"],
    )
    assert len(hand["step_ids"]) == 10
    assert [row["n"] for row in alone] == [1] * 10
    together = await world.pool.fetchval(
        "SELECT count(DISTINCT xmin::text) FROM workflow_action_executions"
        " WHERE sequence = 0 AND id <> ALL ($1)",
        hand["step_ids"],
    )
    assert together < 10
    await assert_nothing_is_in_hand(world)


async def test_a_poisonous_step_fails_after_its_attempts_and_its_neighbours_complete(
    world: World, crew: Crew
) -> None:
    workflow = await world.workflow((COUNT, {}))
    contacts = [*await world.contacts(30), await world.contact(first_name="Poison")]
    crew.start(**MORTAL)
    await enrol(world, workflow, contacts, "crm")
    deaths = 0

    async def ended() -> bool:
        nonlocal deaths
        deaths += crew.replace_the_dead(**MORTAL)
        count: int = await world.pool.fetchval(
            "SELECT count(*) FROM workflow_executions WHERE status IN ('completed', 'failed')"
        )
        return count == 31

    await until(ended, "31 executions end")
    assert deaths == 4  # once with its neighbours, and three times alone
    assert await counted(world) == {1: 30, 0: 1}
    (step,) = await world.pool.fetch(
        "SELECT s.* FROM workflow_action_executions s WHERE s.status = 'failed'"
    )
    assert (step["contact_id"], step["error_code"]) == (contacts[-1], "worker_lost")
    attempts = await world.pool.fetch(
        "SELECT outcome FROM workflow_action_attempts WHERE step_id = $1 ORDER BY attempt",
        step["id"],
    )
    assert [row["outcome"] for row in attempts] == ["lost", "lost", "lost", "failed"]
    await assert_nothing_is_in_hand(world)


async def kill_between_dispatch_and_record(
    world: World, crew: Crew, counterpart: Counterpart, action: str, family: str
) -> dict[str, int]:
    """Kill a worker with 10 effects on the wire and 20 claimed; a second one ends it all.

    Gives how often the counterpart was called, by key.
    """
    workflow = await world.workflow((action, {}))
    contacts = await world.contacts(30)
    killed = crew.start(**MORTAL)
    await crew.registered(world.pool)
    await enrol(world, workflow, contacts[:10], family)
    await counterpart.called(10)
    async with world.pool.acquire() as db, db.transaction():
        await hold_addresses(db, contacts[10:])
        await enrol(world, workflow, contacts[10:], family)

        async def are_claimed() -> bool:
            return await effects_by_status(world) == {"dispatched": 10, "claimed": 20}

        await until(are_claimed, "10 effects are dispatched, 20 claimed")
        killed.kill()
    counterpart.answering.set()
    crew.start()
    await all_ended(world, 30)
    await assert_nothing_is_in_hand(world)
    return dict(counterpart.calls)


async def hold_addresses(db: Connection, contacts: Sequence[UUID]) -> None:
    """Hold these contacts' addresses, for whose lock a dispatch then waits, until the commit."""
    await db.execute(
        "INSERT INTO channel_addresses (account_id, channel, address)"
        " SELECT account_id, 'email', email FROM contacts WHERE id = ANY ($1)",
        contacts,
    )


async def effects_by_status(world: World) -> dict[str, int]:
    return await tally(world, "SELECT status, count(*) FROM effects GROUP BY 1")


async def test_after_a_death_only_dispatched_texts_have_an_unknown_outcome(
    world: World, crew: Crew, counterpart: Counterpart
) -> None:
    calls = await kill_between_dispatch_and_record(world, crew, counterpart, TEXT, "sms")
    assert Counter(calls.values()) == {1: 30}
    assert await effects_by_status(world) == {"unknown": 10, "succeeded": 20}
    codes = await tally(
        world, "SELECT error_code, count(*) FROM workflow_action_executions GROUP BY 1"
    )
    assert codes == {"outcome_unknown": 10, None: 20}
    logged = await tally(
        world, "SELECT outcome, count(*) FROM effect_attempts WHERE NOT is_late GROUP BY 1"
    )
    assert logged == {"unknown": 10, "lost": 20, "succeeded": 20}


async def test_after_a_death_dispatched_calls_are_repeated_under_the_same_key(
    world: World, crew: Crew, counterpart: Counterpart
) -> None:
    calls = await kill_between_dispatch_and_record(world, crew, counterpart, CALL, "webhook")
    assert Counter(calls.values()) == {1: 20, 2: 10}
    assert await effects_by_status(world) == {"succeeded": 30}
    steps = await tally(world, "SELECT status, count(*) FROM workflow_action_executions GROUP BY 1")
    assert steps == {"completed": 30}


async def identities(world: World, pid: int) -> set[UUID]:
    return {r["id"] for r in await world.pool.fetch("SELECT id FROM workers WHERE pid = $1", pid)}


async def test_a_worker_frozen_past_its_lease_is_fenced_off_and_its_late_results_change_nothing(
    world: World, crew: Crew, counterpart: Counterpart
) -> None:
    workflow = await world.workflow((TEXT, {}))
    contacts = await world.contacts(4)
    frozen = crew.start(**MORTAL)
    await crew.registered(world.pool)
    (old,) = await identities(world, frozen.pid)
    await enrol(world, workflow, contacts[:3], "sms")
    await counterpart.called(3)
    frozen.send(signal.SIGSTOP)
    other = crew.start()
    await all_ended(world, 3)
    assert await effects_by_status(world) == {"unknown": 3}
    counterpart.answering.set()
    frozen.send(signal.SIGCONT)

    async def late() -> bool:
        n: int = await world.pool.fetchval(
            "SELECT count(*) FROM effect_attempts"
            " WHERE is_late AND outcome = 'succeeded' AND worker_id = $1",
            old,
        )
        return n == 3

    await until(late, "the late results are logged")
    assert await effects_by_status(world) == {"unknown": 3}
    assert counterpart.calls.total() == 3

    async def reborn() -> bool:
        return bool(await identities(world, frozen.pid) - {old})

    await until(reborn, "the fenced worker takes a new identity")
    other.send(signal.SIGTERM)
    assert await other.ended() == 0
    await enrol(world, workflow, contacts[3:], "sms")
    await all_ended(world, 4)
    assert await effects_by_status(world) == {"unknown": 3, "succeeded": 1}


async def test_a_worker_frozen_inside_a_batch_loses_its_transaction_and_works_on(
    world: World, crew: Crew, dsn: str
) -> None:
    workflow = await world.workflow((COUNT, {}))
    contacts = await world.contacts(21)
    frozen = crew.start(inside_a_batch="freeze", idle_in_transaction_timeout_ms=1000, **MORTAL)
    await crew.registered(world.pool)
    (old,) = await identities(world, frozen.pid)
    async with hearing(dsn, INSIDE) as heard:
        await enrol(world, workflow, contacts[:20], "crm")
        await heard.get()
    await frozen.stopped()
    other = crew.start()
    await all_ended(world, 20)

    async def is_buried() -> bool:
        return not await identities(world, frozen.pid)

    await until(is_buried, "the frozen worker's lease runs out")
    frozen.send(signal.SIGCONT)

    async def reborn() -> bool:
        return bool(await identities(world, frozen.pid) - {old})

    await until(reborn, "the fenced worker takes a new identity")
    other.send(signal.SIGTERM)
    assert await other.ended() == 0
    await enrol(world, workflow, contacts[20:], "crm")
    await all_ended(world, 21)
    await assert_each_was_counted(world, contacts=21, times=1)
    await assert_nothing_is_in_hand(world)


async def test_a_restart_of_postgresql_under_load_loses_nothing_and_doubles_nothing(
    scratch: Path, tmp_path: Path, counterpart: Counterpart
) -> None:
    # Not volatile: what was committed must outlive the crash.
    dsn = embedded_postgres.start(scratch).dsn
    await migrate(dsn)
    settings = Settings(database_url=dsn, data=scratch)
    pool = await create_pool(dsn, settings)
    side = await create_pool(dsn, settings, size=2)
    crew = Crew(dsn, tmp_path, counterpart.url)
    try:
        world = await World(pool, side, settings, registry).begin()
        await restart_postgresql_under_load(world, crew, scratch, counterpart)
    finally:
        crew.end()
        pool.terminate()
        side.terminate()


async def restart_postgresql_under_load(
    world: World, crew: Crew, folder: Path, counterpart: Counterpart
) -> None:
    load = await world.workflow((COUNT, {}), (NAP, {"seconds": 0.5}), (COUNT, {}))
    calls = await world.workflow((CALL, {}))
    contacts = await world.contacts(1500)
    crew.start(batch_size=100)
    crew.start(batch_size=100)
    await crew.registered(world.pool)
    await enrol(world, calls, contacts[:50], "webhook")
    await counterpart.called(50)
    await enrol(world, load, contacts, "crm")

    async def is_half_done() -> bool:
        n: int = await world.pool.fetchval("SELECT count(*) FROM domain_events")
        return n > 300

    await until(is_half_done, "the load is under way")
    cluster = Cluster(folder)
    await asyncio.to_thread(
        cluster.run, "pg_ctl", "-D", str(cluster.folder), "-w", "-s", "-m", "immediate", "stop"
    )
    counterpart.answering.set()
    await asyncio.to_thread(embedded_postgres.start, folder)
    await all_ended(world, 1550)
    assert [worker.exit_code for worker in crew.workers] == [None, None]
    await assert_each_was_counted(world, contacts=1500, times=2)
    assert await effects_by_status(world) == {"succeeded": 50}
    assert Counter(counterpart.calls.values()) == {1: 50}
    await assert_nothing_is_in_hand(world)


async def end_connection(world: World, condition: str) -> None:
    """End the one connection of a worker of which the condition holds in pg_stat_activity."""
    ended = await world.pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'callboard worker'"
        f" AND {condition}"
    )
    assert len(ended) == 1


async def test_a_worker_that_loses_its_connection_inside_a_batch_does_it_again_by_itself(
    world: World, crew: Crew, dsn: str
) -> None:
    worker = crew.start(inside_a_batch="wait", actors={"crm": 1})
    await crew.registered(world.pool)
    identity = await identities(world, worker.pid)
    workflow = await world.workflow((COUNT, {}), (COUNT, {}))
    async with world.pool.acquire() as gate, gate.transaction(), hearing(dsn, INSIDE) as heard:
        await gate.execute("SELECT pg_advisory_xact_lock($1)", GATE)
        await enrol(world, workflow, await world.contacts(20), "crm")
        await heard.get()
        await end_connection(world, "state = 'idle in transaction'")
    await all_ended(world, 20)
    await assert_each_was_counted(world, contacts=20, times=2)
    await assert_nothing_is_in_hand(world)
    assert await identities(world, worker.pid) == identity


async def test_a_worker_that_loses_its_connection_before_the_wire_sends_once_all_the_same(
    world: World, crew: Crew, counterpart: Counterpart
) -> None:
    worker = crew.start()
    await crew.registered(world.pool)
    identity = await identities(world, worker.pid)
    workflow = await world.workflow((TEXT, {}))
    contacts = await world.contacts(5)
    counterpart.answering.set()
    async with world.pool.acquire() as db, db.transaction():
        await hold_addresses(db, contacts)
        await enrol(world, workflow, contacts, "sms")

        async def are_claimed() -> bool:
            return await effects_by_status(world) == {"claimed": 5}

        await until(are_claimed, "5 effects are claimed")
        await until(
            lambda: world.pool.fetchval(
                "SELECT true FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'callboard worker' AND wait_event_type = 'Lock'"
            ),
            "the dispatch waits",
        )
        await end_connection(world, "wait_event_type = 'Lock'")
    await all_ended(world, 5)
    assert await effects_by_status(world) == {"succeeded": 5}
    assert Counter(counterpart.calls.values()) == {1: 5}
    await assert_nothing_is_in_hand(world)
    assert await identities(world, worker.pid) == identity


async def test_work_goes_on_when_the_listening_connection_is_killed(
    world: World, crew: Crew
) -> None:
    crew.start()
    workflow = await world.workflow((COUNT, {}))

    async def listeners() -> list[int]:
        rows = await world.pool.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        return [row["pid"] for row in rows]

    killed = await until(listeners, "the worker listens")
    for pid in killed:
        await world.pool.execute("SELECT pg_terminate_backend($1)", pid)
    await enrol(world, workflow, await world.contacts(5), "crm")
    await all_ended(world, 5)

    async def listens_again() -> bool:
        return bool(set(await listeners()) - set(killed))

    await until(listens_again, "the worker listens again")
    assert [worker.exit_code for worker in crew.workers] == [None]
    await assert_each_was_counted(world, contacts=5, times=1)


async def test_a_lost_ticket_costs_seconds_and_no_step(world: World, crew: Crew) -> None:
    crew.start()
    await crew.registered(world.pool)
    workflow = await world.workflow((COUNT, {}))
    await world.enrol(workflow, *await world.contacts(5))
    async with world.pool.acquire() as db, db.transaction():
        await db.execute("SELECT ring('{crm}', 'ticket', '{crm}', ARRAY['{}'::jsonb], NULL)")
        await db.execute("DELETE FROM procrastinate_jobs WHERE queueing_lock = 'crm'")
    await all_ended(world, 5)
    await assert_each_was_counted(world, contacts=5, times=1)


async def test_sigterm_drains_a_worker_under_load(
    world: World, crew: Crew, counterpart: Counterpart, dsn: str
) -> None:
    texts = await world.workflow((TEXT, {}))
    load = await world.workflow((COUNT, {}), (COUNT, {}))
    contacts = await world.contacts(200)
    drained = crew.start(inside_a_batch="wait", batch_size=20, actors={"crm": 1})
    await crew.registered(world.pool)
    await enrol(world, texts, contacts[:3], "sms")
    await counterpart.called(3)
    async with world.pool.acquire() as gate, gate.transaction(), hearing(dsn, INSIDE) as heard:
        await gate.execute("SELECT pg_advisory_xact_lock($1)", GATE)
        await enrol(world, load, contacts, "crm")
        await heard.get()
        drained.send(signal.SIGTERM)

        async def is_leaving() -> bool:
            n: int = await world.pool.fetchval(
                "SELECT count(*) FROM workers WHERE pid = $1 AND stopping_at IS NOT NULL",
                drained.pid,
            )
            return n == 1

        await until(is_leaving, "the worker begins nothing more")
    counterpart.answering.set()
    assert await drained.ended() == 0
    assert await effects_by_status(world) == {"succeeded": 3}
    left = await world.pool.fetchrow(
        "SELECT (SELECT count(*) FROM batches_in_hand) AS batches,"
        " (SELECT count(*) FROM workflow_action_executions"
        "   WHERE worker_id IS NOT NULL OR hold IS NOT NULL) AS steps,"
        " (SELECT count(*) FROM workers WHERE pid = $1) AS workers",
        drained.pid,
    )
    assert left is not None
    assert tuple(left) == (0, 0, 0)
    assert await counted(world) == {2: 20, 0: 180}  # the batch in hand, and no more
    crew.start()
    await all_ended(world, 203)
    await assert_each_was_counted(world, contacts=200, times=2)
