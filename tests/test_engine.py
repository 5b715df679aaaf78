"""The engine's path from an enrolment to a finished execution."""

from tests.world import World


async def test_consecutive_inward_steps_are_performed_in_one_commit(world: World) -> None:
    workflow = await world.workflow(
        ("add_tag", {"tag_name": "New"}),
        ("add_tag", {"tag_name": "Hello {{contact.first_name}}"}),
    )
    contact = await world.contact(first_name="Ada")
    execution = await world.run(workflow, contact)
    steps = await world.steps(execution)
    assert [s["status"] for s in steps] == ["completed", "completed"]
    assert (await world.execution(execution))["status"] == "completed"
    tags = await world.pool.fetch("SELECT name FROM tags ORDER BY name")
    assert [t["name"] for t in tags] == ["Hello Ada", "New"]
    xmins = {
        s["xmin"] for s in await world.pool.fetch("SELECT xmin FROM workflow_action_executions")
    }
    assert len(xmins) == 1
