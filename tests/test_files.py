"""Files: what is taken, how it is kept, who may read it."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import MemoryStore
from pydantic import SecretStr

from runtime import clock, file_upkeep, storage
from runtime.file_links import read_token, signed_url
from runtime.house import House
from runtime.settings import Settings
from runtime.signing import Signer
from runtime.storage import MissingObjectError, Storage, StorageError, storage_of
from tests.api_desk import Answer, Caller, Desk, open_desk

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4 + b"the end"
MP3 = b"ID3\x04" + bytes(range(256)) * 4


@pytest.fixture
async def desk(pool: asyncpg.Pool, settings: Settings) -> AsyncIterator[Desk]:
    async with open_desk(pool, settings) as desk:
        yield desk


@pytest.fixture
async def editor(desk: Desk) -> Caller:
    return await desk.caller(role="editor")


async def send(caller: Caller, content: bytes, media_type: str, name: str = "a.bin") -> Answer:
    headers = {"Content-Type": media_type}
    path = "/api/v1/files"
    data = io.BytesIO(content)
    return await caller.call("POST", path, data=data, headers=headers, params={"name": name})


async def upload(caller: Caller, content: bytes = PNG, media_type: str = "image/png") -> Any:
    answer = await send(caller, content, media_type)
    assert answer.status == 201, answer.data
    return answer.data


def objects(settings: Settings) -> list[Path]:
    return [path for path in (settings.data / "files").rglob("*") if path.is_file()]


async def test_a_file_comes_back_as_it_was_sent(editor: Caller) -> None:
    made = await upload(editor)
    assert (made["size"], made["media_type"]) == (len(PNG), "image/png")
    got = await editor.call("GET", f"/api/v1/files/{made['id']}/content")
    assert (got.status, got.data) == (200, PNG)
    assert got.headers["Content-Type"] == "image/png"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["X-Request-Id"]
    listed = await editor.get("/api/v1/files", media_type="image/png")
    assert listed["items"] == [made]


async def test_a_form_says_name_and_type_itself(editor: Caller) -> None:
    form = aiohttp.FormData()
    form.add_field("remark", "first comes something else")
    form.add_field("file", io.BytesIO(MP3), filename="greeting.mp3")
    answer = await editor.call("POST", "/api/v1/files", data=form)
    assert answer.status == 201, answer.data
    assert (answer.data["name"], answer.data["media_type"]) == ("greeting.mp3", "audio/mpeg")


REFUSED = (
    (b"<html>", "text/html", (415, "unsupported_media_type")),
    (b"<svg/>", "image/svg+xml", (415, "unsupported_media_type")),
    (b"<html>", "image/png", (415, "media_type_mismatch")),
    (PNG, "audio/mpeg", (415, "media_type_mismatch")),
    (b"a\x00b", "text/plain", (415, "media_type_mismatch")),
    (b"caf\xe9", "text/csv", (415, "media_type_mismatch")),
    (b"caf\xc3", "text/csv", (415, "media_type_mismatch")),
    (b"#!/bin/sh", "application/octet-stream", (415, "unsupported_media_type")),
    (b"", "image/png", (400, "empty_file")),
    (PNG, "multipart/form-data", (400, "malformed_body")),
    (PNG, "multipart/form-data; boundary=x", (400, "malformed_body")),
    (b"--x\r\n\r\n1\r\n--x--\r\n", "multipart/form-data; boundary=x", (400, "file_missing")),
)


async def test_what_is_not_what_it_says_is_refused_and_leaves_nothing(
    editor: Caller, settings: Settings
) -> None:
    for content, media_type, expected in REFUSED:
        refusal = await send(editor, content, media_type)
        assert (refusal.status, refusal.code) == expected
        assert objects(settings) == []
    assert (await editor.get("/api/v1/files"))["items"] == []


async def test_too_large_a_file_is_refused_while_it_comes(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    small = settings.model_copy(update={"largest_file_mb": 1})
    async with open_desk(pool, small) as desk:
        refusal = await send(await desk.caller(), PNG + bytes(1 << 20), "image/png")
        assert (refusal.status, refusal.code) == (413, "body_too_large")
        assert objects(settings) == []


async def test_a_name_must_be_one(editor: Caller) -> None:
    for name in ("", " ", "dir/", "a\nb", "x" * 201, "a\u202eb"):
        refusal = await send(editor, PNG, "image/png", name)
        assert refusal.status == 422
        assert refusal.faults[0][0] == "name"
    made = await send(editor, PNG, "image/png", r"C:\pictures\one.png")
    assert made.data["name"] == "one.png"


RANGES = (
    ("bytes=0-3", 206, PNG[:4]),
    ("bytes=8-", 206, PNG[8:]),
    ("bytes=-5", 206, PNG[-5:]),
    ("bytes=0-999999", 206, PNG),
    ("bytes=5-2", 200, PNG),
    ("bytes=-", 200, PNG),
    ("bytes=0-1,3-4", 200, PNG),
    ("lines=1-2", 200, PNG),
    ("bytes=999999-", 416, None),
    ("bytes=-0", 416, None),
)


async def test_ranges_are_given_as_rfc_9110_says(editor: Caller) -> None:
    path = f"/api/v1/files/{(await upload(editor))['id']}/content"
    for asked, status, expected in RANGES:
        got = await editor.call("GET", path, headers={"Range": asked})
        assert got.status == status, asked
        if expected is None:
            assert got.headers["Content-Range"] == f"bytes */{len(PNG)}"
            continue
        assert got.data == expected
        if status == 206:
            begin = PNG.index(expected)
            place = f"bytes {begin}-{begin + len(expected) - 1}/{len(PNG)}"
            assert got.headers["Content-Range"] == place


async def test_who_has_the_content_is_not_sent_it_again(editor: Caller) -> None:
    made = await upload(editor)
    path, tag = f"/api/v1/files/{made['id']}/content", f'"{made["sha256"]}"'
    known = await editor.call("GET", path, headers={"If-None-Match": tag})
    assert (known.status, known.data) == (304, b"")
    stale = {"Range": "bytes=0-3", "If-Range": '"another"'}
    assert (await editor.call("GET", path, headers=stale)).status == 200


async def test_what_a_browser_might_run_is_only_offered_for_saving(editor: Caller) -> None:
    text = await upload(editor, b"<script>alert(1)</script>", "text/plain")
    got = await editor.call("GET", f"/api/v1/files/{text['id']}/content")
    assert got.headers["Content-Disposition"].startswith("attachment;")
    assert got.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    picture = await upload(editor)
    got = await editor.call("GET", f"/api/v1/files/{picture['id']}/content")
    assert got.headers["Content-Disposition"].startswith("inline;")


async def test_odd_names_travel_safely(editor: Caller) -> None:
    answer = await send(editor, PNG, "image/png", 'Größe "1"; x.png')
    got = await editor.call("GET", f"/api/v1/files/{answer.data['id']}/content")
    assert got.headers["Content-Disposition"] == (
        'inline; filename="Gr__e _1__ x.png"; '
        "filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22%3B%20x.png"
    )


async def test_a_link_opens_without_a_token_until_it_expires(desk: Desk, editor: Caller) -> None:
    made = await upload(editor)
    link = await editor.post(f"/api/v1/files/{made['id']}/links", {"seconds": 60})
    path = "/f/" + link["url"].rpartition("/")[2]
    assert (await desk.stranger().call("GET", path)).data == PNG
    part = await desk.stranger().call("GET", path, headers={"Range": "bytes=0-3"})
    assert (part.status, part.data) == (206, PNG[:4])

    async with desk.pool.acquire() as db:
        await clock.advance(db, timedelta(seconds=62))
    expired = await desk.stranger().call("GET", path)
    assert (expired.status, expired.code) == (410, "link_expired")


async def test_a_link_leads_nowhere_once_its_file_is_deleted(
    desk: Desk, editor: Caller, settings: Settings
) -> None:
    made = await upload(editor)
    link = await editor.post(f"/api/v1/files/{made['id']}/links")
    await editor.delete(f"/api/v1/files/{made['id']}")
    gone = await desk.stranger().call("GET", "/f/" + link["url"].rpartition("/")[2])
    assert (gone.status, gone.code) == (404, "file_not_found")
    assert objects(settings) == []
    for path in ("", "/content"):
        assert (await editor.call("GET", f"/api/v1/files/{made['id']}{path}")).status == 404


@given(st.binary(max_size=60), st.integers(0, 10_000), st.integers(1, 255))
def test_no_token_but_our_own_is_taken(message: bytes, place: int, change: int) -> None:
    signer = Signer([b"k" * 32], "file")
    token = signer.sign(message)
    assert signer.verify(token) == message
    assert Signer([b"k" * 32], "unsubscribe").verify(token) is None
    assert Signer([b"n" * 32, b"k" * 32], "file").verify(token) == message
    assert Signer([], "file").verify(token) is None
    forged = bytearray(token.encode())
    forged[place % len(forged)] ^= change % 0x80 or 1
    assert signer.verify(forged.decode("latin-1")) is None


async def test_a_link_is_bound_to_its_account_and_file(house: House, pool: asyncpg.Pool) -> None:
    account, file = uuid4(), uuid4()
    until = await clock.current_instant(pool)
    link = read_token(house, signed_url(house, account, file, until).rpartition("/")[2])
    assert link is not None
    assert (link.account_id, link.file_id) == (account, file)
    assert link.until == until.replace(microsecond=0)


async def test_nobody_elses_file_is_there(desk: Desk, editor: Caller) -> None:
    made = await upload(editor)
    other = await desk.caller("Globex")
    path = f"/api/v1/files/{made['id']}"
    for method, address in (
        ("GET", path),
        ("GET", f"{path}/content"),
        ("POST", f"{path}/links"),
        ("DELETE", path),
    ):
        assert (await other.refused(method, address)).status == 404
    assert (await other.get("/api/v1/files"))["items"] == []
    viewer = await desk.caller(role="viewer")
    assert (await viewer.refused("DELETE", path)).status == 403


async def test_lost_content_is_said_and_noted(editor: Caller, settings: Settings) -> None:
    made = await upload(editor)
    [path] = objects(settings)
    path.unlink()
    refusal = await editor.refused("GET", f"/api/v1/files/{made['id']}/content")
    assert (refusal.status, refusal.code) == (410, "file_missing")
    assert (await editor.get(f"/api/v1/files/{made['id']}"))["missing_at"] is not None


async def test_content_without_a_row_is_removed_once_it_is_old(
    editor: Caller, settings: Settings, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, deleted = await upload(editor), await upload(editor, MP3, "audio/mpeg")
    await pool.execute("UPDATE files SET deleted_at = now() WHERE id = $1", UUID(deleted["id"]))
    store = storage_of(settings)
    await store.write(uuid4(), uuid4(), _once(b"an upload that died"))
    (settings.data / "files" / "stray.txt").write_text("not ours")

    assert await file_upkeep.remove_stale(pool, store) == 0
    monkeypatch.setattr(file_upkeep, "STALE_AFTER", timedelta(seconds=-60))
    assert await file_upkeep.remove_stale(pool, store) == 2
    assert {path.name for path in objects(settings)} == {kept["id"], "stray.txt"}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_uploads_at_once_do_not_disturb_each_other(editor: Caller) -> None:
    contents = [PNG + bytes([n]) * 300_000 for n in range(8)]
    made = await asyncio.gather(*(upload(editor, content) for content in contents))
    for file, content in zip(made, contents, strict=True):
        got = await editor.call("GET", f"/api/v1/files/{file['id']}/content")
        assert got.data == content


# --- An S3-compatible service ------------------------------------------------------------------

XML = "<?xml version='1.0'?><{0}Result><Bucket>b</Bucket><Key>k</Key>{1}</{0}Result>"


@pytest.fixture
async def bucket() -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """Speaks as much of S3 as we use, to whoever signs with the key id `id`; not the signature."""
    kept: dict[str, bytes] = {}
    parts: dict[int, bytes] = {}

    async def serve(request: web.Request) -> web.Response:
        if "Credential=id/" not in request.headers.get("Authorization", ""):
            return web.Response(status=403)
        key = request.path
        if "delete" in request.query:
            for name in re.findall(r"<Key>([^<]*)</Key>", await request.text()):
                kept.pop(f"/attachments/{name}", None)
            return web.Response(text="<?xml version='1.0'?><DeleteResult></DeleteResult>")
        if "uploads" in request.query:
            parts.clear()
            return web.Response(
                text=XML.format("InitiateMultipartUpload", "<UploadId>1</UploadId>")
            )
        if "partNumber" in request.query:
            parts[int(request.query["partNumber"])] = await request.read()
            return web.Response(headers={"ETag": '"1"'})
        if "uploadId" in request.query:
            kept[key] = b"".join(parts[number] for number in sorted(parts))
            return web.Response(text=XML.format("CompleteMultipartUpload", "<ETag>1</ETag>"))
        if request.method == "PUT":
            kept[key] = await request.read()
            return web.Response(headers={"ETag": '"1"'})
        if key not in kept:
            return web.Response(status=404)
        span = request.http_range
        part = kept[key][span]
        begin = span.start or 0
        return web.Response(
            status=206 if "Range" in request.headers else 200,
            body=part,
            headers={
                "ETag": '"1"',
                "Last-Modified": "Wed, 25 Nov 2026 03:00:00 GMT",
                "Content-Range": f"bytes {begin}-{begin + len(part) - 1}/{len(kept[key])}",
            },
        )

    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{key:.*}", serve)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}", kept


async def test_files_are_kept_in_a_bucket_if_one_is_set(
    pool: asyncpg.Pool, settings: Settings, bucket: tuple[str, dict[str, bytes]]
) -> None:
    endpoint, kept = bucket
    remote = settings.model_copy(
        update={
            "files_url": "s3://attachments/callboard",
            "files_endpoint": endpoint,
            "files_access_key": SecretStr("id"),
            "files_secret_key": SecretStr("secret"),
        }
    )
    async with open_desk(pool, remote) as desk:
        editor = await desk.caller()
        made = await upload(editor)
        [key] = kept
        assert key.startswith("/attachments/callboard/")
        assert key.endswith(made["id"])
        path = f"/api/v1/files/{made['id']}"
        got = await editor.call("GET", f"{path}/content", headers={"Range": "bytes=2-5"})
        assert (got.status, got.data) == (206, PNG[2:6])
        await editor.delete(path)
        assert kept == {}

        large = PNG + bytes(6 << 20)
        made = await upload(editor, large)
        assert list(kept.values()) == [large]


async def test_a_store_that_does_not_answer_is_no_defect_of_ours(
    pool: asyncpg.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Storage):
        async def write(self, *_arguments: Any) -> None:
            raise StorageError("no")

    monkeypatch.setattr("api.files.storage_of", lambda _settings: Broken(MemoryStore()))
    async with open_desk(pool, settings) as desk:
        refusal = await send(await desk.caller(), PNG, "image/png")
    assert (refusal.status, refusal.code) == (503, "storage_unavailable")


async def test_a_store_says_what_it_does_not_have() -> None:
    store = Storage(MemoryStore())
    with pytest.raises(MissingObjectError):
        await store.read_whole(uuid4(), uuid4())
    account, file = uuid4(), uuid4()
    await store.write(account, file, _once(b"content"))
    assert await store.read_whole(account, file) == b"content"
    assert [ids[:2] async for found in store.walk() for ids in found] == [(account, file)]
    await store.delete([(account, file), (account, uuid4())])


def test_one_process_opens_a_store_once(settings: Settings) -> None:
    assert storage_of(settings) is storage.storage_of(settings.model_copy())
