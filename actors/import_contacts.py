"""Importing contacts from CSV: line by line, set-based by portions of some thousand lines.

The file lies in pieces in operation_files; the API has looked at its first line and says which
column is which field. A line that is wrong is listed with its number, column and reason, and
takes no other along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from actors.contact_changes import columns_of, copy_of, differences
from actors.contact_changes import queries as changing
from actors.csv_lines import Place, Record, read_records
from actors.custom_fields import CustomField, CustomFields, custom_field, to_field
from actors.custom_fields import queries as custom_field_queries
from actors.references import id_of
from actors.rendered import UnusableError
from runtime.events import IncomingEvent, take_in
from runtime.ids import new_id
from runtime.operations import ItemError, OperationError, OperationType, Portion, Work
from runtime.operations import queries as files
from sql import load

queries = load("import_contacts")
contacts = load("api_contacts")

PORTION: Final = 2_000
PIECES: Final = 4
STANDARD: Final = ("first_name", "last_name", "email", "phone", "time_zone", "owner_id")
CUSTOM: Final = "custom_fields."

_ADDED: Final = (
    "id", "first_name", "last_name", "email", "email_normalized", "phone", "phone_normalized",
    "time_zone", "owner_id", "custom_fields",
)  # fmt: skip
_WRITTEN: Final = (
    "account_id", "id", "first_name", "last_name", "email", "email_normalized", "phone",
    "phone_normalized", "time_zone", "owner_id", "custom_fields",
)  # fmt: skip
_CHANGE: Final = (
    "account_id", "contact_id", "field", "old_value", "new_value", "user_id", "changed_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: the fields that it sets, or what is wrong with it."""

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    errors: Sequence[ItemError] = ()

    @property
    def email(self) -> str | None:
        """The normalised address by which the contact is known."""
        found: str | None = self.values.get("email_normalized")
        return found


@dataclass(frozen=True, slots=True)
class Rules:
    """What the lines of one account are checked by."""

    country: str
    zone: ZoneInfo
    custom_fields: CustomFields
    columns: Sequence[str | None]
    names: Sequence[str]


async def select(work: Work) -> Portion:
    """Read and check the next lines, in a thread: parsing addresses takes its time."""
    given, state = work.operation.parameters, work.operation.state
    place = (
        Place(state["offset"], state["line"], state["is_inside"])
        if state
        else Place(given["starts_at"], given["first_line"])
    )
    pieces = await work.db.fetch(
        files.file_pieces, work.account_id, work.operation.id, "upload", place.offset, PIECES
    )
    raw = b"".join(piece["content"] for piece in pieces)
    if pieces:
        raw = raw[place.offset - pieces[0]["starts_at"] :]
    is_end = place.offset + len(raw) >= given["size"]
    if not is_end and not raw:
        raise OperationError("file_gone", "the file is not there any more")
    rules = await _rules(work)
    lines, behind, has_ended = await asyncio.to_thread(
        _read, raw, place, given, rules, is_end=is_end
    )
    lines = await _with_known_users(work, lines)
    read = state.get("read", 0) + len(lines)
    following = {
        "offset": behind.offset, "line": behind.line, "is_inside": behind.is_inside, "read": read,
    }  # fmt: skip
    return Portion(lines, following, has_ended, read if has_ended else None)


async def _rules(work: Work) -> Rules:
    account = await work.db.fetchrow(queries.rules, work.account_id)
    assert account is not None
    rows = await work.db.fetch(custom_field_queries.custom_fields_of_accounts, [work.account_id])
    defined = {r["key"]: CustomField(r["key"], r["field_type"], tuple(r["options"])) for r in rows}
    given = work.operation.parameters
    zone = ZoneInfo(account["time_zone"])
    return Rules(account["country"], zone, defined, given["columns"], given["names"])


def _read(
    raw: bytes, place: Place, given: Mapping[str, Any], rules: Rules, *, is_end: bool
) -> tuple[list[Line], Place, bool]:
    records, behind, has_ended = read_records(
        raw,
        place,
        delimiter=given["delimiter"],
        line_end=given["line_end"],
        most=PORTION,
        is_end=is_end,
    )
    return [_line(record, rules) for record in records], behind, has_ended


