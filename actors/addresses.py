"""E-mail addresses, phone numbers, links and header texts in configs.

What is literal is checked when it is saved. What holds merge fields is known only after rendering:
of it the template syntax is checked here, and the performance checks the rest.
"""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from actors.fields import RequiredMergeText

_MERGE_BEGIN: Final = re.compile(r"\{[{%#]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_SCHEME: Final = re.compile(r"https?://", re.IGNORECASE)
_NOT_IN_LINK: Final = re.compile(r"[\x00-\x20\x7f\\]")


def has_merge_fields(text: str) -> bool:
    """Whether a text is rendered at all; one without merge fields is what it says."""
    return _MERGE_BEGIN.search(text) is not None


def literal_prefix(text: str) -> str:
    """The part of a text that stands before its first merge field."""
    return _MERGE_BEGIN.split(text, maxsplit=1)[0]


def single_line(text: str) -> str:
    """Refuse control characters: a line break in a header begins another header."""
    if _CONTROL.search(text):
        raise PydanticCustomError("line_break", "this is one line, without control characters")
    return text


def is_phone_number(text: str) -> bool:
    """Whether a text is a phone number in E.164 form."""
    return _E164.fullmatch(text) is not None


def _email(text: str) -> str:
    if has_merge_fields(text):
        return text
    try:
        validate_email(text, check_deliverability=False)
    except EmailNotValidError as error:
        raise PydanticCustomError("email", "{reason}", {"reason": str(error)}) from None
    return text


def _phone(text: str) -> str:
    if not has_merge_fields(text) and not is_phone_number(text):
        raise PydanticCustomError(
            "phone_number", "a number in E.164 form is needed, such as +14155550100"
        )
    return text


def _link(text: str) -> str:
    prefix = literal_prefix(text)
    if not prefix:
        return text
    if not _SCHEME.match(prefix):
        raise PydanticCustomError("url_scheme", "a link begins with http:// or https://")
    if _NOT_IN_LINK.search(prefix):
        raise PydanticCustomError("url", "a link has no spaces, backslashes or control characters")
    if not has_merge_fields(text):
        _check_host(text)
    return text


def _check_host(link: str) -> None:
    try:
        parts = urlsplit(link)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 literal
        usable = False
    if not usable:
        raise PydanticCustomError("url", "a link names a host")


SingleLine = Annotated[RequiredMergeText, AfterValidator(single_line)]
"""Text with merge fields that becomes part of a header."""

EmailAddress = Annotated[SingleLine, AfterValidator(_email)]
"""An e-mail address (internationalised ones too), or merge fields that give one."""

PhoneNumber = Annotated[RequiredMergeText, AfterValidator(_phone)]
"""A phone number in E.164 form, or merge fields that give one."""

Link = Annotated[RequiredMergeText, AfterValidator(_link)]
"""An http or https URL; whatever stands before its first merge field is checked."""
