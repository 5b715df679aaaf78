"""What a config says literally is checked when it is saved, by the rules for what is rendered.

A text with merge fields is known only after rendering; the performance checks that. What depends
on the account (its country, its custom fields, which ids exist) is not looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from actors.addresses import has_merge_fields
from actors.fields import misfit
from actors.rendered import UnusableError


def literal(check: Callable[[str], object]) -> AfterValidator:
    """Refuse a text without merge fields for which the check raises UnusableError."""

    def validate(text: str) -> str:
        if not has_merge_fields(text):
            try:
                check(text)
            except UnusableError as error:
                refusal = {"reason": error.message}
                raise PydanticCustomError(error.code, "{reason}", refusal) from None
        return text

    return AfterValidator(validate)


@contextmanager
def refusing(field: str) -> Iterator[None]:
    """Turn UnusableError into a refusal of this field; for use inside a model's validator."""
    try:
        yield
    except UnusableError as error:
        raise misfit(error.code, field, error.message) from None
