"""Problems: everything that the API refuses, as application/problem+json (RFC 9457).

Raise one anywhere below a handler; the middleware answers it. `code` is stable and documented,
`detail` and the messages are for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import ConfigDict, Field

from api.answers import encode
from api.shown import Shown
from runtime.configuration import Fault, summary

MEDIA_TYPE = "application/problem+json"


class ShownProblem(Shown):
    """A refusal as RFC 9457 has it; `code` is stable, `errors` name every wrong field.

    Members beyond these say more about a single code.
    """

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: list[Fault] = Field(default_factory=list)


class Problem(Exception):  # noqa: N818 (the word of RFC 9457)
    """A refusal: HTTP status, stable code, a sentence, and a fault for every wrong field."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}

    def answer(self, request_id: str) -> web.Response:
        """Write the problem as a response."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = self.errors
        return web.Response(
            body=encode(body), status=self.status, content_type=MEDIA_TYPE, headers=self.headers
        )


def not_found(what: str) -> Problem:
    """Build the answer for what does not exist or is another account's: the same for both."""
    return Problem(404, f"{what}_not_found", f"There is no such {what.replace('_', ' ')}.")


def conflict(code: str, detail: str) -> Problem:
    """Build the answer for a request that is right in itself and does not fit the present state."""
    return Problem(409, code, detail)


def invalid(*errors: Fault) -> Problem:
    """Build the answer for wrong values; one error's code is the problem's own as well."""
    code = errors[0].code if len(errors) == 1 else "validation_failed"
    return Problem(422, code, summary(errors), errors=errors)
