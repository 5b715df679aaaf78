"""messenger.message: the effect that sends a person a message from a page, by the Send API.

The API knows no idempotency key: an unknown outcome stays one, unless an echo of the message, which
carries the effect's id as its metadata, or the action itself says otherwise. That the person wrote
within 24 hours, or that a tag permits it, is looked at here, just before the wire.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import asyncpg
import orjson

from actors.integration_kinds import Facebook
from actors.integrations import Integration, Integrations
from actors.message_permission import PERMISSION, Purpose, check_messages, terms
from actors.messenger_failures import OUTSIDE_WINDOW, refusal, unknown
from actors.sms_message import REMOVED
from actors.test_mode import is_loopback, recorded
from runtime.database import Connection
from runtime.effect import Effect, Go, Result, Sent, Suppress, Verdict
from runtime.failures import Failure, Kind
from runtime.house import House
from runtime.outcomes import EffectRequest
from runtime.registry import EffectType
from sql import load

queries = load("messenger")

CHANNEL: Final = "messenger"
UNLINKED: Final = "person_unlinked"

WINDOW: Final = timedelta(hours=24)
AGENT_WINDOW: Final = timedelta(days=7)
"""Of the tag HUMAN_AGENT; the other tags know no end (Messenger Platform policy)."""

CONNECT_SECONDS: Final = 5.0
LARGEST_ANSWER: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Person:
    """Who is written to: the page's integration, and the numbers of page and person."""

    integration_id: UUID
    page: str
    psid: str

    @property
    def address(self) -> str:
        """How the channel's opt-outs call the person."""
        return address_of(self.page, self.psid)


def address_of(page: str, psid: str) -> str:
    """Give the address of a person, as the column of messenger_people has it."""
    return f"{page}:{psid}"


def request(
    person: Person,
    message: Mapping[str, Any],
    *,
    purpose: Purpose,
    messaging_type: Literal["RESPONSE", "UPDATE", "MESSAGE_TAG"] = "UPDATE",
    tag: str | None = None,
    on_unknown: Literal["repeat", "fail"] | None = None,
) -> EffectRequest:
    """Build the effect; `message` is the Send API's message object without metadata."""
    return EffectRequest(
        kind=KIND,
        request={
            "page": person.page,
            "psid": person.psid,
            "messaging_type": messaging_type,
            "tag": tag,
            "message": dict(message),
            PERMISSION: terms(purpose),
        },
        integration_id=person.integration_id,
        channel=CHANNEL,
        address=person.address,
        on_unknown=on_unknown,
    )


async def check(db: Connection, effects: Sequence[Effect], now: datetime) -> Sequence[Verdict]:
    """Decide as on messages of all channels, and by the window of each person; two statements.

    What is suppressed here fails its step (see send_messenger), so that a fallback is tried.
    """
    verdicts = await check_messages(db, effects, now)
    rows = await db.fetch(
        queries.standings, [e.account_id for e in effects], [e.address for e in effects]
    )
    return [
        _in_window(effect, verdict, row, now) if isinstance(verdict, Go) else verdict
        for effect, verdict, row in zip(effects, verdicts, rows, strict=True)
    ]


def _in_window(effect: Effect, verdict: Go, row: asyncpg.Record, now: datetime) -> Verdict:
    tag, last = effect.request.get("tag"), row["last_inbound_at"]
    is_linked = row["contact_id"] is not None and row["contact_id"] == effect.contact_id
    until = None if last is None else last + (AGENT_WINDOW if tag == "HUMAN_AGENT" else WINDOW)
    has_tag = tag is not None and tag != "HUMAN_AGENT"
    passed = is_linked and (has_tag or (until is not None and now < until))
    found: dict[str, Any] = {
        "check": "messaging_window",
        "passed": passed,
        "last_inbound_at": _text(last),
        "until": _text(until),
        "tag": tag,
    }
    decision = dict(verdict.decision or {})
    if passed:
        return Go({**decision, "checks": [*decision.get("checks", ()), found]})
    code = OUTSIDE_WINDOW if is_linked else UNLINKED
    checks = [*decision.get("checks", ()), {**found, "code": code}]
    return Suppress(code, {**decision, "verdict": "suppressed", "reason": code, "checks": checks})


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.astimezone(UTC).isoformat()