def _line(record: Record, rules: Rules) -> Line:
    number = record.line
    if record.fault is not None:
        return Line(number, errors=[ItemError(*record.fault, line=number)])
    if len(record.fields) > len(rules.columns):
        message = f"The line has {len(record.fields)} fields, the header {len(rules.columns)}."
        return Line(number, errors=[ItemError("too_many_fields", message, line=number)])
    values: dict[str, Any] = {}
    errors = []
    for name, column, text in zip(rules.names, rules.columns, record.fields, strict=False):
        if column is None or not (stripped := text.strip()):
            continue
        try:
            _set(values, column, _plain(stripped), rules)
        except UnusableError as error:
            errors.append(ItemError(error.code, error.message, line=number, column=name))
    if not values and not errors:
        message = "No field of the line says anything."
        errors.append(ItemError("line_says_nothing", message, line=number))
    return Line(number, values, errors)


def _plain(text: str) -> str:
    """Take off the apostrophe that an export puts before what spreadsheets would reckon."""
    if "\x00" in text:
        raise UnusableError("nul_character", "Text must not contain NUL.")
    return text[1:] if text[0] == "'" and text[1:2] in {"=", "+", "-", "@"} else text


def _set(values: dict[str, Any], column: str, text: str, rules: Rules) -> None:
    if column == "owner_id":
        values["owner_id"] = id_of(text, column)
    elif column.startswith(CUSTOM):
        key = column.removeprefix(CUSTOM)
        value = to_field(custom_field(rules.custom_fields, key), text, rules.zone)
        if value is not None:
            values.setdefault("custom_fields", {})[key] = value
    else:
        values |= columns_of(column, text, rules.country)


async def _with_known_users(work: Work, lines: list[Line]) -> list[Line]:
    """Refuse lines whose owner is no user of the account."""
    owners = {line.values["owner_id"] for line in lines if "owner_id" in line.values}
    if not owners:
        return lines
    rows = await work.db.fetch(queries.users_of_account, work.account_id, list(owners))
    known = {row["id"] for row in rows}
    return [
        line
        if line.values.get("owner_id") is None or line.values["owner_id"] in known
        else Line(line.number, errors=[*line.errors, _unknown_user(line)])
        for line in lines
    ]


def _unknown_user(line: Line) -> ItemError:
    return ItemError("user_unknown", "There is no such user.", line=line.number, column="owner_id")


async def perform(work: Work, items: Sequence[Line]) -> list[list[ItemError]]:
    """Make or change the contacts of the lines that are right, and announce it."""
    run = _Run(work)
    good = [line for line in items if not line.errors]
    await run.put(good)
    await run.tag_and_announce()
    counts = {"created": len(run.created), "updated": len(run.changed), "unchanged": run.unchanged}
    for name, number in counts.items():
        work.result[name] = work.result.get(name, 0) + number
    skipped = sum(line.number in run.errors for line in good)
    work.result["skipped"] = work.result.get("skipped", 0) + skipped
    return [[*line.errors, *run.errors.get(line.number, ())] for line in items]


