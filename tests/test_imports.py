"""Contacts in and out as files: line by line, whatever is in the file."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import export_contacts, import_contacts
from actors.csv_lines import LONGEST_RECORD, Place, Record, read_records
from actors.export_contacts import neutralised
from api import imports
from runtime.settings import Settings
from tests.api_desk import Answer, Caller, Desk, open_desk
from tests.world import World

HEAD = b"first_name,email,custom_fields.company\n"


@pytest.fixture
async def desk(world: World, settings: Settings) -> AsyncIterator[Desk]:
    for key, field_type in (("company", "text"), ("visits", "number")):
        await world._add(
            "custom_fields", account_id=world.account_id, key=key, field_type=field_type
        )
    async with open_desk(world.pool, settings) as desk:
        yield desk


@pytest.fixture
async def editor(desk: Desk) -> Caller:
    return await desk.caller(role="editor")


async def send(editor: Caller, raw: bytes, **query: str) -> Answer:
    return await editor.call(
        "POST",
        "/api/v1/contacts/import",
        data=io.BytesIO(raw),
        params=query,
        headers={"Content-Type": "text/csv"},
    )


async def imported(editor: Caller, world: World, raw: bytes, **query: str) -> dict[str, Any]:
    """Import a file; gives the ended operation with its errors."""
    begun = await send(editor, raw, **query)
    assert begun.status == 202, begun.data
    await world.worker.run_operations()
    path = begun.headers["Location"]
    shown: dict[str, Any] = await editor.get(path)
    listed = (await editor.get(f"{path}/errors", limit="1000"))["items"]
    return {**shown, "errors": [(e["line"], e["column"], e["code"]) for e in listed]}


async def contacts(world: World) -> dict[str, Any]:
    rows = await world.pool.fetch("SELECT * FROM contacts WHERE email IS NOT NULL")
    return {row["email"]: dict(row) for row in rows}


async def test_each_right_line_makes_a_contact_and_each_wrong_one_is_listed(
    editor: Caller, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_contacts, "PORTION", 3)
    await world.contact(email="ada@x.test", first_name="Old")
    head = "\ufeffName;Mail;Firm;Visits;Other\r\n"
    lines = [
        "Ada;ada@x.test;;;",  # there is one
        'Bob;bob@x.test;"Bob ""& Sons"";\r\nLtd";3;',
        "Cy;not an address;;many;",
        "",
        "Dot;DOT@x.test;;;x;y",  # too many fields
        'Eve;eve@x.test;"a"b;;',
        "Fay;fay@x.test;\x00;;",
        "Gus;bob@X.TEST;;;",
        ";;;;",
        '5" pipe;hal@x.test;;;',
        "Ida;ida@x.test",
    ]
    mapping = (
        '{"Name": "first_name", "Mail": "email", "Firm": "custom_fields.company",'
        ' "Visits": "custom_fields.visits", "Other": null}'
    )
    raw = (head + "\r\n".join(lines)).encode()
    done = await imported(editor, world, raw, mapping=mapping)
    assert done["errors"] == [
        (2, "Mail", "email_taken"),
        (5, "Mail", "email_unusable"),
        (5, "Visits", "custom_field_unusable"),
        (7, None, "too_many_fields"),
        (8, None, "quotes_malformed"),
        (9, "Firm", "nul_character"),
        (10, "Mail", "email_taken"),
        (11, None, "line_says_nothing"),
    ]
    assert (done["status"], done["total"], done["done"], done["failed"]) == ("completed", 10, 3, 7)
    assert done["result"] == {"created": 3, "updated": 0, "unchanged": 0, "skipped": 2}
    made = await contacts(world)
    assert made["bob@x.test"]["custom_fields"] == {
        "company": 'Bob "& Sons";\r\nLtd',
        "visits": 3,
    }
    assert made["hal@x.test"]["first_name"] == '5" pipe'
    assert made["ada@x.test"]["first_name"] == "Old"
    assert await world.pool.fetchval("SELECT count(*) FROM operation_files") == 0


async def test_an_address_twice_in_the_file_makes_one_contact(editor: Caller, world: World) -> None:
    raw = HEAD + b"A,a@x.test,\nB,A@x.test,Acme\nC,,\n"
    done = await imported(editor, world, raw)
    assert done["errors"] == [(3, "email", "email_twice_in_file")]
    assert done["done"] == 2


async def test_update_changes_those_who_are_there_and_says_what_has_changed(
    editor: Caller, world: World
) -> None:
    tag = await world._add("tags", account_id=world.account_id, name="fair")
    listening = await world.workflow(
        ("add_note", {"content": "x"}), trigger={"event_type": "tag_added"}
    )
    ada = await world.contact(email="ada@x.test", first_name="Ada", custom_fields={"visits": 1})
    await world.contact(email="bob@x.test", first_name="Bob")
    raw = HEAD + b"Ada,ada@x.test,Acme\n,bob@x.test,\nNew,new@x.test,\nNewer,NEW@x.test,Last\n"
    done = await imported(editor, world, raw, duplicates="update", tag_id=str(tag))
    assert (done["errors"], done["done"]) == ([], 4)
    assert done["result"] == {"created": 1, "updated": 2, "unchanged": 1, "skipped": 0}
    made = await contacts(world)
    assert made["ada@x.test"]["custom_fields"] == {"visits": 1, "company": "Acme"}
    assert made["NEW@x.test"]["first_name"] == "Newer"
    changes = await world.pool.fetch(
        "SELECT field, old_value, new_value, user_id FROM contact_field_changes"
        " WHERE contact_id = $1",
        ada,
    )
    user = await world.pool.fetchval("SELECT id FROM users WHERE is_service")
    assert [tuple(c) for c in changes] == [("custom_fields.company", None, "Acme", user)]
    events = await world.pool.fetch("SELECT event_type, payload FROM domain_events")
    kinds = sorted(event["event_type"] for event in events)
    assert kinds == ["contact_created", *["contact_updated"] * 2, *["tag_added"] * 3]
    await world.settle()
    runs = "SELECT count(*) FROM workflow_executions WHERE workflow_id = $1"
    assert await world.pool.fetchval(runs, listening) == 3


@pytest.mark.parametrize(
    ("raw", "query", "code"),
    [
        (b"", {}, "header_missing"),
        (b"\n\n", {}, "header_missing"),
        ("Müller\n".encode("latin-1"), {}, "encoding_unsupported"),
        ("email\na@x.test\n".encode("utf-16"), {}, "encoding_unsupported"),
        (b"email,email\n", {}, "column_twice"),
        (b"e-mail\n", {}, "field_unknown"),
        (b"email\n", {"mapping": "["}, "mapping_unusable"),
        (b"email\n", {"mapping": '{"mail": "email"}'}, "column_unknown"),
        (b"email\n", {"mapping": '{"email": null}'}, "nothing_mapped"),
        (b'"email\n', {}, "header_malformed"),
        (b"x" * 70_000, {}, "header_too_long"),
        (b"email\n", {"tag_id": str(uuid4())}, "tag_unknown"),
        (b"email\n", {"duplicates": "merge"}, "literal_error"),
    ],
)
async def test_what_is_no_such_file_is_refused_at_once(
    editor: Caller, world: World, raw: bytes, query: dict[str, str], code: str
) -> None:
    refusal = await send(editor, raw, **query)
    assert (refusal.status, refusal.code) == (422, code)
    assert await world.pool.fetchval("SELECT count(*) FROM operations") == 0


async def test_a_file_is_not_larger_than_it_may_be(
    editor: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "LARGEST_FILE", 1000)
    refusal = await send(editor, HEAD + b"x" * 1000)
    assert (refusal.status, refusal.code) == (413, "body_too_large")


async def test_the_export_is_downloaded_and_can_be_imported_again(
    editor: Caller, desk: Desk, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_contacts, "PORTION", 2)
    for n, name in enumerate(("=1+1", "@x", "-5", 'Zoë, "Z"', "+nobody")):
        await world.contact(first_name=name, email=f"p{n}@x.test", phone=f"+1415555267{n}")
    body: dict[str, Any] = {"columns": ["first_name", "email", "phone", "custom_fields.company"]}
    begun = await editor.post("/api/v1/contacts/export", body)
    path = f"/api/v1/operations/{begun['id']}"
    assert (await editor.refused("GET", f"{path}/download")).code == "operation_not_completed"
    await world.worker.run_operations()
    got = await editor.call("GET", f"{path}/download")
    assert got.headers["Content-Type"] == "text/csv"
    rows = list(csv.reader(io.StringIO(got.data.decode())))
    assert rows[0] == body["columns"]
    written = sorted(rows[1:], key=lambda row: row[1])
    assert [row[0] for row in written] == ["'=1+1", "'@x", "-5", 'Zoë, "Z"', "'+nobody"]
    assert [row[2] for row in written] == [f"+1415555267{n}" for n in range(5)]

    stranger = await desk.caller("Other")
    assert (await stranger.refused("GET", f"{path}/download")).status == 404
    await world.pool.execute("UPDATE contacts SET email_normalized = NULL, email = NULL")
    done = await imported(editor, world, got.data)
    assert done["done"] == 5
    names = {contact["first_name"] for contact in (await contacts(world)).values()}
    assert names == {"=1+1", "@x", "-5", 'Zoë, "Z"', "+nobody"}

    body = {"format": "jsonl", "columns": ["email"], "filter": {"has_email": True}}
    begun = await editor.post("/api/v1/contacts/export", body)
    await world.worker.run_operations()
    got = await editor.call("GET", f"/api/v1/operations/{begun['id']}/download")
    assert got.data.count(b"\n") == 5
    refusal = await editor.refused("POST", "/api/v1/contacts/export", {"columns": ["emial"]})
    assert refusal.faults == [("columns[0]", "field_unknown")]


TEXT = st.text(st.sampled_from("ab\",;\r\n\t'é€ "), max_size=8)


@given(
    rows=st.lists(st.lists(TEXT, min_size=2, max_size=3), max_size=6),
    piece=st.integers(1, 40),
    most=st.integers(1, 3),
)
def test_whatever_a_writer_quotes_is_read_again_whole_or_in_pieces(
    rows: list[list[str]], piece: int, most: int
) -> None:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    raw = text.getvalue().encode()
    read: list[Record] = []
    place, size = Place(0, 1), piece
    while place.offset < len(raw):
        part = raw[place.offset : place.offset + size]
        is_end = place.offset + len(part) == len(raw)
        records, behind, _ = read_records(
            part, place, delimiter=",", line_end="\n", most=most, is_end=is_end
        )
        size = size * 2 if behind == place else piece
        place, read = behind, read + records
    assert [list(record.fields) for record in read] == rows


@given(raw=st.text(st.sampled_from('ab",\r\n é'), max_size=60).map(str.encode))
def test_no_file_keeps_the_reader_from_its_end(raw: bytes) -> None:
    place, has_ended, rounds = Place(0, 1), False, 0
    while not has_ended:
        _, place, has_ended = read_records(
            raw[place.offset :], place, delimiter=",", line_end="\n", most=1, is_end=True
        )
        rounds += 1
        assert rounds < 100


def test_a_quote_that_is_never_closed_and_a_line_without_end_spoil_no_other() -> None:
    long = b"x" * (LONGEST_RECORD + 1)
    raw = b'a,"b\n' + b"c,d\n" * 3 + long + b"\ne,f\n" + long
    records, _, has_ended = read_records(
        raw, Place(0, 1), delimiter=",", line_end="\n", most=99, is_end=True
    )
    said = [(r.line, r.fault[0] if r.fault else list(r.fields)) for r in records]
    assert said == [
        (1, "quotes_malformed"),
        *[(n, ["c", "d"]) for n in (2, 3, 4)],
        (5, "line_too_long"),
        (6, ["e", "f"]),
        (7, "line_too_long"),
    ]
    assert has_ended


@pytest.mark.parametrize("text", ["=1", "+x", "-x", "@x", "\tx", "\rx", "+1;x", "-1+1|x"])
def test_formulas_are_neutralised(text: str) -> None:
    assert neutralised(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "x", "-5", "+1 (415) 555-2671", "1=1", "a@b"])
def test_what_is_no_formula_stays(text: str) -> None:
    assert neutralised(text) == text
