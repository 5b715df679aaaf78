"""What every code means, in people's language: title, explanation, and what to do.

The English texts stand in errors/catalogue.toml, the translations beside it as gettext catalogues
(de.po, es.po) whose msgid is the English text. A test holds the catalogue to the codes of the
source, and the translations to the catalogue.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, get_args

from babel import negotiate_locale
from babel.messages.pofile import read_po

Language = Literal["en", "de", "es"]
Occurs = Literal["request", "field", "run"]

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
TYPE: Final = "/api/v1/errors/"
"""A problem's `type` (RFC 9457, 3.1.1): this and its code, where the code is explained."""

_FOLDER: Final = Path(__file__).with_name("errors")
_LONGEST_HEADER: Final = 1_000
_RANGE: Final = re.compile(
    r"(\*|[a-zA-Z]{1,8}(?:-[a-zA-Z0-9]{1,8})*)(?:\s*;\s*[qQ]=([0-9.]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What some codes mean, in English; in a code `*` stands for any letters."""

    codes: tuple[str, ...]
    occurs: tuple[Occurs, ...]
    title: str
    explanation: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a code means, in one language."""

    title: str
    explanation: str
    remedy: str


@cache
def entries() -> tuple[Entry, ...]:
    """Read the English catalogue."""
    with (_FOLDER / "catalogue.toml").open("rb") as file:
        rows = tomllib.load(file)["entry"]
    return tuple(
        Entry(**{**row, "codes": tuple(row["codes"]), "occurs": tuple(row["occurs"])})
        for row in rows
    )


@cache
def translations(language: Language) -> Mapping[str, str]:
    """Read the texts of a language, by the English ones."""
    if language == "en":
        return {}
    with (_FOLDER / f"{language}.po").open("rb") as file:
        catalogue = read_po(file, locale=language, abort_invalid=True)
    return {
        str(message.id): str(message.string)
        for message in catalogue
        if message.id and message.string and not message.fuzzy
    }


@cache
def _exact() -> Mapping[str, Entry]:
    return {code: entry for entry in entries() for code in entry.codes if "*" not in code}


@cache
def _patterns() -> Sequence[tuple[re.Pattern[str], Entry]]:
    """The patterns, those that say the most first."""
    found = [(code, entry) for entry in entries() for code in entry.codes if "*" in code]
    found.sort(key=lambda one: -len(one[0]))
    return [(re.compile(re.escape(code).replace(r"\*", "[a-z0-9_]*")), e) for code, e in found]


def entry_of(code: str) -> Entry | None:
    """Find what a code means: by the code itself, else by the pattern that says the most."""
    if (entry := _exact().get(code)) is not None:
        return entry
    return next((entry for pattern, entry in _patterns() if pattern.fullmatch(code)), None)


@cache
def said(entry: Entry, language: Language) -> Said:
    """Say it in a language; what is not translated is English."""
    texts = translations(language)
    return Said(*(texts.get(t, t) for t in (entry.title, entry.explanation, entry.remedy)))


def language_of(accepted: str | None) -> Language:
    """Choose the language by an Accept-Language header (RFC 9110, 12.5.4); English for any other.

    A header that cannot be read is no error.
    """
    parts = (accepted or "")[:_LONGEST_HEADER].split(",")
    ranges = filter(None, (_RANGE.fullmatch(part.strip()) for part in parts))
    wanted = sorted(((_quality(r[2]), r[1]) for r in ranges), key=lambda one: -one[0])
    tags = ["en" if tag == "*" else tag.lower() for quality, tag in wanted if quality > 0]
    chosen = negotiate_locale(tags, LANGUAGES, sep="-")
    return next((language for language in LANGUAGES if language == chosen), "en")


def _quality(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
