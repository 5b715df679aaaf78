"""The OpenAPI document says what the API is, and the page that draws it needs nobody else."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from openapi_spec_validator import validate

import api.docs
from actors import registry
from api.openapi import document
from api.server import PUBLIC_ROUTES, ROUTES
from runtime.settings import Settings
from tests.api_desk import Desk, open_desk

FOLDER = Path(api.docs.__file__).parent


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document((*ROUTES, *PUBLIC_ROUTES), registry)))
    return made


def operations(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in told["paths"].values() for operation in path.values()]


def test_the_document_is_valid(told: dict[str, Any]) -> None:
    validate(told)


def test_every_route_is_told_with_all_that_it_answers(told: dict[str, Any]) -> None:
    for route in ROUTES:
        operation = told["paths"][route.path][route.method.lower()]
        statuses = {int(status) for status in operation["responses"]}
        assert statuses == route.refusals | set(route.answers), route.path
        assert Any not in route.answers.values(), f"{route.path} does not say what it shows"


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(told: dict[str, Any]) -> None:
    names = [operation["operationId"] for operation in operations(told)]
    assert len(set(names)) == len(names)
    for operation in operations(told):
        assert re.match(r"[A-Z].{5,}", operation["summary"]), operation["operationId"]


def test_nothing_of_the_code_shows_in_names(told: dict[str, Any]) -> None:
    for name in told["components"]["schemas"]:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), name


def test_the_config_of_every_action_type_is_a_component(told: dict[str, Any]) -> None:
    [examples] = [
        operation["requestBody"]["content"]["application/json"]["examples"]
        for operation in operations(told)
        if operation["operationId"] == "actions_create"
    ]
    assert set(examples) == set(registry.actions)
    assert {"AddTag", "CreateTask"} <= set(told["components"]["schemas"])


async def test_it_is_served_to_everybody_once(desk: Desk) -> None:
    first = await desk.stranger().call("GET", "/api/v1/openapi.json")
    assert first.data["openapi"] == "3.1.0"
    known = {"If-None-Match": first.headers["ETag"]}
    again = await desk.stranger().call("GET", "/api/v1/openapi.json", headers=known)
    assert (again.status, again.data) == (304, b"")


async def test_the_page_asks_no_other_host_and_runs_nothing_inline(desk: Desk) -> None:
    page = await desk.stranger().call("GET", "/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    html = page.data.decode()
    assert re.findall(r"<script(?! src=)", html) == []
    assert " style=" not in html
    for address in re.findall(r'(?:src|href)="([^"]*)"', html):
        if address.startswith("/docs/"):
            assert (await desk.stranger().call("GET", address)).status == 200
        else:
            assert address in {"data:,", "/api/v1/openapi.json"}


async def test_only_the_files_of_the_page_are_given(desk: Desk) -> None:
    for name in ("docs.html", "..%2fdocs.py", "%2e%2e/docs.py", "README.md"):
        assert (await desk.stranger().call("GET", f"/docs/{name}")).status == 404


def test_vendored_files_are_those_that_were_published() -> None:
    sums = (FOLDER / "vendor" / "swagger-ui" / "SHA256SUMS").read_text().split()
    named = dict(zip(sums[1::2], sums[::2], strict=True))
    here = {path.name: path for path in (FOLDER / "vendor" / "swagger-ui").iterdir()}
    assert set(here) == {*named, "SHA256SUMS", "README.md"}
    for name, expected in named.items():
        assert hashlib.sha256(here[name].read_bytes()).hexdigest() == expected, name


async def test_headers_that_may_be_sent_and_come_back_are_told_and_so_is_health(desk: Desk) -> None:
    served = (await desk.stranger().call("GET", "/api/v1/openapi.json")).data
    assert {"/healthz", "/readyz", "/metrics"} <= served["paths"].keys()
    for path, operations in served["paths"].items():
        for method, operation in operations.items():
            if operation.get("security") == []:
                continue
            sent = {
                parameter["$ref"].rpartition("/")[2]
                for parameter in operation["parameters"]
                if "$ref" in parameter
            }
            wanted = {"get": set(), "post": {"IfMatch", "IdempotencyKey"}}
            assert sent == wanted.get(method, {"IfMatch"}), (method, path)
            for status, answer in operation["responses"].items():
                if status.startswith("2"):
                    assert {"RateLimit", "RateLimit-Policy"} <= answer["headers"].keys(), path
