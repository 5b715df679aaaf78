"""What answers show: the models that routes declare and the OpenAPI document describes.

Handlers go on answering with plain rows, which costs nothing; tests hold every answer to the
model of its route, so that neither can say something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Shown(BaseModel):
    """The base of everything that is shown: closed, and each field is always there.

    Where a field is left out of some answers, give it a default. The document names a model by
    its class, without the prefix: ShownWorkflow is Workflow.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Listing(Shown, Generic[Item]):
    """A list that is always shown whole."""

    items: list[Item]


class PageOf(Shown, Generic[Item]):
    """One page of a list; `next_cursor` leads to the next one, null says that there is none."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is no JSON: a file of one of these media types, such as text/csv."""

    media_types: tuple[str, ...]
