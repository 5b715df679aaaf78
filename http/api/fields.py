"""The kinds of value that bodies and query strings share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

INT32_MAX = 2**31 - 1


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text.strip()


Name = Annotated[str, StringConstraints(max_length=200), AfterValidator(_not_blank)]
"""What people call something."""

Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""An identifier that merge fields can use."""

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,49}$")]
"""The name of a domain event."""

Position = Annotated[int, Field(ge=0, le=INT32_MAX)]
"""A place in a chain, counted from 0."""

Object = dict[str, Any]
"""Any JSON object."""