class _Run:
    """One portion being written, in the transaction that counts it."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.is_updating = work.operation.parameters["duplicates"] == "update"
        self.created: list[UUID] = []
        self.changed: dict[UUID, list[str]] = {}
        self.touched: set[UUID] = set()
        self.unchanged = 0
        self.errors: dict[int, list[ItemError]] = {}

    async def put(self, lines: Sequence[Line]) -> None:
        """Write the lines: the first of each address makes its contact unless there is one."""
        emails = sorted({line.email for line in lines if line.email})
        owners = await self._lock_owners(emails)
        firsts = {line.email: line.number for line in reversed(lines) if line.email}
        new = [
            line
            for line in lines
            if not line.email or (line.email not in owners and firsts[line.email] == line.number)
        ]
        made = await self._add(new)
        rest = [line for line in lines if line.number not in made]
        if rest and self.is_updating:
            # Those that others have made meanwhile, and those that were made just now.
            owners = await self._lock_owners(sorted({e for line in rest if (e := line.email)}))
            await self._update(rest, owners)
        elif rest:
            taken = {e: n for e, n in firsts.items() if n in made}
            for line in rest:
                self._skip(line, taken.get(line.email or ""))

    def _skip(self, line: Line, earlier: int | None) -> None:
        message = (
            "A contact has this e-mail address already."
            if earlier is None
            else f"Line {earlier} has the same e-mail address."
        )
        code = "email_taken" if earlier is None else "email_twice_in_file"
        error = ItemError(code, message, line=line.number, column=self._column("email"))
        self.errors[line.number] = [error]

    def _column(self, name: str) -> str | None:
        given = self.work.operation.parameters
        return next(
            (n for n, c in zip(given["names"], given["columns"], strict=True) if c == name), None
        )

    async def _lock_owners(self, emails: Sequence[str]) -> dict[str, dict[str, Any]]:
        if not emails:
            return {}
        rows = await self.work.db.fetch(queries.lock_owners, self.work.account_id, emails)
        return {row["email_normalized"]: dict(row) for row in rows}

    async def _add(self, lines: Sequence[Line]) -> set[int]:
        """Make contacts; gives the numbers of the lines that made one."""
        if not lines:
            return set()
        # In the order of their e-mails, as everybody does: the index's entries are locked in it.
        rows = sorted(
            ({"id": new_id(), "custom_fields": {}, **line.values, "number": line.number}
             for line in lines),
            key=lambda row: row.get("email_normalized") or "",
        )  # fmt: skip
        columns = [[row.get(name) for row in rows] for name in _ADDED]
        work = self.work
        made = await work.db.fetch(contacts.add_contacts, work.account_id, work.now, *columns)
        ids = {row["id"] for row in made}
        self.created = [row["id"] for row in rows if row["id"] in ids]
        self.touched |= ids
        return {row["number"] for row in rows if row["id"] in ids}

    async def _update(self, lines: Sequence[Line], owners: Mapping[str, dict[str, Any]]) -> None:
        """Change the contacts that have the lines' addresses; later lines win."""
        before = {email: owners[email] for email in owners}
        after = {email: copy_of(contact) for email, contact in owners.items()}
        for line in lines:
            contact = after.get(line.email or "")
            if contact is None:  # made and changed by others while we looked
                self._skip(line, None)
                continue
            values = dict(line.values)
            contact["custom_fields"] |= values.pop("custom_fields", {})
            contact |= values
        changes = []
        for email, contact in after.items():
            found = differences(before[email], contact)
            self.touched.add(contact["id"])
            if found:
                self.changed[contact["id"]] = list(found)
                changes += [(contact["id"], name, old, new) for name, (old, new) in found.items()]
            else:
                self.unchanged += 1
        written = [c for c in after.values() if c["id"] in self.changed]
        await self._write(sorted(written, key=lambda c: c["id"]), changes)

    async def _write(
        self, written: Sequence[Mapping[str, Any]], changes: Sequence[tuple[Any, ...]]
    ) -> None:
        if not written:
            return
        work = self.work
        columns = [[contact[name] for contact in written] for name in _WRITTEN]
        await work.db.execute(changing.update_contacts, *columns, work.now)
        user = work.operation.created_by
        rows = [(work.account_id, *change, user, work.now) for change in changes]
        await work.db.copy_records_to_table(
            "contact_field_changes", columns=_CHANGE, records=rows
        )  # fmt: skip

    async def tag_and_announce(self) -> None:
        """Give the tag to whom the lines name, and emit the events that the API would."""
        work = self.work
        events = [
            self._event("contact_created", i, {"is_duplicate": False}) for i in self.created
        ]  # fmt: skip
        events += [
            self._event("contact_updated", i, {"changed_fields": names})
            for i, names in self.changed.items()
        ]
        if tag_id := work.operation.parameters.get("tag_id"):
            tag = await work.db.fetchrow(queries.tag, work.account_id, UUID(tag_id))
            if tag is None:
                raise OperationError("tag_gone", "the tag was deleted")
            rows = await work.db.fetch(
                queries.add_contact_tags, work.account_id, list(self.touched), tag["id"], work.now
            )
            told = {"tag_id": tag_id, "tag_name": tag["name"]}
            events += [
                IncomingEvent(work.account_id, "tag_added", row["contact_id"], told)
                for row in rows
            ]  # fmt: skip
        if events:
            _, bells = await take_in(work.db, events)
            work.bells |= bells

    def _event(self, event_type: str, contact_id: UUID, told: Mapping[str, Any]) -> IncomingEvent:
        payload = {"contact_id": str(contact_id), **told}
        return IncomingEvent(self.work.account_id, event_type, contact_id, payload)


def where(item: Line, code: str, message: str) -> ItemError:
    """Say why a line could not be taken in."""
    return ItemError(code, message, line=item.number)


OPERATION: Final = OperationType("import_contacts", select, perform, where)
