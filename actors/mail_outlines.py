"""Outlines of templates: where the links of all mails of one version are, found once.

Marks are put into the template's source, around its links and at its end. They go through rendering
and fall out of the mail, and where they were, the links are. That holds where no merge field can
make or unmake a tag: each is a plain field in text or in a quoted value, and is escaped. For any
other template, and for a mail in which the marks are not as they were put, each mail's own HTML is
looked at instead (mail_links.outline_of), with the same result.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from actors.mail_links import (
    Construct,
    Link,
    Outline,
    constructs,
    href_of,
    outline_of,
    target_of,
    values_of,
)
from runtime.templates import TemplateError, Text, compile_text

_FIELD: Final = re.compile(
    r"\{\{\s*+[A-Za-z_][\w.]*+\s*+(?:\|\s*+default\(\s*+(?:'[^'<>&\"{}]*+'|\"[^\"<>&'{}]*+\")\s*+\)\s*+)?+\}\}"
)
_SLOT: Final = "\ue003"
_MARK: Final = "\ue000"
_PRIVATE: Final = re.compile("[\ue000-\ue003]")
_BRACES: Final = re.compile(r"\{[{%#]|[}%#]\}")
# A field right behind it could make a tag, or go on with one.
_BEGINNING: Final = re.compile(f"<[^>\n {_SLOT}]{{0,8}}{_SLOT}")


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A template's HTML with marks in it; `targets` are None where a merge field is in the link."""

    text: Text
    targets: Sequence[str | None]
    links_before_end: int

    def read(self, rendered: str) -> tuple[str, Outline] | None:
        """Take the marks out of what `text` rendered; None if a field brought one of its own."""
        pieces = rendered.split(_MARK)
        if len(pieces) != 2 * len(self.targets) + 2:
            return None
        ends = list(accumulate(map(len, pieces)))
        links = []
        for number, known in enumerate(self.targets):
            place = 2 * number + (1 if number < self.links_before_end else 2)
            target = target_of(pieces[place]) if known is None else known
            if target is not None:
                links.append(Link(ends[place - 1], ends[place], target))
        end = ends[2 * self.links_before_end]
        return "".join(pieces), Outline(tuple(links), end)


def marked(source: str) -> MarkedText | None:
    """Mark a template; None where each mail is to be looked at by itself."""
    if _PRIVATE.search(source):
        return None
    fields = _FIELD.findall(source)
    slotted = _FIELD.sub(_SLOT, source)
    found = list(constructs(slotted))
    if _BRACES.search(slotted) or _BEGINNING.search(slotted) or not _is_settled(slotted, found):
        return None
    hrefs = [href for one in found if (href := href_of(slotted, one)) is not None]
    targets = [_target(slotted[slice(*href)]) for href in hrefs]
    links = [(href, to) for href, to in zip(hrefs, targets, strict=True) if to is not None]
    end = outline_of(slotted).end
    places = sorted([end, *(place for href, _ in links for place in href)])
    whole = _with_marks(slotted, places)
    parts = whole.split(_SLOT)
    text = "".join(a + b for a, b in zip(parts, [*fields, ""], strict=True))
    known = [to if isinstance(to, str) else None for _, to in links]
    before = sum(href[1] <= end for href, _ in links)
    try:
        return MarkedText(compile_text(text, html=True), known, before)
    except TemplateError:  # too long with its marks, or wrong without them as well
        return None


_UNKNOWN: Final = object()


def _target(value: str) -> object:
    """The address in a link's value: known, not known before it is rendered, or none (None)."""
    return _UNKNOWN if _SLOT in value else target_of(value)


def _is_settled(slotted: str, found: Sequence[Construct]) -> bool:
    """Whether every field stands in text or in a quoted value, where it can change no tag."""
    for one in found:
        if one.is_open:
            return _SLOT not in slotted[one.start :]
        if one.tag is None:
            inside = slotted[one.start : one.end].count(_SLOT)
        else:
            quoted = sum(slotted.count(_SLOT, *place) for place in values_of(slotted, one))
            inside = one.tag[0].count(_SLOT) - quoted
        if inside:
            return False
    return True


def _with_marks(text: str, places: Sequence[int]) -> str:
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    return _MARK.join(pieces)
