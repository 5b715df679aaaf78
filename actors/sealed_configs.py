"""Secret fields of action configs: sealed when a config is saved, never shown again.

In the database such a field is `{"sealed": "cbs1.…"}`, bound to its account, action and field.
People see `{"sealed": true}`, and give that back to keep what stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import orjson

from runtime.registry import ActionType
from runtime.secrets import Vault

SEALED: Final = "sealed"
SHOWN: Final[Mapping[str, Any]] = {SEALED: True}


def place_of_secret(account_id: UUID, action_id: UUID, field: str) -> str:
    """Name the place that a secret of an action is bound to; versions keep their actions' ids."""
    return f"{account_id}:workflow_actions:{action_id}:{field}"


def with_kept(
    type_: ActionType, config: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Put what stands in place of secrets that a client gives back as they were shown.

    Without anything that stands they are missing, as is whatever else calls itself sealed: only
    we seal.
    """
    made = dict(config)
    for field in type_.secret & made.keys():
        if isinstance(made[field], dict) and SEALED in made[field]:
            del made[field]
            if before is not None and before.get(field) is not None:
                made[field] = before[field]
    return made


def sealed(
    type_: ActionType, config: Mapping[str, Any], vault: Vault, account_id: UUID, action_id: UUID
) -> dict[str, Any]:
    """Seal the secret fields of a checked config; VaultError without a key to seal with."""
    made = dict(config)
    for field in type_.secret & made.keys():
        value = made[field]
        if value and not _is_sealed(value):
            place = place_of_secret(account_id, action_id, field)
            made[field] = {SEALED: vault.seal(orjson.dumps(value).decode(), place)}
    return made


def redacted(type_: ActionType, config: Mapping[str, Any]) -> dict[str, Any]:
    """Show a config without its secrets, whether they are sealed or not."""
    hidden = {field: SHOWN for field in type_.secret if config.get(field)}
    return {**config, **hidden}


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get(SEALED), str)
