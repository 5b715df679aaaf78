"""Request bodies: read within limits, taken as strict JSON, validated by a model.

What JSON allows and we cannot keep, or what two parsers would read differently, is refused here
for all routes: duplicate keys, NaN and infinities, numbers beyond 64 bits, NUL, lone surrogates,
deep nesting.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from math import isinf
from typing import Any, NoReturn, TypeVar

from aiohttp import http_exceptions, web
from pydantic import BaseModel, ConfigDict, ValidationError

from api.content_coding import chunks_of
from api.problems import Problem, invalid
from api.request_keys import KEPT_BODY
from runtime.configuration import MOST_FAULTS, Fault, faults_of, path_of

LARGEST_BODY = 1 << 20
LARGEST_KEPT = 8 << 20
READ_SECONDS = 15.0
DEEPEST = 64

_INT64 = range(-(2**63), 2**63)

Path = tuple[str | int, ...]


class Body(BaseModel):
    """The base of all models of request bodies: strict and closed, as configs are."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


BodyModel = TypeVar("BodyModel", bound=Body)


async def keep_body(request: web.Request) -> bytes:
    """Read the body before its handler does, within the largest bound that any route has."""
    raw = await read_raw(request, LARGEST_KEPT)
    request[KEPT_BODY] = raw
    return raw


async def read_body(
    request: web.Request, model: type[BodyModel], largest: int = LARGEST_BODY
) -> BodyModel:
    """Read and validate the body; a Problem says what is wrong with it."""
    _check_media_type(request)
    kept = request.get(KEPT_BODY)
    if kept is not None and len(kept) > largest:
        raise _too_large(largest)
    raw = await read_raw(request, largest) if kept is None else kept
    _check_values(_parse(raw))
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(*faults_of(error, model)) from None


def _check_media_type(request: web.Request) -> None:
    # Without the header aiohttp says application/octet-stream; a body of JSON is what we expect.
    if "Content-Type" in request.headers and request.content_type != "application/json":
        raise Problem(415, "unsupported_media_type", "The body must be application/json.")
    charset = request.charset
    if charset is not None and charset.lower() not in {"utf-8", "utf8"}:
        raise Problem(415, "unsupported_charset", "JSON is written in UTF-8.")


async def read_raw(request: web.Request, largest: int) -> bytes:
    """Read at most `largest` bytes (after decompression) within READ_SECONDS."""
    raw = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in chunks_of(request):
                raw += chunk
                if len(raw) > largest:
                    raise _too_large(largest)
    except TimeoutError:
        detail = f"The body did not arrive within {READ_SECONDS:.0f} s."
        raise Problem(408, "body_too_slow", detail, headers={"Connection": "close"}) from None
    except (web.RequestPayloadError, http_exceptions.HttpProcessingError):
        raise Problem(400, "malformed_body", "The body cannot be decoded.") from None
    return bytes(raw)


def _too_large(largest: int) -> Problem:
    return Problem(413, "body_too_large", f"The body is larger than {largest} bytes.")


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"{error.msg.lower()} ({where})") from None
    except ValueError:  # int() refuses thousands of digits
        raise _malformed("it holds a number that is too long") from None


def _malformed(reason: str) -> Problem:
    return Problem(400, "malformed_json", f"The body is not JSON that can be taken: {reason}.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _malformed("an object has the same key twice")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is no JSON number")


def _check_values(value: Any) -> None:
    if faults := list(islice(_unstorable(value), MOST_FAULTS)):
        raise invalid(*faults)


def _unstorable(root: Any) -> Iterator[Fault]:
    """Walk the document without recursion and give what cannot be stored."""
    pending: list[tuple[Path, Any]] = [((), [root])]
    while pending:
        path, container = pending.pop()
        if len(path) > DEEPEST:
            raise _malformed(f"it is nested more than {DEEPEST} deep")
        pairs = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in pairs:
            if isinstance(key, str) and (fault := _scalar_fault(key)):
                yield Fault(path_of(path[1:]), *fault)
            elif isinstance(value, dict | list):
                pending.append(((*path, key), value))
            elif fault := _scalar_fault(value):
                yield Fault(path_of((*path, key)[1:]), *fault)


def _scalar_fault(value: Any) -> tuple[str, str] | None:
    match value:
        case str():
            return _text_fault(value)
        case int() if value not in _INT64:
            return "number_out_of_range", "A whole number has 64 bits at most."
        case float() if isinf(value):
            return "number_out_of_range", "This number is too large."
    return None


def _text_fault(text: str) -> tuple[str, str] | None:
    if "\x00" in text:
        return "nul_character", "Text must not contain NUL."
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "lone_surrogate", "Text must be valid Unicode."
    return None
