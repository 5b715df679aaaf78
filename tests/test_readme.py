"""The README and the page on operation are true: settings, queries, examples, commands."""

import json
import re
from pathlib import Path

import pytest
from cli.commands import build_parser
from cli.environment import ROOT

from actors import registry
from api.server import ROUTES
from runtime.configuration import faults_of_config
from runtime.settings import Settings, variable_of
from tests.world import World

README = (ROOT / "README.md").read_text()
OPERATION = (ROOT / "runtime" / "README.md").read_text()


def test_every_setting_stands_in_the_table_with_its_default_and_description() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|(.*?)\| (.*) \|$", README, re.MULTILINE)
    table = {variable: (default.strip(" `"), meaning) for variable, default, meaning in rows}
    assert set(table) == {variable_of(name) for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown, meaning = table[variable_of(name)]
        assert meaning == field.description
        if isinstance(field.default, dict):
            assert json.loads(shown) == field.default
        elif field.default == frozenset():
            assert not shown
        elif field.default is not None and name != "data":
            assert shown == f"{field.default}"


async def test_every_query_of_the_readme_runs(world: World) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", README + OPERATION, re.DOTALL)
    queries = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert len(queries) >= 9
    for query in queries:
        await world.pool.fetch(query)


EXAMPLES = dict(re.findall(r"^\| `([a-z_]+)` \| `(\{.*?\})` \| ", README, re.MULTILINE))


def test_every_action_that_runs_has_an_example() -> None:
    running = {name for name, action in registry.actions.items() if action.perform is not None}
    assert running <= set(EXAMPLES)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_is_a_complete_configuration(name: str) -> None:
    config = json.loads(EXAMPLES[name])
    assert faults_of_config(registry.actions[name].config, config, "action_config") == []


def test_every_route_of_the_api_is_named() -> None:
    for route in ROUTES:
        resource = route.path.removeprefix("/api/v1").split("/")[1]
        assert f"/{resource}" in README


def test_every_command_and_path_of_the_readme_exists() -> None:
    parser = build_parser()
    known = parser.format_help()
    for command in re.findall(r"run\.py (\w+)", README + OPERATION):
        assert command in known
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        assert Path(ROOT / path).exists()
    for path in re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", OPERATION):
        assert Path(ROOT / "runtime" / path).exists()
