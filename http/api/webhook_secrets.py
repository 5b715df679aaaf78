"""The secrets that sign an account's webhooks: read them to give them to receivers; rotate them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from aiohttp import web

from actors import webhook_signing
from actors.webhook_signing import SigningSecret
from api.access import Permission
from api.answers import answer
from api.calls import Call, Route
from api.problems import Problem
from api.shown import Listing, Shown
from runtime.secrets import VaultError


class ShownWebhookSecret(Shown):
    """A secret of the Standard Webhooks scheme; one that is being replaced says until when."""

    secret: str
    created_at: datetime
    retires_at: datetime | None


async def list_all(call: Call) -> web.Response:
    """List the secrets that sign now, the current one first.

    There is none before the first signed request, or before one is made by POST …/rotate.
    """
    return answer({"items": [_show(secret) for secret in await _secrets(call)]})


async def rotate(call: Call) -> web.Response:
    """Make a new secret; for a day the one before, if there was any, signs as well."""
    async with call.transaction() as db:
        try:
            await webhook_signing.rotate(call.services.house, db, call.account_id)
        except VaultError as error:
            raise Problem(503, error.code, str(error)) from None
        entity = ("account", call.account_id)
        await call.record(db, "webhook_secret.rotated", entity, None, None)
    return answer({"items": [_show(secret) for secret in await _secrets(call)]}, 201)


async def _secrets(call: Call) -> list[SigningSecret]:
    try:
        return await webhook_signing.known_secrets(call.services.house, call.account_id)
    except VaultError as error:
        raise Problem(503, error.code, str(error)) from None


def _show(secret: SigningSecret) -> dict[str, Any]:
    return {
        "secret": secret.text,
        "created_at": secret.created_at,
        "retires_at": secret.retires_at,
    }


_ALL: Final = "/api/v1/webhook-secrets"

ROUTES: Final = (
    Route(
        "GET",
        _ALL,
        list_all,
        Permission.MANAGE_INTEGRATIONS,
        answers={200: Listing[ShownWebhookSecret]},
    ),
    Route(
        "POST",
        f"{_ALL}/rotate",
        rotate,
        Permission.MANAGE_INTEGRATIONS,
        answers={201: Listing[ShownWebhookSecret]},
        keeps_answer=False,
    ),
)
