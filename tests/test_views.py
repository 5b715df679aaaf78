"""The views that people look with."""

from tests.world import World


async def test_one_contact_s_timeline_tells_its_journey_in_order(world: World) -> None:
    workflow = await world.workflow(
        ("add_tag", {"tag_name": "New"}),
        ("wait_time", {"duration": 3, "unit": "days"}),
        ("update_contact", {"field_updates": [{"field": "first_name", "value": "Ada"}]}),
    )
    contact = await world.contact(first_name="Grace")
    await world.run(workflow, contact)
    await world.advance(days=3)
    rows = await world.pool.fetch(
        "SELECT what, detail FROM contact_timeline WHERE contact_id = $1 ORDER BY at", contact
    )
    told = [row["what"] for row in rows]
    assert told[0] == "entered Welcome"
    assert told[-1] == "completed Welcome"
    assert {"add_tag completed", "event tag_added", "wait_time completed"} <= set(told)
    assert ("changed first_name", '"Grace" → "Ada"') in [(r["what"], r["detail"]) for r in rows]


async def test_every_step_that_has_not_ended_says_why_it_stands_there(world: World) -> None:
    sleeping = await world.workflow(("wait_time", {"duration": 3, "unit": "days"}))
    waiting = await world.workflow(
        (
            "wait_for_event",
            {"event_type": "sms_reply", "timeout_duration": 1, "timeout_unit": "days"},
        )
    )
    paused = await world.workflow(("add_tag", {"tag_name": "New"}))
    ready = await world.workflow(("add_tag", {"tag_name": "New"}))
    contact = await world.contact()
    await world.run(sleeping, contact)
    await world.run(waiting, contact)
    await world.enrol(paused, contact)
    await world.enrol(ready, contact)
    await world.pool.execute("UPDATE lanes SET is_paused = true WHERE workflow_id = $1", paused)
    rows = await world.pool.fetch("SELECT action_type, status, reason FROM open_steps")
    assert {tuple(row) for row in rows} == {
        ("wait_time", "scheduled", "sleeping"),
        ("wait_for_event", "waiting", "waiting for sms_reply"),
        ("add_tag", "pending", "workflow paused"),
        ("add_tag", "pending", "ready"),
    }
    backlog = await world.pool.fetchrow("SELECT family, what, ready, held FROM backlog")
    assert backlog is not None
    assert tuple(backlog) == ("crm", "step", 2, 1)


async def test_the_action_log_has_all_that_requirement_r7_3_names(world: World) -> None:
    workflow = await world.workflow(("add_tag", {"tag_name": "{{contact.first_name}}"}))
    contact = await world.contact()
    await world.run(workflow, contact)
    row = await world.pool.fetchrow("SELECT * FROM action_log")
    assert row is not None
    assert row["contact_id"] == contact
    assert row["action_type"] == "add_tag"
    assert row["action_config"]["tag_name"] == "{{contact.first_name}}"
    assert row["status"] == "failed"
    assert row["error_code"] == "tag_name_unusable"
    assert row["duration_ms"] >= 0
    failure = await world.pool.fetchrow("SELECT * FROM recent_failures")
    assert failure is not None
    assert failure["error_code"] == "tag_name_unusable"


async def test_workers_alive_shows_a_worker_and_its_lease(world: World) -> None:
    row = await world.pool.fetchrow("SELECT * FROM workers_alive")
    assert row is not None
    assert row["worker_id"] == world.worker.id
    assert row["lease_holds"]
    assert row["steps_in_hand"] == 0
