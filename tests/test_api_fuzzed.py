"""Whatever is sent, the API answers as its OpenAPI document says: schemathesis with all its checks.

Every operation is tried at the edges of its schemas and beyond them (the coverage phase) and with
random data, on a real server with an account that has one of everything.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar, get_args
from uuid import UUID

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from pydantic_core.core_schema import ErrorType
from requests import Session
from schemathesis.config import SchemathesisConfig

from actors import registry
from api.openapi import document
from api.server import PUBLIC_ROUTES, ROUTES
from runtime.database import create_pool
from runtime.settings import Settings
from tests.api_desk import open_desk
from tests.conftest import SECRET_KEYS, _database
from tests.test_api_access import owned

CONFIG = {
    "seed": 1,
    "generation": {"max-examples": 3, "deterministic": True, "allow-x00": False},
    "phases": {"coverage": {"unexpected-methods": ["TRACE", "PUT", "OPTIONS"]}},
    "checks": {
        # What refers to something that is not there is refused with 422 as well; see `honest`.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "304", "401", "403", "404", "409", "410", "412", "422"]
        },
        "negative_data_rejection": {
            "expected-statuses": [
                "400",
                "401",
                "403",
                "404",
                "405",
                "409",
                "410",
                "413",
                "415",
                "422",
            ]
        },
    },
    # Nothing says in a schema what the bytes of a picture are.
    "operations": [
        {
            "include-path": path,
            "checks": {"positive_data_acceptance": {"enabled": False}},
        }
        for path in sorted({route.path for route in ROUTES if route.upload})
    ],
}


@schemathesis.serializer("message/rfc822")
def mail_of(_context: Any, value: Any) -> bytes:
    """What is generated for a mail, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


TOLD = json.loads(json.dumps(document((*ROUTES, *PUBLIC_ROUTES), registry)))
# These two headers bind a request to others; they have tests of their own (test_idempotency,
# test_api_references).
for operations in TOLD["paths"].values():
    for operation in operations.values():
        operation["parameters"] = [one for one in operation["parameters"] if "$ref" not in one]
schema = schemathesis.openapi.from_dict(TOLD, config=SchemathesisConfig.from_dict(CONFIG))

Got = TypeVar("Got")


class Served:
    """The API on loopback in a thread with a loop of its own, and a caller's ids."""

    def __init__(self, server_dsn: str, template: str, folder: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.session = Session()
        self.url, self.token, self.ids = self._do(self._begin(server_dsn, template, folder))

    def _do(self, work: Coroutine[Any, Any, Got]) -> Got:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _begin(
        self, server_dsn: str, template: str, folder: Any
    ) -> tuple[str, str, dict[str, str]]:
        dsn = await self._stack.enter_async_context(_database(server_dsn, template))
        chosen = Settings(database_url=dsn, data=folder, secret_keys=SecretStr(SECRET_KEYS))
        pool = await create_pool(dsn, chosen)
        self._stack.callback(pool.terminate)
        desk = await self._stack.enter_async_context(open_desk(pool, chosen))
        caller = await desk.caller()
        assert caller.token
        return str(desk.client.make_url("")).rstrip("/"), caller.token, await owned(caller, pool)

    def end(self) -> None:
        self.session.close()
        self._do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def served(
    server_dsn: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    served = Served(server_dsn, template, tmp_path_factory.mktemp("data"))
    yield served
    served.end()


# What pydantic itself refuses, its schema must say; our own validators have codes of their own.
BUILT_IN = {*get_args(ErrorType), "unknown_field"}


DIGITS = ("decimal_max_digits", "decimal_max_places", "decimal_whole_digits")


def honest(_context: Any, response: Any, case: schemathesis.Case[Any]) -> None:
    """Data that the document calls valid is refused only for what no schema can say."""
    if response.status_code != 422 or not case.meta or not case.meta.generation.mode.is_positive:
        return
    for fault in response.json().get("errors", ()):
        # A config's schema is its type's, the fields of a list are those of its items, 1.0 is a
        # whole number to JSON Schema, and it cannot count the digits of a number.
        is_excused = fault["path"] == "fields" or fault["code"] in {"int_type", *DIGITS}
        # The shape of these is decided by another field.
        is_excused |= fault["path"].startswith(("action_config", "settings", "secrets"))
        assert is_excused or fault["code"] not in BUILT_IN, fault


@pytest.mark.filterwarnings("ignore:Skipped test cases with unsupported payload")  # of uploads
@schema.parametrize()
@settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_the_api_does_what_its_document_says(case: schemathesis.Case[Any], served: Served) -> None:
    for name, value in case.path_parameters.items():
        if name in served.ids and _is_uuid(value):
            case.path_parameters[name] = served.ids[name]
    case.call_and_validate(
        base_url=served.url,
        session=served.session,
        headers={"Authorization": f"Bearer {served.token}"},
        additional_checks=[honest],
    )


def _is_uuid(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True
