"""The sample account: its people, its senders, its contacts from a CSV, its two workflows."""

from __future__ import annotations

import asyncio
import csv
import io
import wave
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import aiohttp
import asyncpg

from bench._demo_workflow import MAIL_FROM, MAIL_HTML, SMS_FROM, Action, Parts
from bench._outsiders import Outsiders
from bench._people import Person
from bench._scenes import Setting
from sql import Queries
from tests.counterparts.graph.server import APP_SECRET, PAGE, TOKEN, VERIFY_TOKEN
from tests.counterparts.twilio.server import ACCOUNT_SID, AUTH_TOKEN

queries = Queries(Path(__file__).with_name("_demo.sql"))

CSV = Path(__file__).with_name("demo_contacts.csv")
MOST_AT_ONCE = 5_000
CALLS_AT_ONCE = 10

ACCOUNT = "Callboard demo"

One = TypeVar("One")
MakePerson = Callable[[int, str], Person]
"""Makes the person of a number and an e-mail address."""
MakeActions = Callable[[Parts], list[Action]]


@dataclass(frozen=True, slots=True)
class Account:
    """What the demo needs to know of its account."""

    contact_ids: list[str]
    people: list[Person]
    companies: int
    actions: int
    audio_file_id: str
    workflow_id: UUID
    campaign_workflow_id: UUID


class Api:
    """The HTTP API as a client sees it; anything but success ends the demo."""

    def __init__(self, session: aiohttp.ClientSession, address: str, token: str) -> None:
        self._session = session
        self.address = address
        self.token = token

    async def get(self, path: str) -> Any:
        """Give the answer's JSON; RuntimeError with the problem otherwise."""
        return await self._call("GET", path)

    async def post(self, path: str, body: Any = None) -> Any:
        """Send a POST and give the answer's JSON."""
        return await self._call("POST", path, json=body or {})

    async def put(self, path: str, body: Any) -> Any:
        """Send a PUT and give the answer's JSON."""
        return await self._call("PUT", path, json=body)

    async def patch(self, path: str, body: Any) -> Any:
        """Send a PATCH and give the answer's JSON."""
        return await self._call("PATCH", path, json=body)

    async def delete(self, path: str) -> None:
        """Send a DELETE."""
        await self._call("DELETE", path)

    async def upload(self, name: str, content: bytes, media_type: str) -> str:
        """Upload a file; gives its id."""
        headers = {"Content-Type": media_type}
        answer = await self._call("POST", f"/files?name={name}", data=content, headers=headers)
        return str(answer["id"])

    async def _call(self, method: str, path: str, **what: Any) -> Any:
        async with self._session.request(method, f"/api/v1{path}", **what) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            return answer


def sample_contacts(number: int, make: MakePerson) -> Iterator[tuple[dict[str, Any], Person]]:
    """Give so many contacts with who they are: the CSV's rows, then again with other addresses."""
    with CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for n in islice(count(), number):
        row: dict[str, Any] = dict(rows[n % len(rows)])
        if (lap := n // len(rows)) > 0:
            row["email"] = row["email"].replace("@", f".{lap}@")
        person = make(n, row["email"])
        company = row.pop("company")
        yield {**row, "phone": person.phone, "custom_fields": {"company": company}}, person


async def set_up(
    db: asyncpg.Pool,
    api: Api,
    outside: Outsiders,
    people_and_actions: tuple[MakePerson, MakeActions],
    contacts: int,
    *,
    answers_at_once: bool = False,
) -> Account:
    """Fill the account over the API; its many opportunities are written by SQL."""
    make_person, make_actions = people_and_actions
    account_id: UUID = await db.fetchval(queries.make_account, ACCOUNT)
    team_id = await _users(api)
    stages = ["Lead", "Contacted"]
    pipeline = await api.post("/pipelines", {"name": "New business", "stages": stages})
    lead, contacted = (stage["id"] for stage in pipeline["stages"])
    await api.post("/custom-fields", {"key": "company", "label": "Company"})
    touches = {"key": "touches", "label": "Touches", "field_type": "number"}
    await api.post("/custom-fields", touches)
    senders = await _senders(api, outside)
    ids, people, companies = await _contacts(api, contacts, make_person)
    await db.execute(queries.make_opportunities, account_id, UUID(pipeline["id"]), UUID(lead))
    setting = await _setting(api, senders)
    await outside.know(people, setting, answers_at_once=answers_at_once)
    await _speak_of_themselves(api, senders["facebook"], ids, people)

    newcomers = await _workflow(
        api,
        "Newcomers",
        [
            Action("add_tag", {"tag_name": "Newcomer", "tag_color": "#2a9d8f"}),
            Action("wait_time", {"duration": 30, "unit": "days"}),
        ],
    )
    campaign = {"name": "Newcomers", "status": "active", "workflow_id": newcomers}
    parts = Parts(
        team_id=team_id,
        campaign_id=(await api.post("/campaigns", campaign))["id"],
        pipeline_id=pipeline["id"],
        stage_id=contacted,
        template_id=(await api.post("/templates", {"name": "Offer", "html": MAIL_HTML}))["id"],
        page_id=senders["facebook"],
        audio_file_id=await api.upload("greeting.wav", _silence(), "audio/wav"),
        course_id=await _course(api),
        orders_url=outside.orders_url,
    )
    actions = make_actions(parts)
    return Account(
        ids,
        people,
        companies,
        # Those of both workflows: the campaign's has two.
        len(actions) + 2,
        parts.audio_file_id,
        UUID(await _workflow(api, "Welcome", actions)),
        UUID(newcomers),
    )


async def _users(api: Api) -> str:
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


async def _senders(api: Api, outside: Outsiders) -> dict[str, str]:
    """Make the integrations, which lead to the outside parties of the demo; their ids by kind."""
    address = "Acme Ltd, 1 Main Street, Springfield"
    await api.patch("/account", {"postal_address": address})
    smtp = {"host": "127.0.0.1", "port": outside.smtp_port, "security": "none", "connections": 8}
    twilio = {"account_sid": ACCOUNT_SID, "base_url": outside.twilio}
    secrets = {
        "page_access_token": TOKEN,
        "app_secret": APP_SECRET,
        "verify_token": VERIFY_TOKEN,
    }
    wanted: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
        ("smtp", MAIL_FROM, smtp, {}),
        ("twilio", SMS_FROM, twilio, {"auth_token": AUTH_TOKEN}),
        ("facebook", PAGE, {"base_url": outside.graph}, secrets),
    ]
    ids = {}
    for kind, sends_from, settings, sealed in wanted:
        integration = {
            "kind": kind,
            "name": kind.capitalize(),
            "addresses": [sends_from],
            "settings": settings,
            "secrets": sealed,
        }
        ids[kind] = (await api.post("/integrations", integration))["id"]
    return ids


