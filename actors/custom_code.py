"""custom_code: run the user's JavaScript in a sandbox with the contact and the workflow."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from actors.fields import Config, storable
from runtime.registry import ActionType

LONGEST_CODE: Final = 100_000

ModuleName = Annotated[
    str, Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$", max_length=214)
]
"""A package's name as npm allows it; which of them exist here is seen when the code runs."""


def _distinct(modules: list[str]) -> list[str]:
    if len(set(modules)) < len(modules):
        raise PydanticCustomError("repeated", "a module is named twice")
    return modules


class CustomCode(Config):
    """The script and its limits.

    The code is no template: what a field holds would become code. A script reads the contact from
    what it is given. 8 MB is the least that V8 starts in.
    """

    code: Annotated[str, Field(min_length=1, max_length=LONGEST_CODE), AfterValidator(storable)]
    timeout_ms: Annotated[int, Field(ge=1, le=5000)] = 5000
    memory_limit_mb: Annotated[int, Field(ge=8, le=128)] = 128
    allowed_modules: Annotated[list[ModuleName], AfterValidator(_distinct)] = Field(
        default_factory=list
    )


ACTION = ActionType(
    name="custom_code", family="code", config=CustomCode, verbatim=frozenset({"code"})
)
