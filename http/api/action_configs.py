"""Configs of actions in a draft: defaults, what is wrong, what is still missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from actors.fields import INCOMPLETE
from api.problems import invalid
from runtime.configuration import Fault, did_you_mean, faults_of_config
from runtime.registry import ActionType, Registry


def action_type(registry: Registry, name: str) -> ActionType:
    """Find a type by name; a 422 Problem with the nearest name if there is none."""
    if name not in registry.actions:
        message = f"There is no such action type.{did_you_mean(name, registry.actions)}"
        raise invalid(Fault("action_type", "unknown_action_type", message))
    return registry.actions[name]


def defaults(type_: ActionType) -> dict[str, Any]:
    """Give the config of an action that was made by its type alone: every default there is."""
    return type_.config.model_construct().model_dump(mode="json", exclude_none=True)


def check(type_: ActionType, config: Mapping[str, Any]) -> None:
    """Refuse wrong values; what is only missing may come later."""
    wrong = [f for f in faults_of_config(type_.config, config, "action_config") if is_wrong(f)]
    if wrong:
        raise invalid(*wrong)


def is_wrong(fault: Fault) -> bool:
    """Whether a fault is more than something that is not there yet."""
    return fault.code not in INCOMPLETE


def status(
    type_: ActionType, config: Mapping[str, Any], broken: Sequence[Fault] = ()
) -> dict[str, Any]:
    """Say whether a config is complete, and if not, what is missing.

    `invalid` is what was right when it was saved: `broken` by what became of others (an action that
    was deleted or moved, a row that is gone), or by a type that has become stricter.
    """
    faults = [*faults_of_config(type_.config, config, ""), *broken]
    return {
        "complete": not faults,
        "missing": [f.path or f.message for f in faults if not is_wrong(f)],
        "invalid": [f for f in faults if is_wrong(f)],
    }


def free_key(wanted: str, taken: Collection[str]) -> str:
    """Give the first of add_tag, add_tag_2, add_tag_3 … that is free in the workflow."""
    key, number = wanted, 1
    while key in taken:
        number += 1
        key = f"{wanted}_{number}"
    return key
