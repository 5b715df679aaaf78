"""The five inward actions that every contestant performs for each contact, and their proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from bench._world import Action, World
from runtime.clock import current_instant
from runtime.definitions import CompiledVersion
from runtime.executions import enrol
from sql import Queries

queries = Queries(Path(__file__).with_name("_journey.sql"))

ACTIONS: Final[list[Action]] = [
    (
        "update_contact",
        # Done twice, it would show.
        {"field_updates": [{"field": "last_name", "value": "{{contact.last_name}} II"}]},
    ),
    ("add_tag", {"tag_name": "customer"}),
    ("add_note", {"content": "Welcome, {{contact.first_name}}!"}),
    (
        "create_task",
        {
            "title": "Call {{contact.first_name}} {{contact.last_name}}",
            "due_date_offset": {"days": 2},
            "priority": "high",
        },
    ),
    ("remove_tag", {"tag_name": "lead"}),
]

_PER_CONTACT: Final[Mapping[str, int]] = {
    "executions": 1,
    "unfinished_executions": 0,
    "steps": len(ACTIONS),
    "distinct_steps": len(ACTIONS),
    "unfinished_steps": 0,
    "attempts": len(ACTIONS),
    "renamed_contacts": 1,
    "field_changes": 1,
    "added_tags": 1,
    "tags_left": 0,
    "notes": 1,
    "contacts_with_note": 1,
    "tasks": 1,
    "contacts_with_task": 1,
    "events": len(ACTIONS),
    "distinct_events": len(ACTIONS),
}


@dataclass(frozen=True, slots=True)
class Journey:
    """The workflow of the five actions in a world, and the tags that they add and remove."""

    world: World
    version: CompiledVersion
    customer_id: UUID
    lead_id: UUID

    @property
    def action_ids(self) -> list[UUID]:
        """The actions in their order."""
        return list(self.version.actions)

    @property
    def lane_id(self) -> int:
        """The lane that all five stand in."""
        return self.version.actions[self.action_ids[0]].lane_id

    async def enrol(self, contact_ids: Sequence[UUID]) -> None:
        """Enrol contacts in one transaction."""
        async with self.world.pool.acquire() as db, db.transaction():
            await enrol(db, await current_instant(db), self.version, contact_ids)

    async def complaints(self, contact_ids: Sequence[UUID]) -> list[str]:
        """What is missing, or there too often, now that these contacts should be through."""
        found = await self.world.pool.fetchrow(queries.tally, self.version.id, contact_ids)
        assert found is not None
        wanted = {name: each * len(contact_ids) for name, each in _PER_CONTACT.items()}
        return [
            f"{name.replace('_', ' ')}: {found[name]} instead of {number}"
            for name, number in wanted.items()
            if found[name] != number
        ]


async def prepare(world: World) -> Journey:
    """Make the workflow, and give every contact the tag that the last action removes."""
    version = await world.workflow("Welcome", ACTIONS)
    customer_id = await world.tag("customer")
    lead_id = await world.tag("lead", everybody=True)
    return Journey(world, version, customer_id, lead_id)
