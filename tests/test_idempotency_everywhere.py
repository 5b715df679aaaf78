"""Under an Idempotency-Key no POST route does twice what it does: every one of them is walked over.

A new route that is not in the table below, or whose row does not succeed, fails here. Routes whose
answer holds a secret say so (`keeps_answer=False`) and are told apart: their repetition changes
nothing either and is answered with 409. Routes for providers and for people who got a message
(`PublicRoute`) read no key: they find what they were sent by its own id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from api import idempotency
from api.calls import Route
from api.idempotency import HEADER, Attempt
from api.server import ROUTES
from runtime.settings import Settings
from tests.api_desk import Answer, Caller, open_desk
from tests.test_api_access import INTEGRATION, filled, owned

V1 = "/api/v1"
OF_WORKFLOW = f"{V1}/workflows/{{workflow_id}}"
OF_EXECUTION = f"{V1}/executions/{{execution_id}}"
OF_PIPELINE = f"{V1}/pipelines/{{pipeline_id}}/stages"

OWN = {"contact_id": "contact_id"}
EVENT = {"event_type": "form_submit", **OWN}

ROWS: dict[str, dict[str, Any] | tuple[str, bytes] | None] = {
    f"{V1}/workflows": {"name": "W"},
    f"{OF_WORKFLOW}/branches": {"name": "other"},
    f"{OF_WORKFLOW}/actions": {"action_type": "add_tag", "action_config": {"tag_name": "a"}},
    f"{OF_WORKFLOW}/actions/reorder": {"action_ids": ["*"]},
    f"{OF_WORKFLOW}/activate": None,
    f"{OF_WORKFLOW}/enroll": {"contact_ids": ["contact_id"]},
    f"{OF_WORKFLOW}/enroll-by-tag": {"tag_id": "tag_id"},
    f"{OF_EXECUTION}/pause": None,
    f"{OF_EXECUTION}/resume": None,
    f"{OF_EXECUTION}/retry": None,
    f"{OF_EXECUTION}/cancel": None,
    f"{V1}/executions/bulk": {"action": "cancel", "filter": {"workflow_id": "workflow_id"}},
    f"{V1}/events": EVENT,
    f"{V1}/events/bulk": {"events": [EVENT]},
    f"{V1}/contacts": {"first_name": "Bo"},
    f"{V1}/contacts/bulk": {"contacts": [{"first_name": "Cy"}]},
    f"{V1}/tags": {"name": "new"},
    f"{V1}/custom-fields": {"key": "plan"},
    f"{V1}/campaigns": {"name": "Autumn", "workflow_id": "workflow_id"},
    f"{V1}/courses": {"name": "Brazing"},
    f"{V1}/lessons": {"name": "Arcs", "course_id": "course_id"},
    f"{V1}/contacts/{{contact_id}}/lessons/{{lesson_id}}/complete": None,
    f"{V1}/pipelines": {"name": "Support", "stages": ["New"]},
    OF_PIPELINE: {"name": "Won"},
    f"{OF_PIPELINE}/reorder": {"stage_ids": ["*"]},
    f"{V1}/opportunities": {"name": "Deal", "pipeline_id": "pipeline_id", **OWN},
    f"{V1}/tasks": {"title": "Call", **OWN},
    f"{V1}/tasks/{{task_id}}/complete": None,
    f"{V1}/tasks/{{task_id}}/reopen": None,
    f"{V1}/tasks/{{task_id}}/cancel": None,
    f"{V1}/notes": {"content": "Hello", **OWN},
    f"{V1}/users": {"email": "lu@example.com"},
    f"{V1}/teams": {"name": "Support"},
    f"{V1}/integrations": {**INTEGRATION, "addresses": ["@other.test"]},
    f"{V1}/integrations/{{integration_id}}/test": None,
    f"{V1}/integrations/{{integration_id}}/disable": None,
    f"{V1}/integrations/{{integration_id}}/enable": None,
    f"{V1}/contacts/{{contact_id}}/consents": {
        "channel": "sms",
        "is_given": True,
        "source": "form",
    },
    f"{V1}/contacts/{{contact_id}}/opt-outs/{{channel}}/lift": {"source": "by phone"},
    f"{V1}/operations/{{operation_id}}/cancel": None,
    f"{V1}/code/test": {"code": "return 1", **OWN},
    f"{V1}/webhook-secrets/rotate": None,
    f"{V1}/files": ("text/plain", b"A file."),
    f"{V1}/files/{{file_id}}/links": {},
    f"{V1}/templates": {"name": "T", "html": "<p>Hi</p>"},
    f"{V1}/templates/{{template_id}}/preview": OWN,
    f"{V1}/contacts/import": ("text/csv", b"email\nbo@example.com\n"),
    f"{V1}/contacts/export": {},
    f"{V1}/tokens": {"name": "mine"},
    f"{V1}/mail-returns": ("message/rfc822", b"From: a@example.com\r\n\r\nHello\r\n"),
    f"{V1}/notifications/{{notification_id}}/read": None,
    f"{V1}/notifications/read": {},
    f"{OF_WORKFLOW}/pause": None,
    f"{OF_WORKFLOW}/archive": None,
    f"{V1}/contacts/{{contact_id}}/erase": None,
}
"""What each route is sent, in an order in which all of them succeed; "*" is what there is."""

QUERIES = {f"{V1}/files": "?name=b.txt"}
PREPARED = {
    f"{V1}/contacts/{{contact_id}}/opt-outs/{{channel}}/lift": "insert into channel_addresses"
    " (account_id, channel, address, opted_out_at, reason)"
    " select e.account_id, 'email', c.email_normalized, current_instant(), 'by_request'"
    " from workflow_executions e join contacts c on c.id = e.contact_id where e.id = $1"
    " on conflict (account_id, channel, address) do update"
    " set opted_out_at = excluded.opted_out_at, reason = excluded.reason",
    f"{OF_EXECUTION}/retry": "with failed as (update workflow_action_executions"
    " set status = 'failed', error_code = 'refused', completed_at = current_instant()"
    " where workflow_execution_id = $1 returning 1)"
    " update workflow_executions set status = 'failed', end_reason = 'refused',"
    " completed_at = current_instant() where id = $1",
    f"{V1}/contacts/{{contact_id}}/lessons/{{lesson_id}}/complete": "with granted as (insert into"
    " course_grants (id, account_id, course_id, contact_id, access_level, drip, granted_at)"
    " select gen_random_uuid(), c.account_id, c.id, e.contact_id, 'full', true,"
    " current_instant() from workflow_executions e, courses c where e.id = $1"
    " returning account_id, course_id, contact_id)"
    " insert into lesson_progress (account_id, course_id, lesson_id, contact_id, opened_at)"
    " select g.account_id, g.course_id, l.id, g.contact_id, current_instant()"
    " from granted g join lessons l on l.course_id = g.course_id",
}
"""What must have happened to an execution or its contact before."""

SECRET = {f"{V1}/tokens", f"{V1}/webhook-secrets/rotate", f"{V1}/files/{{file_id}}/links"}


def posting() -> dict[str, Route]:
    return {route.path: route for route in ROUTES if route.method == "POST"}


def test_the_table_knows_every_route_and_which_of_them_answer_with_a_secret() -> None:
    assert ROWS.keys() == posting().keys(), f"add a row to ROWS in {__file__}"
    secret = {path for path, route in posting().items() if not route.keeps_answer}
    assert secret == SECRET


class Kept:
    """The attempts that were carried out, as the API keeps them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.attempts: list[Attempt] = []
        keep = idempotency._keep

        async def seen(
            pool: asyncpg.Pool, attempt: Attempt, response: web.StreamResponse | None
        ) -> None:
            self.attempts.append(attempt)
            await keep(pool, attempt, response)

        patch.setattr(idempotency, "_keep", seen)


