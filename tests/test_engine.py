"""The engine's path from an enrolment to a finished execution."""

from collections.abc import Sequence
from dataclasses import replace

from runtime.outcomes import Done, Outcome
from runtime.stage import Item, Stage
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


async def test_code_and_secrets_are_not_rendered(world: World) -> None:
    code = "return `{{contact.first_name}}` + '{%';"
    types = dict(world.registry.actions)
    seen: list[tuple[str, frozenset[str]]] = []

    async def perform(_stage: Stage, items: Sequence[Item]) -> Sequence[Outcome]:
        seen.extend((str(i.config.model_dump()["code"]), frozenset(i.values)) for i in items)
        return [Done() for _ in items]

    types["custom_code"] = replace(types["custom_code"], perform=perform)
    world.registry = replace(world.registry, actions=types)
    world.worker = await world.new_worker()
    workflow = await world.workflow(("custom_code", {"code": code}))
    await world.run(workflow, await world.contact(first_name="Ada"))
    ((given, rendered),) = seen
    assert given == code
    assert "code" not in rendered
