"""The answers of the OpenAPI document: what is shown, problems with examples, headers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import orjson

from api.openapi_schemas import SHOWN, Key, Schema, Schemas
from api.problems import MEDIA_TYPE, Problem, ShownProblem
from api.shown import Download
from runtime.configuration import Fault

PROBLEM: Final[Key] = (ShownProblem, SHOWN)

PROBLEMS: Final[dict[int, tuple[str, str]]] = {
    400: ("malformed_json", "The body is not JSON that can be taken: expecting value (line 1)."),
    401: ("token_missing", "This needs an access token."),
    403: ("permission_denied", "The role viewer lacks the permission edit_workflows."),
    404: ("workflow_not_found", "There is no such workflow."),
    406: ("not_acceptable", "There is no such representation."),
    408: ("body_too_slow", "The body did not arrive within 15 s."),
    409: ("workflow_not_editable", "The workflow is active; only a draft can be changed."),
    410: ("link_expired", "This link has expired."),
    411: ("length_required", "An upload under an Idempotency-Key needs a Content-Length."),
    412: ("precondition_failed", "It has changed since; read it again."),
    413: ("body_too_large", "The body is larger than 1048576 bytes."),
    415: ("unsupported_media_type", "The body must be application/json."),
    416: ("range_not_satisfiable", "There is no such range."),
    422: ("unknown_field", "nam: There is no such field. Did you mean 'name'?"),
    428: ("precondition_required", "Say with If-Match what you have seen."),
    429: ("rate_limited", "Too many requests; try again in 3 s."),
    503: ("unavailable", "The database does not answer right now. Try again."),
}  # fmt: skip
"""A code and a detail as an example of each status of refusal."""

_MEANINGS: Final[dict[int, str]] = {
    400: "The body cannot be read",
    401: "There is no token, or one that is unknown, expired or revoked",
    403: "The caller's role or token lacks the permission",
    404: "There is no such thing in this account",
    408: "The body came too slowly",
    409: "It does not fit the present state",
    412: "It has changed since the ETag of If-Match",
    413: "The body is too large",
    415: "The body is of another media type or charset",
    422: "A value is wrong; `errors` name each of them",
    429: "Too many requests",
    503: "The database does not answer right now",
}

_HEADERS: Final[dict[int, dict[str, Schema]]] = {
    401: {"WWW-Authenticate": {"$ref": "#/components/headers/WWW-Authenticate"}},
    429: {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in ("Retry-After", "RateLimit", "RateLimit-Policy")
    },
    503: {"Retry-After": {"$ref": "#/components/headers/Retry-After"}},
}

HEADERS: Final[dict[str, Schema]] = {
    "X-Request-Id": {
        "description": "The request's id, for questions and logs; the client's own if it sent one.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "How to identify oneself (RFC 6750).",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "schema": {"type": "string"},
    },
    "Content-Language": {
        "description": "The language of title, explanation and remedy, by Accept-Language: "
        "en, de or es.",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Where what was made can be read.",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The tag of what is shown, for If-Match; absent where nothing is tagged.",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "true if this is the kept answer of an earlier request with the same key.",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "How many requests are left to the token, and in how many seconds there "
        "are more (draft-ietf-httpapi-ratelimit-headers); absent where there is no limit.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "How many requests a token may make in how many seconds.",
        "schema": {"type": "string"},
    },
}

PARAMETERS: Final[dict[str, Schema]] = {
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": "Change only what has this entity tag still; otherwise 412. `*` is any.",
        "schema": {"type": "string", "pattern": r'^(\*|"[!#-~]*")$'},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The request is carried out once under a key: repeated within 24 hours it "
        "is answered as the first time. 1 to 255 visible ASCII characters.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
}

_LIMITS: Final = ("RateLimit", "RateLimit-Policy")


def headers_of(method: str, status: int) -> Schema:
    """Name the headers that an operation's success may have beside its request's id."""
    names = [*_LIMITS]
    if status in {200, 201}:
        names.append("ETag")
    if method == "POST":
        names.append("Idempotency-Replayed")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


_LANGUAGE: Final = {"Content-Language": {"$ref": "#/components/headers/Content-Language"}}
_SOME_REQUEST: Final = "0198c0de5eed7000a000000000000000"
_REQUEST_ID: Final = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}


def name_of(status: int) -> str:
    """Name the component that describes a refusal."""
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.split())


def problem(status: int, schemas: Schemas) -> Schema:
    """Describe a refusal, with an example."""
    code, detail = PROBLEMS[status]
    path, _, message = detail.partition(": ")
    errors = [Fault(path, code, message)] if status == 422 else []
    answered = Problem(status, code, detail, errors=errors).answer(_SOME_REQUEST)
    assert isinstance(answered.body, bytes)
    example = orjson.loads(answered.body)
    return {
        "description": _MEANINGS.get(status, HTTPStatus(status).phrase),
        "headers": _REQUEST_ID | _LANGUAGE | _HEADERS.get(status, {}),
        "content": {MEDIA_TYPE: {"schema": schemas[PROBLEM], "example": example}},
    }


def success(status: int, declared: Any, schemas: Schemas) -> Schema:
    """Describe what an operation answers when it succeeds."""
    answer: Schema = {"description": HTTPStatus(status).phrase, "headers": dict(_REQUEST_ID)}
    if isinstance(declared, Download):
        any_bytes: Schema = {}  # OpenAPI 3.1: bytes as they are have no schema
        answer["content"] = dict.fromkeys(declared.media_types, any_bytes)
    elif declared is not None:
        answer["content"] = {"application/json": {"schema": schemas[declared, SHOWN]}}
    return answer
