"""Under an Idempotency-Key nothing happens twice, whatever dies when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from api import idempotency, workflows
from api.calls import Call
from runtime import clock
from runtime.housekeeping import keep_house
from runtime.settings import Settings
from tests.api_desk import Answer, Caller, Desk, open_desk

PATH = "/api/v1/workflows"


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


async def post(caller: Caller, key: str, body: Any, path: str = PATH) -> Answer:
    return await caller.call("POST", path, body, headers={"Idempotency-Key": key})


async def count(pool: asyncpg.Pool) -> int:
    number: int = await pool.fetchval("select count(*) from workflows")
    return number


async def test_a_repeated_request_gets_the_same_answer(desk: Desk, pool: asyncpg.Pool) -> None:
    caller, other = await desk.caller(), await desk.caller("Globex")
    first = await post(caller, "k", {"name": "W"})
    again = await post(caller, '"k"', {"name": "W"})
    assert (first.status, again.status) == (201, 201)
    assert again.data == first.data
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert await count(pool) == 1
    assert (await post(other, "k", {"name": "W"})).data["id"] != first.data["id"]
    assert (await post(caller, "l", {"name": "W"})).data["id"] != first.data["id"]


async def test_another_request_with_the_key_is_refused(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    await post(caller, "k", {"name": "W"})
    refusal = await post(caller, "k", {"name": "V"})
    assert (refusal.status, refusal.code) == (422, "idempotency_key_reused")
    assert await count(pool) == 1


async def test_a_refusal_is_not_kept(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    assert (await post(caller, "k", {"nmae": "W"})).status == 422
    assert (await post(caller, "k", {"name": "W"})).status == 201


async def test_a_key_that_cannot_be_used_is_refused(desk: Desk) -> None:
    caller = await desk.caller()
    for key in ("", " ", "a b", "x" * 256, "\u00e9"):
        assert (await post(caller, key, {"name": "W"})).code == "idempotency_key_unusable", key


async def test_of_concurrent_requests_one_is_carried_out(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    answers = await asyncio.gather(*(post(caller, "k", {"name": "W"}) for _ in range(8)))
    assert {answer.status for answer in answers} <= {201, 409}
    assert {answer.code for answer in answers if answer.status == 409} <= {"idempotency_key_in_use"}
    assert await count(pool) == 1


async def test_a_death_before_the_commit_leaves_the_key_retryable(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    caller = await desk.caller()
    await post(caller, "k", {"name": "W"})
    # As a process leaves it that took the key and died.
    await pool.execute(
        "update idempotency_keys set is_committed = false, status = null,"
        " retry_after = started_at + interval '1 minute'"
    )
    await pool.execute("delete from workflows")
    in_use = await post(caller, "k", {"name": "W"})
    assert (in_use.code, in_use.headers["Retry-After"]) == ("idempotency_key_in_use", "1")
    await clock.advance(pool, timedelta(seconds=idempotency.ATTEMPT_SECONDS))
    assert (await post(caller, "k", {"name": "W"})).status == 201


async def test_an_attempt_whose_key_was_taken_over_commits_nothing(
    desk: Desk, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await desk.caller()
    reached, go_on = asyncio.Event(), asyncio.Event()
    transaction = Call.transaction

    def held(call: Call) -> Any:
        inner = transaction(call)

        @asynccontextmanager
        async def late() -> AsyncIterator[Any]:
            if not reached.is_set():
                reached.set()
                await go_on.wait()
            async with inner as db:
                yield db

        return late()

    monkeypatch.setattr(Call, "transaction", held)
    slow = asyncio.create_task(post(caller, "k", {"name": "W"}))
    await reached.wait()
    await clock.advance(pool, timedelta(seconds=idempotency.ATTEMPT_SECONDS))
    second = await post(caller, "k", {"name": "W"})
    go_on.set()
    assert second.status == 201
    assert (await slow).code == "idempotency_key_in_use"
    assert await count(pool) == 1


async def test_a_death_after_the_commit_is_said_and_nothing_happens_twice(
    desk: Desk, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await desk.caller()

    def broken(*_anything: object) -> None:
        raise RuntimeError("died")

    with monkeypatch.context() as patched:
        patched.setattr(workflows, "answer", broken)
        assert (await post(caller, "k", {"name": "W"})).status == 500
    await clock.advance(pool, timedelta(hours=1))
    refusal = await post(caller, "k", {"name": "W"})
    assert (refusal.status, refusal.code) == (409, "idempotency_answer_lost")
    assert await count(pool) == 1


async def test_a_new_token_is_not_kept(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    new = await post(caller, "k", {"name": "t"}, "/api/v1/tokens")
    again = await post(caller, "k", {"name": "t"}, "/api/v1/tokens")
    assert again.code == "idempotency_answer_lost"
    assert new.data["token"] not in str(await pool.fetch("select * from idempotency_keys"))


async def test_an_upload_is_told_from_another_by_what_it_says_of_itself(desk: Desk) -> None:
    caller = await desk.caller()

    async def send(content: Any, media_type: str = "text/plain", **headers: str) -> Answer:
        told = {"Idempotency-Key": "k", "Content-Type": media_type}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await caller.call("POST", "/api/v1/files?name=a.txt", data=content, headers=told)

    first = await send(b"One file.", Content_Digest="sha-256=:AAAA:")
    again = await send(b"One file.", Content_Digest="sha-256=:AAAA:")
    assert again.data == first.data
    assert again.headers["Idempotency-Replayed"] == "true"
    for other in (
        await send(b"One file.", Content_Digest="sha-256=:BBBB:"),
        await send(b"One file.", "text/csv", Content_Digest="sha-256=:AAAA:"),
        await send(b"A longer file.", Content_Digest="sha-256=:AAAA:"),
    ):
        assert (other.status, other.code) == (422, "idempotency_key_reused")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"One file."

    chunked = await send(chunks())
    assert (chunked.status, chunked.code) == (411, "length_required")


async def test_no_secret_and_no_signed_link_is_kept(desk: Desk, pool: asyncpg.Pool) -> None:
    caller = await desk.caller()
    made = await post(caller, "k", {}, "/api/v1/webhook-secrets/rotate")
    (secret,) = made.data["items"]
    assert (await caller.get("/api/v1/webhook-secrets"))["items"] == [secret]
    kept = str(await pool.fetch("select convert_from(body, 'UTF8') from idempotency_keys"))
    assert secret["secret"] not in kept
    again = await post(caller, "k", {}, "/api/v1/webhook-secrets/rotate")
    assert again.code == "idempotency_answer_lost"


async def test_an_erasure_drops_kept_answers_that_show_the_contact(
    desk: Desk, pool: asyncpg.Pool
) -> None:
    caller = await desk.caller()
    made = await post(caller, "k", {"email": "ada@example.com"}, "/api/v1/contacts")
    other = await post(caller, "o", {"email": "bo@example.com"}, "/api/v1/contacts")
    await caller.post(f"/api/v1/contacts/{made.data['id']}/erase")
    again = await post(caller, "k", {"email": "ada@example.com"}, "/api/v1/contacts")
    assert again.code == "idempotency_answer_lost"
    again = await post(caller, "o", {"email": "bo@example.com"}, "/api/v1/contacts")
    assert again.data == other.data


async def test_a_key_is_forgotten_after_its_time(
    desk: Desk, pool: asyncpg.Pool, settings: Settings
) -> None:
    caller = await desk.caller()
    first = await post(caller, "k", {"name": "W"})
    await clock.advance(pool, timedelta(hours=23))
    assert (await keep_house(pool, settings))["idempotency_keys"] == 0
    assert (await post(caller, "k", {"name": "W"})).data == first.data
    await clock.advance(pool, timedelta(hours=1))
    assert (await post(caller, "k", {"name": "W"})).data["id"] != first.data["id"]
    await clock.advance(pool, timedelta(hours=25))
    assert (await keep_house(pool, settings))["idempotency_keys"] == 1
