"""The sample account: its people, its pipeline, its contacts from a CSV, its two workflows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg

from sql import Queries

queries = Queries(Path(__file__).with_name("_demo.sql"))

CSV = Path(__file__).with_name("demo_contacts.csv")
MOST_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Account:
    """What the demo needs to know of its account."""

    contact_ids: list[str]
    companies: int
    workflow_id: UUID
    campaign_workflow_id: UUID


class Api:
    """The HTTP API as a client sees it; anything but success ends the demo."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(self, path: str, body: Any = None) -> Any:
        """Send a POST and give the answer's JSON; RuntimeError with the problem otherwise."""
        async with self._session.post(f"/api/v1{path}", json=body or {}) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                raise RuntimeError(f"POST {path}: {response.status} {answer}")
            return answer


def sample_contacts(number: int) -> Iterator[dict[str, Any]]:
    """Give so many contacts: the CSV's rows, then again with other addresses."""
    with CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for n in islice(count(), number):
        row = dict(rows[n % len(rows)])
        if (lap := n // len(rows)) > 0:
            row["email"] = row["email"].replace("@", f".{lap}@")
        company = row.pop("company")
        yield {**row, "custom_fields": {"company": company}}


async def set_up(db: asyncpg.Pool, api: Api, account_id: UUID, contacts: int) -> Account:
    """Fill the account over the API; its many opportunities are written by SQL."""
    team_id = await _people(api)
    stages = ["Lead", "Contacted"]
    pipeline = await api.post("/pipelines", {"name": "New business", "stages": stages})
    lead, contacted = (stage["id"] for stage in pipeline["stages"])
    await api.post("/custom-fields", {"key": "company", "label": "Company"})
    touches = {"key": "touches", "label": "Touches", "field_type": "number"}
    await api.post("/custom-fields", touches)
    rows = list(sample_contacts(contacts))
    ids: list[str] = []
    for start in range(0, len(rows), MOST_AT_ONCE):
        part = rows[start : start + MOST_AT_ONCE]
        answer = await api.post("/contacts/bulk", {"contacts": part})
        ids += [outcome["contact_id"] for outcome in answer["outcomes"]]
    await db.execute(queries.make_opportunities, account_id, UUID(pipeline["id"]), UUID(lead))

    newcomers = await _workflow(
        api,
        "Newcomers",
        ("add_tag", {"tag_name": "Newcomer", "tag_color": "#2a9d8f"}),
        ("wait_time", {"duration": 30, "unit": "days"}),
    )
    campaign = {"name": "Newcomers", "status": "active", "workflow_id": newcomers}
    campaign_id = (await api.post("/campaigns", campaign))["id"]
    welcome = await _workflow(
        api,
        "Welcome",
        *_journey(team_id, campaign_id, pipeline["id"], contacted),
    )
    companies = len({row["custom_fields"]["company"] for row in rows})
    return Account(ids, companies, UUID(welcome), UUID(newcomers))


async def _people(api: Api) -> str:
    """Four users who take turns, as a team; one of them is on leave. Gives the team's id."""
    ids = []
    for name, role, is_available in (
        ("Ines", "admin", True),
        ("Jon", "editor", True),
        ("Kim", "editor", True),
        ("Lee", "editor", False),
    ):
        user = {"email": f"{name.lower()}@demo.test", "name": name, "role": role}
        ids.append((await api.post("/users", {**user, "is_available": is_available}))["id"])
    team_id: str = (await api.post("/teams", {"name": "Sales", "member_ids": ids}))["id"]
    return team_id


def _journey(
    team_id: str, campaign_id: str, pipeline_id: str, stage_id: str
) -> list[tuple[str, dict[str, Any]]]:
    """One action of each of the 13 types."""
    increment = {"field": "custom_fields.touches", "value": 1, "mode": "increment"}
    office = "office@{{contact.custom_fields.company | lower | replace(' ', '-')}}.example.com"
    tag = "Welcome {{workflow.execution_date | date_format('YYYY-MM')}}"
    task = {
        "title": "Call {{contact.first_name}} {{contact.last_name}}",
        "due_date_offset": {"days": 2},
        "priority": "high",
    }
    return [
        ("update_contact", {"field_updates": [increment]}),
        ("add_tag", {"tag_name": tag}),
        ("add_note", {"content": "Welcomed {{contact.first_name | default('somebody')}}."}),
        ("create_task", task),
        ("move_pipeline_stage", {"pipeline_id": pipeline_id, "stage_id": stage_id}),
        ("assign_to_user", {"assignment_type": "round_robin", "team_id": team_id}),
        ("wait_time", {"duration": 3, "unit": "days"}),
        (
            "create_contact",
            {"last_name": "{{contact.custom_fields.company}}", "email": office},
        ),
        ("add_to_campaign", {"campaign_id": campaign_id}),
        (
            "wait_until_date",
            {
                "date_type": "calculated",
                "offset": {"value": 1, "unit": "days"},
                "time_of_day": "09:00",
                "timezone_mode": "contact",
            },
        ),
        (
            "wait_for_event",
            {
                "event_type": "form_submit",
                "timeout_duration": 2,
                "timeout_unit": "days",
                "timeout_action": "continue",
            },
        ),
        (
            "remove_tag",
            {"tag_name": "Welcome {{workflow.execution_date | date_format('YYYY-MM')}}"},
        ),
        ("remove_from_campaign", {"campaign_id": campaign_id, "reason": "The journey is over"}),
    ]


async def _workflow(api: Api, name: str, *actions: tuple[str, dict[str, Any]]) -> str:
    workflow_id: str = (await api.post("/workflows", {"name": name}))["id"]
    for action_type, config in actions:
        action = {"action_type": action_type, "action_config": config}
        await api.post(f"/workflows/{workflow_id}/actions", action)
    await api.post(f"/workflows/{workflow_id}/activate")
    return workflow_id
