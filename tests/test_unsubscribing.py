"""The link that unsubscribes works as long as somebody has the mail, come what may."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from actors.contact_erasure import erase
from actors.mail_marketing import recipient_of
from actors.secret_rotation import seal_anew
from runtime.dispatching import opt_in
from runtime.house import House
from runtime.link_keys import LinkKeys
from runtime.secrets import vault_of
from runtime.signing import Sealer
from tests.api_desk import open_desk
from tests.conftest import SECRET_KEYS
from tests.mail_board import PUBLIC_URL, TO, Board, open_board
from tests.stand_ins import WorldWith

KEYS: Final = [f"k{n}:{base64.b64encode(bytes([n] * 32)).decode()}" for n in range(3)]


@pytest.fixture
async def board(world_with: WorldWith) -> AsyncIterator[Board]:
    async with open_board(world_with) as board:
        await board.pool.execute("UPDATE accounts SET postal_address = '1 Way'")
        yield board


async def sent(board: Board) -> str:
    """Send a marketing mail; gives the path of its link."""
    await board.run(await board.mailing(purpose="marketing"))
    (*_, mail) = board.office.mails
    url = str(mail.message["List-Unsubscribe"]).strip("<>")
    assert url in board.links()
    return url.removeprefix(PUBLIC_URL)


async def opt_outs(board: Board, address: str = TO) -> list[asyncpg.Record]:
    return await board.pool.fetch(
        "SELECT reason, scope FROM opt_outs_of($1, 'email', $2)", board.world.account_id, address
    )


async def post(board: Board, path: str) -> int:
    async with board.desk.client.post(path, data={"List-Unsubscribe": "One-Click"}) as answer:
        return answer.status


async def test_it_works_when_the_mail_is_past_its_retention(board: Board) -> None:
    path = await sent(board)
    await board.pool.execute("DELETE FROM effects")
    for method in ("GET", "HEAD"):
        assert (await board.ask(path, method)).status == 200
    assert await opt_outs(board) == []
    assert await post(board, path) == 200
    assert [tuple(row) for row in await opt_outs(board)] == [("unsubscribed", "marketing")]
    assert await board.opt_outs() == {TO: "unsubscribed"}


@pytest.mark.parametrize("is_gone", [False, True])
async def test_it_works_after_the_contact_was_erased_and_brings_no_address_back(
    board: Board, *, is_gone: bool
) -> None:
    path = await sent(board)
    contact_id = await board.pool.fetchval("SELECT id FROM contacts")
    async with board.pool.acquire() as db, db.transaction():
        await erase(db, board.world.account_id, contact_id)
    if is_gone:
        await board.pool.execute("DELETE FROM effects")
    assert await opt_outs(board) == []
    for _ in range(2):
        assert await post(board, path) == 200
        assert [tuple(row) for row in await opt_outs(board)] == [("unsubscribed", "marketing")]
    held = await board.pool.fetchval(
        "SELECT string_agg(to_jsonb(a)::text, '') FROM"
        " (SELECT to_jsonb(c) FROM channel_addresses c UNION ALL SELECT to_jsonb(v)"
        "  FROM domain_events v UNION ALL SELECT to_jsonb(f) FROM effects f) a"
    )
    assert TO not in (held or "")
    # Somebody of that address comes again: no marketing goes there.
    execution = await board.run(await board.mailing(purpose="marketing"))
    (step,) = await board.world.steps(execution)
    assert step["skip_reason"] == "opted_out"


async def test_it_counts_each_time_that_it_is_followed(board: Board) -> None:
    path = await sent(board)
    for _ in range(2):
        assert await post(board, path) == 200
        assert await board.opt_outs() == {TO: "unsubscribed"}
        async with board.pool.acquire() as db:
            await opt_in(db, board.world.account_id, "email", TO)
        assert await opt_outs(board) == []
    assert await board.event_types() == ["email_unsubscribed"]


async def test_it_says_nothing_of_the_address_and_cannot_be_changed(board: Board) -> None:
    path = await sent(board)
    token = path.rpartition("/")[2]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert not any(part in raw for part in (TO.encode(), board.world.account_id.bytes))
    for number in range(0, len(token), 7):
        other = "A" if token[number] != "A" else "B"
        forged = path.replace(token, token[:number] + other + token[number + 1 :])
        assert await post(board, forged) == 404
    assert await opt_outs(board) == []


async def test_the_link_of_an_account_that_is_gone_is_nothing(board: Board) -> None:
    path = await sent(board)
    keys = vault_of(board.world.settings).link_keys
    recipient = recipient_of(keys, path.rpartition("/")[2])
    assert recipient is not None
    assert (recipient.account_id, recipient.address) == (board.world.account_id, TO)
    nobody = bytes(16) + recipient.effect_id.bytes + TO.encode()
    assert await post(board, f"/unsubscribe/{Sealer(keys, 'unsubscribe').seal(nobody)}") == 404


# Rotation


@asynccontextmanager
async def rotated(board: Board, *keys: str, with_rotate: bool = True) -> AsyncIterator[Board]:
    """The board by the first of these keys, after `secrets rotate` under all of them."""
    settings = board.world.settings.model_copy(
        update={"secret_keys": SecretStr(",".join(keys)), "public_url": PUBLIC_URL}
    )
    if with_rotate:
        await seal_anew(House(board.pool, settings, vault_of(settings)))
    alone = settings.model_copy(update={"secret_keys": SecretStr(keys[0])})
    async with open_desk(board.pool, alone) as desk:
        yield Board(board.world, board.office, board.integration_id, desk)


async def test_links_outlive_the_key_that_made_them_and_the_next_one_too(board: Board) -> None:
    path = await sent(board)
    link, pixel = board.links()[0], board.pixel()
    async with rotated(board, KEYS[0], with_rotate=False) as without:
        assert (await without.ask(path)).status == 404
    async with rotated(board, KEYS[0], SECRET_KEYS):
        pass
    async with rotated(board, KEYS[1], KEYS[0]) as later:
        assert (await later.ask(path)).status == 200
        assert (await later.ask(pixel)).status == 200
        assert (await later.ask(link)).headers["Location"].startswith("https://acme.test/")
        assert await post(later, path) == 200
        assert (await later.ask(path[:-1] + ("A" if path[-1] != "A" else "B"))).status == 404
    assert await board.opt_outs() == {TO: "unsubscribed"}
    assert await board.pool.fetchval("SELECT count(*) FROM link_keys") == 2


async def test_forged_links_ask_the_database_once(board: Board) -> None:
    asked = 0

    class Counting:
        async def fetch(self, *_: Any) -> list[Any]:
            nonlocal asked
            asked += 1
            return []

    house = House(Counting(), board.world.settings, vault_of(board.world.settings))  # type: ignore[arg-type]
    keys = LinkKeys(house)
    for _ in range(100):
        assert await keys.read(lambda found: recipient_of(found, "x" * 100)) is None
    assert asked == 1


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens_by_its_key_alone(message: bytes, key: bytes) -> None:
    token = Sealer([key], "a").seal(message)
    assert Sealer([bytes(31) + b"x", key], "a").open(token) == message
    assert Sealer([key], "b").open(token) is None
    assert Sealer([key], "a").open(token[:-1]) is None
    assert Sealer([], "a").open(token) is None
