"""The catalogue of errors as the API shows it: what every code means, and what to do."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from api.answers import answer
from api.calls import PublicRoute
from api.error_catalogue import TYPE, Entry, Language, Occurs, entries, entry_of, language_of, said
from api.problems import not_found
from api.shown import Listing, Shown

_ALL: Final = TYPE.rstrip("/")


class ShownError(Shown):
    """What a code means, in the language asked for. In `code`, `*` stands for any letters.

    `occurs`: as the code of a whole request, of a field in it, or of a step or an effect of a run.
    """

    code: str
    occurs: list[Occurs]
    title: str
    explanation: str
    remedy: str


async def list_all(request: web.Request) -> web.Response:
    """List what all codes mean, in English, German or Spanish, by Accept-Language."""
    language = language_of(request.headers.get("Accept-Language"))
    items = [_shown(code, entry, language) for entry in entries() for code in entry.codes]
    items.sort(key=lambda item: str(item["code"]))
    return answer({"items": items}, headers=headers_of(language))


async def read(request: web.Request) -> web.Response:
    """Say what one code means; the `type` of a problem leads here."""
    code = request.match_info["code"]
    entry = entry_of(code)
    if entry is None:
        raise not_found("error")
    language = language_of(request.headers.get("Accept-Language"))
    return answer(_shown(code, entry, language), headers=headers_of(language))


def headers_of(language: Language) -> dict[str, str]:
    """Give the headers of an answer that was put into a language."""
    return {"Content-Language": language, "Vary": "Accept-Language"}


def meaning_of(code: str | None, language: Language) -> dict[str, object] | None:
    """Show what a code means; None without one, and for one that no entry is of."""
    entry = None if code is None else entry_of(code)
    return None if code is None or entry is None else _shown(code, entry, language)


def _shown(code: str, entry: Entry, language: Language) -> dict[str, object]:
    words = said(entry, language)
    return {
        "code": code,
        "occurs": list(entry.occurs),
        "title": words.title,
        "explanation": words.explanation,
        "remedy": words.remedy,
    }


PUBLIC_ROUTES: Final = (
    PublicRoute("GET", _ALL, list_all, answers={200: Listing[ShownError]}),
    PublicRoute(
        "GET", f"{_ALL}/{{code}}", read, answers={200: ShownError}, problems=frozenset({404})
    ),
)
