"""Problems: everything that the API refuses, as application/problem+json (RFC 9457).

Raise one anywhere below a handler; the middleware answers it. `code` is stable and documented, and
`type` leads to what it means. Title, explanation and remedy are in the language that was asked for;
`detail` and the messages, which speak of the very case, are in English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import ConfigDict, Field

from api.answers import encode
from api.error_catalogue import TYPE, Entry, Language, Said, entry_of, said
from api.shown import Shown
from runtime.configuration import Fault, summary

MEDIA_TYPE = "application/problem+json"

# A test holds the catalogue to the codes of the source. Should one be missed, its request is
# answered all the same.
_UNNAMED = Entry((), ("request",), "Refused", "The request was refused.", "Read the detail.")


class ShownFault(Shown):
    """One thing that is wrong, and where; `title` says what its code means."""

    path: str
    code: str
    message: str
    title: str


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
    explanation: str
    remedy: str
    request_id: str
    errors: list[ShownFault] = Field(default_factory=list)


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

    def answer(self, request_id: str, language: Language = "en") -> web.Response:
        """Write the problem as a response, in a language."""
        words = _said(self.code, language)
        body: dict[str, Any] = {
            "type": f"{TYPE}{self.code}",
            "title": words.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "explanation": words.explanation,
            "remedy": words.remedy,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [
                {
                    "path": fault.path,
                    "code": fault.code,
                    "message": fault.message,
                    "title": _said(fault.code, language).title,
                }
                for fault in self.errors
            ]
        spoken = {"Content-Language": language, "Vary": "Accept-Language"}
        return web.Response(
            body=encode(body),
            status=self.status,
            content_type=MEDIA_TYPE,
            headers={**spoken, **self.headers},
        )


def _said(code: str, language: Language) -> Said:
    return said(entry_of(code) or _UNNAMED, language)


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
