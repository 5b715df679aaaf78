"""Reading CSV (RFC 4180) piece by piece, line by line, so that one bad line spoils no other.

A quote that is never closed would swallow the rest of a file: a record has at most MOST_LINES
lines and LONGEST_RECORD bytes, and where its quotes do not come out even by then, its first line
alone is malformed.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_LINES: Final = 100
LONGEST_RECORD: Final = 64 << 10
_BREATHE_EVERY: Final = 50


@dataclass(frozen=True, slots=True)
class Record:
    """One record: the line that it begins on, counted from 1, and its fields; or what is wrong."""

    line: int
    fields: Sequence[str] = ()
    fault: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where to read on: bytes from the beginning of the file, and the number of the line there.

    `is_inside`: in the middle of a line that is too long, which is skipped.
    """

    offset: int
    line: int
    is_inside: bool = False


def read_records(
    raw: bytes, place: Place, *, delimiter: str, line_end: str, most: int, is_end: bool
) -> tuple[list[Record], Place, bool]:
    """Read at most `most` records from UTF-8 bytes that begin at `place`.

    `is_end` says that nothing follows `raw`; without it a record that is cut off is left for the
    next piece. Gives the records, the place behind them, and whether the end was reached. Empty
    lines are passed over. Lets other threads have their turn now and then.
    """
    reader = _Reader(raw, place, delimiter, line_end.encode(), is_end)
    records: list[Record] = []
    while len(records) < most and (record := reader.next()) is not None:
        records.append(record)
        if len(records) % _BREATHE_EVERY == 0:
            time.sleep(0)
    return records, reader.place, is_end and reader.offset >= len(raw)


class _Reader:
    def __init__(
        self, raw: bytes, place: Place, delimiter: str, line_end: bytes, is_end: bool
    ) -> None:
        self._raw = raw
        self._start = place.offset
        self._delimiter = delimiter
        self._line_end = line_end
        self._is_end = is_end
        self.offset = 0
        self._line = place.line
        self._is_inside = place.is_inside

    @property
    def place(self) -> Place:
        return Place(self._start + self.offset, self._line, self._is_inside)

    def next(self) -> Record | None:
        """Give the next record that is not empty; None where the piece has no whole one."""
        while (end := self._line_ends(self.offset)) is not None:
            if self._is_inside:
                self._is_inside = False
                self._go_to(end)
                continue
            line = self._line
            text = self._raw[self.offset : end]
            if len(text) > LONGEST_RECORD:
                self._go_to(end)
                return _too_long(line)
            if not text.strip():
                self._go_to(end)
            elif b'"' not in text:
                self._go_to(end)
                fields = text.decode().rstrip("\r\n").split(self._delimiter)
                return Record(line, fields)
            else:
                return self._quoted(end)
        return self._overlong()

    def _quoted(self, first_end: int) -> Record | None:
        """Read a record with quotes, which may go on over several lines."""
        line, end = self._line, first_end
        for _ in range(MOST_LINES):
            text = self._raw[self.offset : end]
            if len(text) > LONGEST_RECORD:
                break
            if text.count(b'"') % 2 == 0:
                if (fields := self._parse(text)) is None:
                    break
                self._go_to(end)
                return Record(line, fields)
            following = self._line_ends(end)
            if following is None:
                if self._is_end:
                    break
                return None  # the rest of it is in the next piece
            end = following
        fields = self._parse(self._raw[self.offset : first_end])
        self._go_to(first_end)
        if fields is not None:
            return Record(line, fields)  # such as 5" pipe
        return Record(line, fault=("quotes_malformed", "The quotes of this line do not fit."))

    def _parse(self, text: bytes) -> list[str] | None:
        try:
            rows = list(
                csv.reader([text.decode()], delimiter=self._delimiter, strict=True)
            )  # fmt: skip
        except csv.Error:
            return None
        return rows[0] if len(rows) == 1 else None

    def _overlong(self) -> Record | None:
        """Skip what is there of a line that does not end in this piece and is too long."""
        if len(self._raw) - self.offset <= LONGEST_RECORD and not self._is_inside:
            return None
        line, was_inside = self._line, self._is_inside
        self.offset, self._is_inside = len(self._raw), True
        return None if was_inside else _too_long(line)

    def _line_ends(self, start: int) -> int | None:
        if start >= len(self._raw):
            return None
        found = self._raw.find(self._line_end, start)
        if found >= 0:
            return found + len(self._line_end)
        return len(self._raw) if self._is_end else None

    def _go_to(self, end: int) -> None:
        self._line += self._raw.count(self._line_end, self.offset, end)
        self.offset = end


def _too_long(line: int) -> Record:
    return Record(line, fault=("line_too_long", f"A line has at most {LONGEST_RECORD} bytes."))
