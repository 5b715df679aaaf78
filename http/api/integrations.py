"""Integrations: the SMTP servers, Twilio accounts and Facebook pages that an account sends by."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
from aiohttp import web

from actors.integration_kinds import KINDS
from actors.integration_probes import probe
from actors.integrations import opened
from actors.integrations import queries as stored
from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.etags import check_match, tagged
from api.fields import Object
from api.integration_bodies import (
    LIMITS,
    IntegrationChange,
    KindName,
    NewIntegration,
    addresses_of,
    check,
    faults_of_secrets,
    sealed,
    settings_of,
)
from api.parameters import Parameters
from api.problems import conflict, not_found
from api.shown import Listing, Shown
from api.uses import Force, ShownDeletion, ShownUse, find_senders, in_use
from runtime.clock import current_instant
from runtime.database import Connection
from runtime.ids import new_id
from runtime.secrets import VaultError
from sql import load

queries = load("api_integrations")

ENTITY: Final = "integration"


class ShownIntegration(Shown):
    """An integration. `secrets` says which are set; what they are is never shown."""

    id: UUID
    kind: KindName
    name: str
    addresses: list[str]
    settings: Object
    secrets: dict[str, bool]
    rate_per_second: float | None
    burst: int
    max_concurrent: int | None
    breaker_failures: int
    breaker_window_seconds: int
    breaker_open_seconds: int
    is_disabled: bool
    breaker: Literal["closed", "open", "half_open"]
    breaker_open_until: datetime | None
    created_at: datetime
    updated_at: datetime


class ShownProbe(Shown):
    """What came of trying an integration out; `code` is ok, or says what failed."""

    is_ok: bool
    code: str
    message: str


class OfKind(Parameters):
    """Which integrations to list."""

    kind: KindName | None = None


async def create(call: Call) -> web.Response:
    """Make an integration. Its secrets are sealed at once and never shown again."""
    new = await call.body(NewIntegration)
    settings, wrong = settings_of(new.kind, new.settings)
    addresses, unusable = addresses_of(new.kind, new.addresses)
    check(wrong, unusable, faults_of_secrets(new.kind, new.secrets, is_new=True))
    id_ = new_id()
    secrets = sealed(call.services.house.vault, call.account_id, id_, new.secrets)
    limits = [getattr(new, name) for name in LIMITS]
    async with call.transaction() as db:
        now = await current_instant(db)
        row = id_, call.account_id, new.kind, new.name, settings, secrets, *limits, now
        await db.execute(queries.add_integration, *row)
        await _own(call, db, new.kind, id_, addresses)
        shown = await _shown(call, db, id_)
        await call.record(db, "integration_created", (ENTITY, id_), None, shown)
    return answer(shown, 201, {"Location": f"{_ALL}/{id_}"})


async def list_all(call: Call) -> web.Response:
    """List the integrations, oldest first."""
    kind = call.parameters(OfKind).kind
    rows = await call.pool.fetch(queries.integrations, call.account_id, kind, None)
    return answer({"items": [_show(row) for row in rows]})


async def read(call: Call) -> web.Response:
    """Read one integration."""
    shown = await _shown(call, call.pool, call.id("integration_id"))
    return answer(shown, headers=tagged(shown))


async def change(call: Call) -> web.Response:
    """Change an integration; what the old limits held back goes at once as the new ones allow."""
    given = await call.body(IntegrationChange)
    async with call.transaction() as db:
        id_, kind = await _locked(call, db)
        before = await _shown(call, db, id_)
        check_match(call.request, before)
        await _change(call, db, id_, kind, given)
        families = await _let_go(db, id_) if given.model_fields_set & set(LIMITS) else []
        shown = await _shown(call, db, id_)
        await call.record(db, "integration_changed", (ENTITY, id_), before, shown)
    await call.ring(families)
    return answer(shown)


async def _change(
    call: Call, db: Connection, id_: UUID, kind: str, given: IntegrationChange
) -> None:
    settings, wrong = (None, []) if given.settings is None else settings_of(kind, given.settings)
    addresses, unusable = addresses_of(kind, given.addresses or [])
    check(wrong, unusable, faults_of_secrets(kind, given.secrets, is_new=False))
    await db.execute(
        queries.change_integration,
        call.account_id,
        id_,
        given.name,
        settings,
        sealed(call.services.house.vault, call.account_id, id_, given.secrets),
        [name for name, secret in given.secrets.items() if secret is None],
        *(getattr(given, name) for name in LIMITS),
        [n for n in LIMITS if n in given.model_fields_set and getattr(given, n) is None],
        await current_instant(db),
    )
    if given.addresses is not None:
        await db.execute(queries.drop_addresses, call.account_id, id_)
        await _own(call, db, kind, id_, addresses)


async def _own(call: Call, db: Connection, kind: str, id_: UUID, addresses: list[str]) -> None:
    free = await db.fetch(queries.add_addresses, call.account_id, kind, id_, addresses)
    taken = sorted(set(addresses) - {row["address"] for row in free})
    if taken:
        message = f"Another integration sends from {', '.join(taken[:5])}."
        raise conflict("address_taken", message)


async def _let_go(db: Connection, id_: UUID) -> list[str]:
    await db.execute(queries.refill, id_, await current_instant(db))
    return [row["family"] for row in await db.fetch(queries.free_lanes, id_)]


async def test(call: Call) -> web.Response:
    """Connect and authenticate as a message would, without sending one; says what failed.

    Takes 15 s at most. An account in test mode asks only hosts on loopback.
    """
    id_ = call.id("integration_id")
    await _shown(call, call.pool, id_)
    row = await call.pool.fetchrow(stored.integration, id_)
    assert row is not None
    try:
        found = await probe(opened(row, call.services.house))
    except VaultError as error:
        return answer({"is_ok": False, "code": error.code, "message": str(error)})
    return answer({"is_ok": found.is_ok, "code": found.code, "message": found.message})


async def disable(call: Call) -> web.Response:
    """Let nothing go out by the integration: what would, is suppressed, saying so."""
    return await _set_disabled(call, to=True)


async def enable(call: Call) -> web.Response:
    """Let messages go out by the integration again."""
    return await _set_disabled(call, to=False)


async def _set_disabled(call: Call, *, to: bool) -> web.Response:
    async with call.transaction() as db:
        id_, _ = await _locked(call, db)
        before = await _shown(call, db, id_)
        check_match(call.request, before)
        now = await current_instant(db)
        await db.execute(queries.set_disabled, call.account_id, id_, to, now)
        shown = await _shown(call, db, id_)
        word = "integration_disabled" if to else "integration_enabled"
        await call.record(db, word, (ENTITY, id_), before, shown)
    return answer(shown)


async def remove(call: Call) -> web.Response:
    """Remove an integration with its secrets; 409 in_use while actions send by it.

    With `force` it goes all the same, and the answer says which actions have no sender now.
    """
    force = call.parameters(Force).force
    async with call.transaction() as db:
        id_, _ = await _locked(call, db)
        before = await _shown(call, db, id_)
        check_match(call.request, before)
        uses = await find_senders(db, call.account_id, id_, before["addresses"])
        if uses and not force:
            raise in_use(ENTITY, uses)
        now = await current_instant(db)
        await db.execute(queries.drop_addresses, call.account_id, id_)
        await db.execute(queries.remove_integration, call.account_id, id_, now)
        await call.record(db, "integration_removed", (ENTITY, id_), before, None)
    return answer({"references": uses}) if uses else web.Response(status=204)


async def list_references(call: Call) -> web.Response:
    """List the actions that send by it, in drafts and in versions that are in force."""
    shown = await _shown(call, call.pool, call.id("integration_id"))
    uses = await find_senders(call.pool, call.account_id, shown["id"], shown["addresses"])
    return answer({"items": uses})


async def _locked(call: Call, db: Connection) -> tuple[UUID, str]:
    id_ = call.id("integration_id")
    kind = await db.fetchval(queries.lock_integration, call.account_id, id_)
    if kind is None:
        raise not_found(ENTITY)
    return id_, kind


async def _shown(call: Call, db: Connection | asyncpg.Pool, id_: UUID) -> dict[str, Any]:
    row = await db.fetchrow(queries.integrations, call.account_id, None, id_)
    if row is None:
        raise not_found(ENTITY)
    return _show(row)


def _show(row: asyncpg.Record) -> dict[str, Any]:
    shown = dict(row)
    is_set = set(shown.pop("secrets_set"))
    return {**shown, "secrets": {name: name in is_set for name in KINDS[row["kind"]].secrets}}


_ALL: Final = "/api/v1/integrations"
_ONE: Final = f"{_ALL}/{{integration_id}}"
_MAY: Final = Permission.MANAGE_INTEGRATIONS
_SHOWN: Final = {200: ShownIntegration}

ROUTES: Final = (
    Route(
        "POST", _ALL, create, _MAY, NewIntegration,
        answers={201: ShownIntegration}, problems=frozenset({409}),
    ),
    Route("GET", _ALL, list_all, Permission.READ, parameters=OfKind,
          answers={200: Listing[ShownIntegration]}),
    Route("GET", _ONE, read, Permission.READ, answers=_SHOWN),
    Route("PATCH", _ONE, change, _MAY, IntegrationChange, answers=_SHOWN,
          problems=frozenset({409})),
    Route("POST", f"{_ONE}/test", test, _MAY, answers={200: ShownProbe}),
    Route("POST", f"{_ONE}/disable", disable, _MAY, answers=_SHOWN),
    Route("POST", f"{_ONE}/enable", enable, _MAY, answers=_SHOWN),
    Route("DELETE", _ONE, remove, _MAY, parameters=Force,
          answers={200: ShownDeletion, 204: None}, problems=frozenset({409})),
    Route("GET", f"{_ONE}/references", list_references, Permission.READ,
          answers={200: Listing[ShownUse]}),
)  # fmt: skip