async def digest(pool: asyncpg.Pool) -> str:
    """Of all that stands in the database, but the keys themselves and the uses of tokens."""
    tables = await pool.fetch(
        "select c.oid::regclass::text as name from pg_class c"
        " where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'"
        " and c.relname <> 'idempotency_keys'"
    )
    sums = (
        f"select '{table['name']}' as name,"
        " sum(hashtextextended((to_jsonb(t) - 'last_used_at')::text, 0)) as rows"
        f" from {table['name']} t"
        for table in tables
    )
    query = "select array_agg((name, rows)::text order by name)::text from ({}) sums"
    query = query.format(" union all ".join(sums))
    return str(await pool.fetchval(query))


async def test_no_route_does_twice_what_it_does_under_one_key(
    pool: asyncpg.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(monkeypatch)
    async with open_desk(pool, settings) as desk:
        caller = await desk.caller()
        ids = await owned(caller, pool)
        for path, row in ROWS.items():
            if path in PREPARED:
                await pool.execute(PREPARED[path], ids["execution_id"])
            post = Post(caller, posting()[path], ids, await _body(caller, row, ids, path))
            await _is_done_once(post, pool, kept)


async def _body(caller: Caller, row: Any, ids: Mapping[str, str], path: str) -> Any:
    there: list[str] = []
    if path.endswith("/reorder"):
        chain = filled(posting()[path], dict(ids)).removesuffix("/reorder")
        of = chain.removesuffix("/stages")
        listed = await caller.get(of)
        there = [one["id"] for one in listed["stages" if of != chain else "items"]]
    return _named(row, {**ids, "*": there}) if isinstance(row, dict) else row


def _named(value: Any, known: Mapping[str, Any]) -> Any:
    """What a row says, with ids for their names."""
    if isinstance(value, dict):
        return {name: _named(one, known) for name, one in value.items()}
    if isinstance(value, list):
        return known["*"] if value == ["*"] else [_named(one, known) for one in value]
    return known.get(value, value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Post:
    """A request that can be sent as often as wanted, under one key."""

    caller: Caller
    route: Route
    ids: dict[str, str]
    body: Any

    async def send(self) -> Answer:
        return await self._send(self.body)

    async def send_other(self) -> Answer:
        """The same request with another body."""
        is_upload = isinstance(self.body, tuple)
        return await self._send((self.body[0], self.body[1] + b"!") if is_upload else {"other": 1})

    async def _send(self, body: Any) -> Answer:
        path, headers = filled(self.route, self.ids), {HEADER: self.route.path}
        if not isinstance(body, tuple):
            return await self.caller.call("POST", path, body, headers=headers)
        headers["Content-Type"], raw = body
        path += QUERIES.get(self.route.path, "")
        return await self.caller.call("POST", path, data=raw, headers=headers)


async def _is_done_once(post: Post, pool: asyncpg.Pool, kept: Kept) -> None:
    where = post.route.path
    kept.attempts.clear()
    untouched = await digest(pool)
    racing = await asyncio.gather(post.send(), post.send())
    done = [answer for answer in racing if answer.status < 300]
    assert done, (where, racing[0].data)
    (attempt,) = kept.attempts
    after = await digest(pool)
    # Otherwise a death in between would leave the change without its key.
    assert attempt.is_marked or after == untouched, f"{where} changes outside Call.transaction"
    again = await post.send()
    if post.route.keeps_answer:
        assert (again.status, again.data) == (done[0].status, done[0].data), where
        assert again.headers["Idempotency-Replayed"] == "true", where
    else:
        assert (again.status, again.code) == (409, "idempotency_answer_lost"), where
    other = await post.send_other()
    assert (other.status, other.code) == (422, "idempotency_key_reused"), where
    assert await digest(pool) == after, where
    assert len(kept.attempts) == 1, where
