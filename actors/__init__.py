"""The actors' types: modules of this package with an ACTION, EFFECT, TIMER or OPERATION.

Each type is one file; adding the 25th is adding one file.
"""

from __future__ import annotations

import importlib
import pkgutil

from runtime.operations import OperationType
from runtime.registry import ActionType, EffectType, Registry, TimerType


def load() -> Registry:
    """Import every module of the package and gather what they declare."""
    actions: dict[str, ActionType] = {}
    effects: dict[str, EffectType] = {}
    timers: dict[str, TimerType] = {}
    operations: dict[str, OperationType] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        if isinstance(action := getattr(module, "ACTION", None), ActionType):
            actions[action.name] = action
        if isinstance(effect := getattr(module, "EFFECT", None), EffectType):
            effects[effect.kind] = effect
        if isinstance(timer := getattr(module, "TIMER", None), TimerType):
            timers[timer.kind] = timer
        if isinstance(operation := getattr(module, "OPERATION", None), OperationType):
            operations[operation.kind] = operation
    return Registry(actions=actions, effects=effects, timers=timers, operations=operations)


registry = load()
