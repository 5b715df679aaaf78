"""What stands around every handler: the request's id, and problems instead of bare errors."""

from __future__ import annotations

import re
from typing import Final

import asyncpg
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from api.error_catalogue import language_of
from api.gathering import FullError
from api.problems import Problem
from api.request_keys import LIMITS, REQUEST_ID
from runtime import log
from runtime.database import LOST_CONNECTION
from runtime.ids import new_id

logger = log.get(__name__)

_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

# The server is restarting, out of connections, too slow, or picked us to break a deadlock.
_UNAVAILABLE: Final = (
    *LOST_CONNECTION,
    asyncpg.InterfaceError,  # used after it was lost
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    TimeoutError,
    FullError,
)

_CODES: Final = {404: "route_not_found", 405: "method_not_allowed", 413: "body_too_large"}


@web.middleware
async def identify_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id (the client's, if it sent a sane one): in the answer and in logs."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if _GIVEN_ID.fullmatch(given) else new_id().hex
    request[REQUEST_ID] = request_id
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        try:
            response = await handler(request)
        except Problem as problem:
            language = language_of(request.headers.get("Accept-Language"))
            response = problem.answer(request_id, language)
        logger.debug("api.answered", method=request.method, status=response.status)
    response.headers["X-Request-Id"] = request_id
    response.headers.update(request.get(LIMITS, {}))
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@web.middleware
async def name_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a Problem."""
    try:
        return await handler(request)
    except Problem:
        raise
    except web.HTTPException as error:
        raise _of_aiohttp(error) from None
    except Exception as error:  # noqa: BLE001 (logged there, unless the client is at fault)
        raise _of_ours(error) from None


def _of_ours(error: Exception) -> Problem:
    # Models refuse such values before; what they overlook is still the client's. asyncpg's own
    # class for it (an InterfaceError that is a ValueError) has no public name.
    is_unencodable = isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
    if isinstance(error, asyncpg.DataError) or is_unencodable:
        logger.warning("api.value_refused", exc_info=error)
        return Problem(422, "value_not_storable", "A value cannot be stored.")
    if isinstance(error, _UNAVAILABLE):
        logger.warning("api.unavailable", exc_info=error)
        detail = "The database does not answer right now. Try again."
        return Problem(503, "unavailable", detail, headers={"Retry-After": "1"})
    logger.error("api.failed", exc_info=error)
    return Problem(500, "internal_error", "This is our fault; it has been logged.")


def _of_aiohttp(error: web.HTTPException) -> Problem:
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = _CODES.get(error.status, "refused")
    detail = "There is nothing at this address." if error.status == 404 else f"{error.reason}."
    return Problem(error.status, code, detail, headers=allow)
