"""Bad input gets a problem that names it, never a 5xx."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from api import bodies
from api.calls import turns_at
from api.problems import Problem
from runtime.database import create_pool
from runtime.settings import Settings
from tests.api_desk import READY, Caller, Desk, open_desk


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def admin(desk: Desk) -> Caller:
    return await desk.caller()


DEEP = b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


UNUSABLE = [
    (b"", 400, "malformed_json"),
    (b"{", 400, "malformed_json"),
    (b"\xff\xfe", 400, "malformed_json"),
    (b"\xef\xbb\xbf{}", 400, "malformed_json"),
    (b'{"name": "a", "name": "b"}', 400, "malformed_json"),
    (b'{"name": NaN}', 400, "malformed_json"),
    (b'{"name": -Infinity}', 400, "malformed_json"),
    (b'{"name": ' + b"9" * 10_000 + b"}", 400, "malformed_json"),
    (DEEP, 400, "malformed_json"),
    (b'{"name":' + b"[" * 65 + b"]" * 65 + b"}", 400, "malformed_json"),
    (b'{"name": "a' + b" " * (1 << 20) + b'"}', 413, "body_too_large"),
    (b"[]", 422, "model_type"),
    (b"null", 422, "model_type"),
    (b'{"name": 1e999}', 422, "number_out_of_range"),
    (b'{"name": 9223372036854775808}', 422, "number_out_of_range"),
    (b'{"name": "a\\u0000b"}', 422, "nul_character"),
    (b'{"na\\u0000me": "a"}', 422, "nul_character"),
    (b'{"name": "\\ud800"}', 422, "lone_surrogate"),
    (b'{"\\udfff": [1]}', 422, "lone_surrogate"),
    (b'{"name": ""}', 422, "blank"),
    (b'{"name": "a", "nmae": 1}', 422, "unknown_field"),
    (b'{"name": 5}', 422, "string_type"),
    (b"{}", 422, "missing"),
]


async def test_an_unusable_body_is_refused(admin: Caller) -> None:
    for raw, status, code in UNUSABLE:
        answer = await admin.call(
            "POST",
            "/api/v1/workflows",
            data=io.BytesIO(raw),
            headers={"Content-Type": "application/json"},
        )
        assert (answer.status, answer.code) == (status, code), raw[:60]
        assert answer.data["status"] == status
        assert answer.data["request_id"] == answer.headers["X-Request-Id"]


async def test_only_json_in_utf_8_is_taken(admin: Caller) -> None:
    for wrong in ("text/plain", "application/json; charset=utf-16", "application/x-nothing"):
        answer = await admin.call(
            "POST", "/api/v1/workflows", data=b"{}", headers={"Content-Type": wrong}
        )
        assert answer.status == 415, wrong


async def test_a_compressed_body_counts_as_what_it_holds(admin: Caller) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    good = gzip.compress(b'{"name": "packed"}')
    bomb = gzip.compress(b'{"name": "' + b"a" * (64 << 20) + b'"}')
    for raw, status in ((good, 201), (bomb, 413), (b"no gzip", 400)):
        answer = await admin.call("POST", "/api/v1/workflows", data=raw, headers=headers)
        assert answer.status == status, answer


async def test_a_body_that_comes_too_slowly_is_given_up(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.05)
    never = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    answer = await admin.call(
        "POST", "/api/v1/workflows", data=drip(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.code) == (408, "body_too_slow")


async def test_many_wrong_fields_give_a_short_report(admin: Caller) -> None:
    wrong = {f"field_{n}": n for n in range(40_000)}
    answer = await admin.refused("POST", "/api/v1/workflows", wrong)
    assert answer.code == "validation_failed"
    assert len(answer.faults) == 20


async def test_wrong_methods_get_405_with_allow(admin: Caller) -> None:
    for method in ("PUT", "PATCH", "DELETE", "TRACE"):
        answer = await admin.call(method, "/api/v1/workflows")
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(",")) == {"GET", "POST"}


NOWHERE = [
    "/",
    "/api/v1/workflow",
    "/api/v1/workflows/",
    "/api/v1/workflows/1",
    "/api/v1/workflows/%00",
    "/api/v1/workflows/%ff",
    "/api/v1/workflows/{00000000-0000-0000-0000-000000000000}",
    "/api/v1/workflows/urn:uuid:00000000-0000-0000-0000-000000000000",
    "/api/v1/workflows/00000000000000000000000000000000",
    "/api/v1/workflows/00000000-0000-0000-0000-00000000000\u0661",
    "/api/v1/workflows/00000000-0000-0000-0000-000000000000/actions/x",
    "/api/v1/workflows/../../healthz/x",
]


async def test_what_is_not_there_is_a_404_problem(admin: Caller) -> None:
    for path in NOWHERE:
        assert (await admin.refused("GET", path)).status == 404, path


WRONG_QUERIES = [
    ("limit=0", ("limit", "greater_than_equal")),
    ("limit=201", ("limit", "less_than_equal")),
    ("limit=1.5", ("limit", "int_parsing")),
    ("limit=", ("limit", "int_parsing")),
    ("limit=1&limit=2", ("limit", "given_twice")),
    ("limt=1", ("limt", "unknown_field")),
    ("cursor=x", ("cursor", "cursor_unusable")),
    ("cursor=%C3%A9", ("cursor", "cursor_unusable")),
    ("cursor=f" + "_" * 31, ("cursor", "cursor_unusable")),
    ("status=drafty", ("status", "literal_error")),
]


async def test_a_wrong_query_parameter_is_named(admin: Caller) -> None:
    for query, fault in WRONG_QUERIES:
        answer = await admin.refused("GET", f"/api/v1/workflows?{query}")
        assert (answer.status, answer.faults) == (422, [fault]), query


async def test_nul_in_a_query_is_refused(admin: Caller) -> None:
    for query in ("status=%00", "email=%00@x.org", "%00=1"):
        assert (await admin.refused("GET", f"/api/v1/contacts?{query}")).status == 422, query


async def test_an_option_that_is_nearly_right_gets_a_hint(admin: Caller) -> None:
    answer = await admin.refused("GET", "/api/v1/workflows?status=drafd")
    assert "Did you mean 'draft'?" in answer.data["detail"]
    body = {"action_type": "ad_tag"}
    path = await admin.workflow()
    answer = await admin.refused("POST", f"{path}/actions", body)
    assert "Did you mean 'add_tag'?" in answer.data["detail"]


async def test_a_sane_request_id_is_taken_over_and_another_replaced(admin: Caller) -> None:
    for sent, taken in (("order-66", True), ("x" * 65, False), ("a b", False)):
        answer = await admin.call("GET", "/api/v1/workflows", headers={"X-Request-Id": sent})
        assert (answer.headers["X-Request-Id"] == sent) is taken


async def test_health_needs_no_token(desk: Desk) -> None:
    assert await desk.stranger().get("/healthz") == {"status": "ok"}
    assert await desk.stranger().get("/readyz") == {"status": "ready"}


async def test_without_its_database_the_api_lives_and_is_not_ready(desk: Desk) -> None:
    await desk.pool.close()
    assert (await desk.stranger().call("GET", "/healthz")).status == 200
    answer = await desk.stranger().call("GET", "/readyz")
    assert (answer.status, answer.code) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


async def test_an_error_of_ours_is_a_500_problem_that_tells_nothing(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("api.lists.List.page", broken)
    answer = await admin.call("GET", "/api/v1/workflows")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "secret" not in str(answer.data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(document=JSON)
def test_what_passes_the_edge_can_be_stored(document: Any) -> None:
    try:
        value = bodies._parse(json.dumps(document).encode())
        bodies._check_values(value)
    except Problem as problem:
        problem.answer("id")
        return
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in json.dumps(value).replace("\\\\", "")
    text.encode()


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    fields=st.dictionaries(
        st.sampled_from(
            [
                "action_type",
                "action_config",
                "position",
                "key",
                "canvas_position",
                "previous_action_id",
                "is_enabled",
                "tag_name",
            ]
        ),
        JSON,
    )
)
async def test_no_body_makes_the_api_fail(admin: Caller, fields: dict[str, Any]) -> None:
    path = await admin.workflow()
    body = {"action_type": "add_tag", "action_config": READY} | fields
    answer = await admin.call("POST", f"{path}/actions", body)
    assert answer.status in {201, 400, 422}


async def test_requests_get_a_connection_in_the_order_in_which_they_asked(
    dsn: str, settings: Settings
) -> None:
    pool = await create_pool(dsn, settings, size=1)
    try:
        turns = turns_at(pool)
        order: list[int] = []

        async def twice(number: int) -> None:
            for _ in range(2):  # as a request does: for its token, and for its transaction
                async with turns, pool.acquire() as db:
                    await db.fetchval("SELECT 1")
                    order.append(number)

        await asyncio.gather(*map(twice, range(4)))
        assert order == [0, 1, 2, 3, 0, 1, 2, 3]
    finally:
        await pool.close()
