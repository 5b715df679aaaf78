"""Idempotency-Key on POST (draft-ietf-httpapi-idempotency-key-header): nothing happens twice.

The key is taken in a short transaction of its own before the handler, for this account, credential
and path. The handler's first transaction marks it as committed together with the change, so that
the two are there or gone together; the answer is kept afterwards, for `idempotency_hours`. Hence:

- A repeated request is answered with the kept answer and `Idempotency-Replayed: true`.
- While the first is under way: 409 `idempotency_key_in_use`.
- With another body or query: 422 `idempotency_key_reused`.
- Refusals (4xx) and failures (5xx) are not kept, the key is free again: they have changed nothing.
- A process that dies before its commit leaves the key retryable after ATTEMPT_SECONDS; should it
  be alive after all, its commit is refused, since the key is another attempt's.
- One that dies after its commit and before the answer is kept: 409 `idempotency_answer_lost`. The
  change stands, once; what it was answered has to be looked up.

Answers that hold a secret (a new token) are never kept; repeating such a request gets that 409 too.
Of an upload the query, the media type, the length and, if it is given, the Content-Digest
(RFC 9530) are compared, since it is not read before it is stored; it must say its length.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
from aiohttp import web

from api.access import Caller
from api.problems import Problem, conflict
from runtime import log
from runtime.database import Connection
from runtime.ids import new_id
from sql import load

queries = load("idempotency")
logger = log.get(__name__)

ATTEMPT_SECONDS: Final = 60.0
LONGEST_KEY: Final = 255
LARGEST_ANSWER: Final = 4 << 20
HEADER: Final = "Idempotency-Key"

_KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_KEY}}}")
_KEPT_HEADERS: Final = ("Location", "ETag")

Scope = tuple[UUID, str, str, str]


@dataclass(slots=True)
class Attempt:
    """One try of a request with a key; `is_committed` once its change is."""

    scope: Scope
    id: UUID = field(default_factory=new_id)
    is_marked: bool = False
    is_committed: bool = False

    async def mark(self, db: Connection) -> None:
        """Say in the change's own transaction that it is made; a 409 Problem if it was taken over.

        Only the first transaction of a handler counts.
        """
        if self.is_committed:
            return
        if not await db.fetchval(queries.commit_attempt, *self.scope, self.id):
            raise _in_use()
        self.is_marked = True


def key_of(request: web.Request) -> str | None:
    """The request's key, if it has one; a 400 Problem for one that cannot be used."""
    given = request.headers.getall(HEADER, [])
    if not given:
        return None
    # The draft has it as a quoted string; what most clients send is bare.
    text = given[0][1:-1] if re.fullmatch(r'"[^"\\]*"', given[0]) else given[0]
    if len(given) > 1 or not _KEY.fullmatch(text):
        detail = f"An Idempotency-Key is given once and has 1 to {LONGEST_KEY} visible ASCII signs."
        raise Problem(400, "idempotency_key_unusable", detail)
    return text


def fingerprint(request: web.Request, body: bytes | None) -> bytes:
    """Tell one request under a key from another."""
    seen = hashlib.sha256(request.query_string.encode("utf-8", "surrogateescape"))
    if body is None:
        if request.content_length is None:
            detail = "An upload under an Idempotency-Key needs a Content-Length."
            raise Problem(411, "length_required", detail)
        digest = request.headers.get("Content-Digest", "")
        said = f"{request.content_type} {request.content_length} {digest}"
        body = said.encode("utf-8", "surrogateescape")
    seen.update(b"\n" + body)
    return seen.digest()


async def once(
    pool: asyncpg.Pool,
    caller: Caller,
    request: web.Request,
    request_sha256: bytes,
    perform: Callable[[Attempt], Awaitable[web.StreamResponse]],
    *,
    key: str,
    keeps_answer: bool,
    hours: float,
) -> web.StreamResponse:
    """Answer a request with a key: perform it, or repeat what it was answered."""
    attempt = Attempt((caller.account_id, caller.credential, request.path[:2000], key))
    age = timedelta(hours=hours)
    begun = await pool.fetchval(
        queries.begin_attempt,
        *attempt.scope,
        request_sha256,
        attempt.id,
        timedelta(seconds=ATTEMPT_SECONDS),
        age,
    )
    if not begun:
        return await _earlier(pool, attempt.scope, request_sha256)
    try:
        response = await perform(attempt)
    except BaseException:
        await _let_go(pool, attempt)
        raise
    if response.status >= 400:
        await _let_go(pool, attempt)
    else:
        await _keep(pool, attempt, response if keeps_answer else None)
    return response


async def _earlier(pool: asyncpg.Pool, scope: Scope, request_sha256: bytes) -> web.Response:
    row = await pool.fetchrow(queries.earlier_attempt, *scope)
    if row is None:
        raise _in_use()  # let go of a moment ago
    if row["request_sha256"] != request_sha256:
        detail = "This Idempotency-Key was used for another request."
        raise Problem(422, "idempotency_key_reused", detail)
    if row["status"] is not None:
        headers = {**row["headers"], "Idempotency-Replayed": "true"}
        content_type = headers.pop("Content-Type", None)
        return web.Response(
            body=row["body"], status=row["status"], headers=headers, content_type=content_type
        )
    if row["is_committed"] and row["is_over"]:
        detail = "The request was carried out once; what it was answered is not kept. Look it up."
        raise conflict("idempotency_answer_lost", detail)
    raise _in_use()


def _in_use() -> Problem:
    detail = "A request with this Idempotency-Key is under way, or died a moment ago. Try again."
    return Problem(409, "idempotency_key_in_use", detail, headers={"Retry-After": "1"})


async def _keep(pool: asyncpg.Pool, attempt: Attempt, response: web.StreamResponse | None) -> None:
    body = response.body if isinstance(response, web.Response) else None
    if not isinstance(response, web.Response) or not (body is None or isinstance(body, bytes)):
        await _finish(pool, queries.keep_answer, attempt, None, None, None)
        return
    if len(body or b"") > LARGEST_ANSWER:
        await _finish(pool, queries.keep_answer, attempt, None, None, None)
        return
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    if body:
        headers["Content-Type"] = response.content_type
    await _finish(pool, queries.keep_answer, attempt, response.status, headers, body)


async def _let_go(pool: asyncpg.Pool, attempt: Attempt) -> None:
    await _finish(pool, queries.let_go_of_attempt, attempt)


async def _finish(pool: asyncpg.Pool, query: str, attempt: Attempt, *more: object) -> None:
    try:
        await pool.execute(query, *attempt.scope, attempt.id, *more)
    except Exception:  # the answer is the client's in any case; the key becomes free by itself
        logger.warning("idempotency.not_finished", exc_info=True)
