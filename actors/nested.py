"""Objects inside a config whose shape another field decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from actors.fields import INCOMPLETE, misfit
from runtime.configuration import faults_of


def check(model: type[BaseModel], value: Mapping[str, Any], field: str) -> None:
    """Check `value`, which stands at `field`, by a model; for use inside a validator.

    What is wrong counts before what is missing, of each the first; missing parts leave a draft
    incomplete.
    """
    try:
        model.model_validate(value)
    except ValidationError as error:
        faults = faults_of(error, model, field)
        wrong = [fault for fault in faults if fault.code not in INCOMPLETE]
        fault = (wrong or faults)[0]
        raise misfit(fault.code if wrong else "incomplete", fault.path, fault.message) from None
