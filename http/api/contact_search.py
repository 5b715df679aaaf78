"""Which contacts a list is to show: what its parameters mean as conditions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from pydantic import Field

from actors.contact_addresses import normalize_email
from actors.custom_fields import custom_field, to_field
from actors.rendered import UnusableError
from api.contact_rows import rules_of
from api.fields import Instant
from api.lists import Page
from api.problems import invalid
from runtime.configuration import Fault

MOST_WORDS: Final = 5
_PHONE: Final = re.compile(r"\+?[\d\s()./-]{3,}")


class ContactPage(Page):
    """Which contacts to list.

    `email` finds one however it is written. `search` takes beginnings of names and e-mail
    addresses, all of which must fit, or the last digits of a phone number, three at least.
    `custom_field` is a key and a value, such as company:Acme. `created_before` is exclusive.
    """

    email: Annotated[str, Field(max_length=250)] | None = None
    search: Annotated[str, Field(max_length=200)] | None = None
    tag_id: UUID | None = None
    owner_id: UUID | None = None
    created_from: Instant | None = None
    created_before: Instant | None = None
    custom_field: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*:", max_length=10_100)] | None = (
        None
    )


async def conditions_of(pool: asyncpg.Pool, account_id: UUID, page: ContactPage) -> dict[str, Any]:
    """Give the values that the list's filters compare with; a 422 Problem for those that have none.

    A tag, an owner or a value that nobody has is no error: the list is empty.
    """
    words, digits = _search_of(page.search or "")
    try:
        email = page.email and normalize_email(page.email)
        held = page.custom_field and await _held(pool, account_id, page.custom_field)
    except UnusableError as error:
        raise invalid(Fault(_field_of(error), error.code, error.message)) from None
    return {"email": email, "word": words, "digits": digits, "custom_field": held}


def _field_of(error: UnusableError) -> str:
    return "email" if error.code == "email_unusable" else "custom_field"


def _search_of(text: str) -> tuple[list[str], str | None]:
    if _PHONE.fullmatch(text.strip()):
        # Without the zero that a national number begins with, the digits end an international one.
        digits = re.sub(r"\D", "", text).lstrip("0")
        return [], digits[::-1]
    words = text.lower().split()
    if len(words) > MOST_WORDS:
        message = f"Search for {MOST_WORDS} words at most."
        raise invalid(Fault("search", "too_many_words", message))
    return words, None


async def _held(pool: asyncpg.Pool, account_id: UUID, text: str) -> dict[str, Any]:
    key, _, value = text.partition(":")
    rules = await rules_of(pool, account_id, [])
    stored = to_field(custom_field(rules.custom_fields, key), value, rules.zone)
    return {key: stored} if stored is not None else {}
