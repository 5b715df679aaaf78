"""Integrations as clients give them: checked, normalised, with their secrets sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from pydantic import Field, SecretStr

from actors.integration_kinds import KINDS, MOST_ADDRESSES, normalize_address
from actors.integrations import place_of
from actors.rendered import UnusableError
from api.bodies import Body
from api.fields import Name, Object
from api.problems import Problem, invalid
from runtime.configuration import Fault, did_you_mean, faults_of_config
from runtime.secrets import Vault, VaultError

KindName = Literal["smtp", "twilio", "facebook"]
Addresses = Annotated[list[str], Field(min_length=1, max_length=MOST_ADDRESSES)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096)]

Rate = Annotated[float, Field(gt=0, le=100_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]

LIMITS: Final = (
    "rate_per_second", "burst", "max_concurrent", "breaker_failures", "breaker_window_seconds",
    "breaker_open_seconds",
)  # fmt: skip


class NewIntegration(Body):
    """An integration to be.

    `addresses` are what it sends from: e-mail addresses (or `@` and a domain), phone numbers, or
    the number that Facebook gave the page. Limits hold across all workers; without
    `rate_per_second` or `max_concurrent` there is none of that kind. So many `breaker_failures`
    within the window keep everything back for `breaker_open_seconds`, then one message tries.
    """

    kind: KindName
    name: Name
    addresses: Addresses
    settings: Object = Field(default_factory=dict)
    secrets: dict[str, Secret] = Field(default_factory=dict)
    rate_per_second: Rate | None = None
    burst: Count = 1
    max_concurrent: Count | None = None
    breaker_failures: Count = 5
    breaker_window_seconds: Seconds = 60
    breaker_open_seconds: Seconds = 30


class IntegrationChange(Body):
    """What is to change; what is left out stays. A limit of null is taken away.

    `settings` and `addresses` stand instead of the old ones, `secrets` beside them: each that is
    given replaces the old one, null removes it.
    """

    name: Name | None = None
    addresses: Addresses | None = None
    settings: Object | None = None
    secrets: dict[str, Secret | None] = Field(default_factory=dict)
    rate_per_second: Rate | None = None
    burst: Count | None = None
    max_concurrent: Count | None = None
    breaker_failures: Count | None = None
    breaker_window_seconds: Seconds | None = None
    breaker_open_seconds: Seconds | None = None


def settings_of(kind: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Read a kind's settings; gives them as they are stored, and what is wrong with them."""
    model = KINDS[kind].settings
    if faults := faults_of_config(model, given, "settings"):
        return {}, faults
    return model.model_validate_json(orjson.dumps(given)).model_dump(mode="json"), []


def addresses_of(kind: str, given: Sequence[str]) -> tuple[list[str], list[Fault]]:
    """Normalise the addresses that an integration sends from, each once."""
    addresses, faults = [], list[Fault]()
    for index, text in enumerate(given):
        try:
            addresses.append(normalize_address(kind, text))
        except UnusableError as error:
            faults.append(Fault(f"addresses[{index}]", error.code, error.message))
    return list(dict.fromkeys(addresses)), faults


def faults_of_secrets(kind: str, given: Mapping[str, Any], *, is_new: bool) -> list[Fault]:
    """What is wrong with the names of secrets, and which of those that are needed are missing."""
    known, needed = KINDS[kind].secrets, KINDS[kind].needed
    faults = [
        Fault(f"secrets.{name}", "unknown_field", _unknown(name, known))
        for name in given
        if name not in known
    ]
    missing = needed - set(given) if is_new else {n for n in needed if given.get(n, 1) is None}
    return faults + [
        Fault(f"secrets.{name}", "missing", f"{kind} cannot do without it.")
        for name in sorted(missing)
    ]


def _unknown(name: str, known: Sequence[str]) -> str:
    return f"There is no such secret.{did_you_mean(name, known)}"


def sealed(
    vault: Vault, account_id: UUID, integration_id: UUID, secrets: Mapping[str, SecretStr | None]
) -> dict[str, str]:
    """Seal secrets for their integration; a 503 Problem where this process has no key."""
    try:
        return {
            name: vault.seal(secret.get_secret_value(), place_of(account_id, integration_id, name))
            for name, secret in secrets.items()
            if secret is not None
        }
    except VaultError as error:
        raise Problem(503, error.code, str(error)) from None


def check(*faults: list[Fault]) -> None:
    """Refuse with a 422 Problem if there is any fault."""
    if found := [fault for part in faults for fault in part]:
        raise invalid(*found)
