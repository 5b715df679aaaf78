"""Objects inside a config whose shape another field decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from actors.fields import INCOMPLETE, incomplete


def check(model: type[BaseModel], value: Mapping[str, Any], field: str) -> None:
    """Check `value`, which stands at `field`, by a model; for use inside a validator.

    What is wrong counts before what is missing; missing parts leave a draft incomplete.
    """
    try:
        model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        wrong = [fault for fault in faults if fault["type"] not in INCOMPLETE]
        fault = (wrong or faults)[0]
        where = ".".join(map(str, (field, *fault["loc"])))
        if not wrong:
            raise incomplete(where, fault["msg"]) from None
        raise PydanticCustomError(
            "nested", "{field}: {reason}", {"field": where, "reason": fault["msg"]}
        ) from None
