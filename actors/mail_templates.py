"""Templates of mails: HTML with merge fields and, written or generated, the same as plain text.

What fields hold is escaped in the HTML and nowhere else. A template that has no text gets one from
its HTML, made once for all recipients: merge fields pass through as they stand. Where they cannot,
because a condition stands in an attribute, the text is made of each recipient's HTML instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg
from inscriptis import get_text

from actors.mail_bytes import quoted_lines
from actors.mail_links import Outline
from actors.mail_outlines import MarkedText, marked
from runtime.templates import TemplateError, Text, compile_text
from sql import load

queries = load("email")

_TAGS: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_MARK: Final = re.compile("\ue000([0-9]+)\ue001")
_LINES: Final = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class MailTemplate:
    """One version of a template, compiled; `text` is None where it is made of the rendered HTML.

    `lines` are those that are the same in all mails, as they stand in one.
    """

    html: Text
    text: Text | None
    lines: Mapping[str, bytes]
    marked: MarkedText | None = None
    """The HTML once more, with marks for what is tracked; None where they cannot be put."""

    @property
    def fields(self) -> frozenset[str]:
        """The dotted paths that rendering reads."""
        return self.html.fields | (self.text.fields if self.text else frozenset())

    def render(self, context: Mapping[str, Any]) -> tuple[str, str]:
        """Give HTML and text; raises TemplateError and nothing else."""
        html, text, _ = self._with_text(self.html.render(context), None, context)
        return html, text

    def render_outlined(self, context: Mapping[str, Any]) -> tuple[str, str, Outline | None]:
        """Give the outline of the HTML too, where it is known without a look at it."""
        if self.marked is not None:
            with suppress(TemplateError):  # too long with its marks, or without them as well
                if (read := self.marked.read(self.marked.text.render(context))) is not None:
                    return self._with_text(*read, context)
        return self._with_text(self.html.render(context), None, context)

    def _with_text(
        self, html: str, outline: Outline | None, context: Mapping[str, Any]
    ) -> tuple[str, str, Outline | None]:
        text = plain_of(html) if self.text is None else self.text.render(context)
        return html, text, outline


def compile_mail(html: str, text: str | None) -> MailTemplate:
    """Compile a template's version; raises TemplateError."""
    compiled = compile_text(html, html=True)
    plain = _generated(html) if text is None else compile_text(text)
    lines = quoted_lines(f"{plain.source if plain else ''}\n{html}")
    return MailTemplate(compiled, plain, lines, marked(html))


def plain_of(html: str) -> str:
    """Give HTML as text; nothing for what no parser makes sense of."""
    try:
        text: str = get_text(html)
    except (ValueError, RecursionError, AssertionError):  # of lxml, for what is hardly HTML
        return ""
    return _LINES.sub("\n\n", "\n".join(map(str.rstrip, text.split("\n")))).strip() + "\n"


def _generated(html: str) -> Text | None:
    """The text of a template; None where a merge field would be lost on the way."""
    if "\ue000" in html:
        return None
    tags: list[str] = []

    def mark(tag: re.Match[str]) -> str:
        tags.append(tag[0])
        return f"\ue000{len(tags) - 1}\ue001"

    text = _MARK.sub(lambda found: tags[int(found[1])], plain_of(_TAGS.sub(mark, html)))
    if any("%" in tag[:2] and tag not in text for tag in tags):
        return None
    try:
        return compile_text(text)
    except TemplateError:
        return None


_compiled: dict[tuple[UUID, UUID, int], MailTemplate] = {}
"""Versions never change, so that what was compiled once serves the whole process."""

MOST_COMPILED: Final = 200


class Fetches(Protocol):
    """A connection or a pool."""

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Read rows."""


async def read_template(db: Fetches, key: tuple[UUID, UUID, int]) -> MailTemplate | None:
    """Read one version, by account, template and number; None when it was deleted."""
    return _compiled.get(key) or (await read_templates(db, [key])).get(key)


async def read_templates(
    db: Fetches, wanted: Iterable[tuple[UUID, UUID, int]]
) -> dict[tuple[UUID, UUID, int], MailTemplate]:
    """Read versions, by account, template and number; one statement for those not yet read."""
    keys = set(wanted)
    missing = sorted(keys - _compiled.keys())
    found = {key: _compiled[key] for key in keys if key in _compiled}
    if not missing:
        return found
    rows = await db.fetch(queries.contents, *map(list, zip(*missing, strict=True)))
    if len(_compiled) + len(rows) > MOST_COMPILED:
        _compiled.clear()
    for row in rows:
        key = row["account_id"], row["template_id"], row["version"]
        found[key] = _compiled[key] = compile_mail(row["html"], row["text"])
    return found