@dataclass(slots=True)
class Pages:
    """What all sends of one pool share."""

    integrations: Integrations
    session: aiohttp.ClientSession


@asynccontextmanager
async def pages(house: House) -> AsyncIterator[Pages]:
    """Open connections that are kept, as many as are needed at once."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
    # Nothing that one account is given may reach another.
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
        yield Pages(Integrations(house), session)


async def send(effect: Effect, tools: Pages) -> Result:
    """Give the message to Facebook, or record it where the account is in test mode."""
    assert effect.integration_id is not None, "a message goes out by a page"
    integration = await tools.integrations.get(effect.integration_id)
    if integration is None:
        return REMOVED
    settings = Facebook.model_validate(dict(integration.settings))
    host = urlsplit(settings.base_url).hostname or ""
    if integration.is_test and not await is_loopback(host):
        return recorded(to=effect.address, messaging_type=effect.request["messaging_type"])
    return await _attempt(effect, tools.session, integration, settings)


async def _attempt(
    effect: Effect, session: aiohttp.ClientSession, integration: Integration, settings: Facebook
) -> Result:
    seconds = settings.timeout_seconds
    limits = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds))
    url = f"{settings.base_url}/{settings.api_version}/{effect.request['page']}/messages"
    token = integration.secrets["page_access_token"]
    try:
        async with session.post(
            url,
            params={"appsecret_proof": _proof(token, integration.secrets["app_secret"])},
            json=_body(effect),
            headers={"Authorization": f"Bearer {token}"},
            timeout=limits,
            allow_redirects=False,
        ) as reply:
            said = await _said(reply)
            status, headers = reply.status, reply.headers
    except aiohttp.ConnectionTimeoutError:
        return Failure(Kind.NETWORK_TIMEOUT, "timeout", "no connection to Facebook in time")
    except aiohttp.ClientConnectorError:
        return Failure(Kind.SERVICE_UNAVAILABLE, "provider_unreachable", "Facebook is unreachable")
    except (TimeoutError, aiohttp.ClientError) as error:
        return unknown(effect, type(error).__name__)
    mid = said.get("message_id") if isinstance(said, dict) else None
    if status == 200 and isinstance(mid, str) and mid:
        return Sent({"sid": mid, "status": "sent"})
    return refusal(effect, status, said, headers)


async def _said(reply: aiohttp.ClientResponse) -> Any:
    raw = await reply.content.read(LARGEST_ANSWER)
    while not reply.content.at_eof() and len(raw) < LARGEST_ANSWER:
        raw += await reply.content.read(LARGEST_ANSWER - len(raw))
    try:
        return orjson.loads(raw)
    except ValueError:
        return None


def _body(effect: Effect) -> dict[str, Any]:
    asked = effect.request
    body = {
        "recipient": {"id": asked["psid"]},
        "messaging_type": asked["messaging_type"],
        "message": {**asked["message"], "metadata": str(effect.id)},
    }
    return body if asked["tag"] is None else {**body, "tag": asked["tag"]}


def _proof(token: str, app_secret: str) -> str:
    """Prove that the call is of the app that the token was given to (Graph API, securing calls)."""
    return hmac.digest(app_secret.encode(), token.encode(), hashlib.sha256).hex()


KIND: Final = "messenger.message"

EFFECT = EffectType(
    kind=KIND,
    family="messenger",
    send=send,
    on_unknown="fail",
    open=pages,
    # Beyond the client's own limit, which knows what was on the wire.
    timeout_seconds=130.0,
    check=check,
)