async def _contacts(api: Api, number: int, make: MakePerson) -> tuple[list[str], list[Person], int]:
    """Make the contacts; gives their ids, who they are, and of how many companies."""
    rows, people = map(list, zip(*sample_contacts(number, make), strict=True))
    ids: list[str] = []
    for start in range(0, len(rows), MOST_AT_ONCE):
        part = rows[start : start + MOST_AT_ONCE]
        answer = await api.post("/contacts/bulk", {"contacts": part})
        ids += [outcome["contact_id"] for outcome in answer["outcomes"]]
    return ids, people, len({row["custom_fields"]["company"] for row in rows})


async def _setting(api: Api, senders: dict[str, str]) -> Setting:
    """Where the outside parties reach Callboard, and what they need for it."""
    made = await api.post("/webhook-secrets/rotate")
    hooks = f"{api.address}/hooks"
    return Setting(
        returns_url=f"{api.address}/api/v1/mail-returns",
        token=api.token,
        texts_webhook=f"{hooks}/twilio/{senders['twilio']}/texts",
        messenger_webhook=f"{hooks}/messenger/{senders['facebook']}",
        webhook_secret=made["items"][0]["secret"],
        sms_number=SMS_FROM,
    )


async def _speak_of_themselves(
    api: Api, page_id: str, ids: Sequence[str], people: Sequence[Person]
) -> None:
    """Most consent to texts, and most are known on Messenger."""
    consent = {"channel": "sms", "is_given": True, "source": "sign-up form"}

    async def say(contact: tuple[str, Person]) -> None:
        id_, person = contact
        if person.has_consented:
            await api.post(f"/contacts/{id_}/consents", consent)
        if person.writes:
            known = {"page_id": page_id, "psid": person.psid}
            await api.put(f"/contacts/{id_}/messenger", known)

    await _each(say, list(zip(ids, people, strict=True)))


async def _course(api: Api) -> str:
    """Make a course of three lessons, the last of which opens later; gives its id."""
    course_id: str = (await api.post("/courses", {"name": "First steps"}))["id"]
    for position, days in enumerate((0, 0, 7)):
        lesson = {"name": f"Lesson {position + 1}", "position": position, "drip_after_days": days}
        await api.post("/lessons", {"course_id": course_id, **lesson})
    return course_id


def _silence() -> bytes:
    """A second of silence, as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(2 * 8000))
    return file.getvalue()


async def _workflow(api: Api, name: str, actions: Sequence[Action]) -> str:
    workflow_id: str = (await api.post("/workflows", {"name": name}))["id"]
    made: dict[str, str] = {}
    for action in actions:
        config = action.config(made) if callable(action.config) else action.config
        wanted = {
            "action_type": action.action_type,
            "action_config": config,
            "on_failure": "continue" if action.goes_on else "fail",
        }
        answer = await api.post(f"/workflows/{workflow_id}/actions", wanted)
        made[action.action_type] = answer["id"]
    await api.post(f"/workflows/{workflow_id}/activate")
    return workflow_id


async def _each(act: Callable[[One], Awaitable[None]], what: Iterable[One]) -> None:
    places = asyncio.Semaphore(CALLS_AT_ONCE)

    async def in_turn(one: One) -> None:
        async with places:
            await act(one)

    await asyncio.gather(*(in_turn(one) for one in what))
