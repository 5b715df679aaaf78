"""Settings of every Callboard process, read from `CALLBOARD_*` variables and `DATABASE_URL`."""

import json
import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runtime.configuration import did_you_mean
from runtime.public_keys import parse_public_keys
from runtime.registry import FAMILIES
from runtime.secret_keys import parse_keys

LONGEST_RETENTION_DAYS: Final = 36_500
"""A hundred years: what is reckoned from it stays far from the ends of Python's calendar."""

_LARGEST_INT32: Final = 2_147_483_647  # PostgreSQL's time-outs are of this type
_PREFIX: Final = "CALLBOARD_"
# Kubernetes gives every pod such variables for a service whose name begins with "callboard".
_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$"
)
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def _default_data() -> Path:
    # Root's own server gives its privileges away, and must never need root's private home for it.
    if os.geteuid() == 0:
        return Path("/var/lib/callboard")
    return Path.home() / ".local" / "share" / "callboard"


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _by_family(value: object) -> object:
    """Read JSON text; ValueError for what is none and for a family that does not exist."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f'must be JSON like {{"crm": 2}} ({error})') from None
    for family in value if isinstance(value, dict) else ():
        if family not in FAMILIES:
            raise ValueError(f"there is no family {family!r}.{did_you_mean(family, FAMILIES)}")
    return value


def _hosts(value: object) -> object:
    """Read a list of hosts, in lower case; those of IPv6 stand in brackets."""
    if isinstance(value, str):
        return frozenset(part.strip().lower() for part in value.split(",") if part.strip())
    return value


_Retention = Annotated[float, Field(gt=0, le=LONGEST_RETENTION_DAYS, allow_inf_nan=False)]


class SettingsError(Exception):
    """A variable holds a value that Callboard cannot use; the text names it and says why."""


class Settings(BaseSettings):
    """What an operator may set. Units stand in the names; every field has a variable of its own.

    `Settings(batch_size=10)` overrides the environment (for tests). A wrong value is a pydantic
    ValidationError here and a SettingsError from `load_settings`.
    """

    model_config = SettingsConfigDict(
        env_prefix="CALLBOARD_",
        populate_by_name=True,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
    )

    # Where things are
    database_url: str | None = Field(
        None,
        validation_alias="DATABASE_URL",
        pattern=r"^postgres(ql)?://",
        description="PostgreSQL 16 or newer; unset: an embedded server in the data folder",
    )
    data: Path = Field(
        default_factory=_default_data, description="folder of the embedded PostgreSQL"
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+",
        description="base of callbacks, signatures and links; unset: the API's own address",
    )
    api_host: str = Field("127.0.0.1", min_length=1, description="address the API listens on")
    api_port: int = Field(8100, ge=0, le=65535, description="0 takes any free port")
    secret_keys: SecretStr | None = Field(
        None,
        description="name:key,… seal secrets at rest (32 bytes in base64; the first seals, all "
        "open); unset: a key file beside the embedded server",
    )
    inside_hosts: Annotated[frozenset[str], NoDecode, BeforeValidator(_hosts)] = Field(
        frozenset(),
        description="host or host:port, separated by commas: private hosts that webhooks and "
        "scripts may reach",
    )

    # Who may call the API, and how often
    api_rate_per_second: float = Field(
        500,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="requests of a token per second, in each API process; 0: no limit",
    )
    api_rate_burst: int = Field(
        1_000, ge=1, le=1_000_000, description="requests of one token at once"
    )
    api_failures_per_minute: int = Field(
        600,
        ge=0,
        le=1_000_000,
        description="unusable tokens that one address may send; 0 (behind a proxy): no limit",
    )
    idempotency_hours: float = Field(
        24,
        gt=0,
        le=720,
        allow_inf_nan=False,
        description="how long an answer is kept under its Idempotency-Key",
    )
    jwt_issuer: str | None = Field(
        None, min_length=1, description="issuer whose JWTs are taken; unset: none are"
    )
    jwt_audience: str | None = Field(
        None, min_length=1, description="what the aud of a JWT must hold"
    )
    jwt_jwks_url: str | None = Field(
        None,
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/])",
        description="where the issuer publishes its keys (JWKS); https, or loopback",
    )
    jwt_public_keys: str | None = Field(
        None, description="the issuer's public keys in PEM, instead of a JWKS"
    )
    jwt_max_seconds: int = Field(3_600, ge=10, le=86_400, description="longest life of a JWT")
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="address a worker's metrics are served at"
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="port of a worker's /metrics for Prometheus; 0: none"
    )

    # What is logged
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field("info", description="least severe line that is logged")
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        "console", description="console for people, json for machines"
    )
    otel: bool = Field(
        False, description="send traces by OpenTelemetry (extra otel), as OTEL_* variables say"
    )

    # How work is claimed
    batch_size: int = Field(500, ge=1, le=5000, description="steps that an actor claims at once")
    lease_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="how long a silent worker keeps what it has in hand; at least two heartbeats",
    )
    heartbeat_seconds: float = Field(
        5, gt=0, le=600, allow_inf_nan=False, description="renews the lease"
    )
    sweep_seconds: int = Field(2, ge=1, le=59, description="pause of the safety sweep")
    # NoDecode: we read the JSON, since pydantic-settings' own error for it says no reason.
    actors: Annotated[
        dict[str, Annotated[int, Field(ge=1, le=64)]], NoDecode, BeforeValidator(_by_family)
    ] = Field(
        {"crm": 2}, description="batches at once by family, as JSON; a family not named has 1"
    )
    slots: Annotated[
        dict[str, Annotated[int, Field(ge=1, le=20_000)]], NoDecode, BeforeValidator(_by_family)
    ] = Field(
        {"webhook": 1_000, "code": 2, "sms": 200, "email": 200},
        description="effects in flight at once by family, as JSON; a family not named has 50",
    )
    wake_bucket_ms: int = Field(
        250, ge=10, le=60_000, description="one wake-up per such bucket of time"
    )
    max_event_depth: int = Field(8, ge=1, le=100, description="events caused by events, at most")
    max_steps_per_execution: int = Field(500, ge=1, le=100_000, description="guard against loops")

    # How PostgreSQL is used
    database_pool_size: int = Field(8, ge=2, le=200, description="connections of one pool")
    statement_timeout_ms: int = Field(
        30_000, ge=100, le=_LARGEST_INT32, description="a longer statement is ended"
    )
    idle_in_transaction_timeout_ms: int = Field(
        15_000,
        ge=100,
        le=_LARGEST_INT32,
        description="a transaction that is idle for longer is ended",
    )

    # Where files are kept
    files_url: str | None = Field(
        None,
        pattern=r"^s3://[^/\s]+",
        description="s3://bucket/prefix that keeps uploaded files, of any S3-compatible service; "
        "unset: the folder files in the data folder, which all processes must share",
    )
    files_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+",
        description="address of the S3-compatible service; unset: Amazon's",
    )
    files_region: str = Field("us-east-1", min_length=1, description="region of the bucket")
    files_access_key: SecretStr | None = Field(
        None, description="access key id for the bucket; unset: what the machine's role gives"
    )
    files_secret_key: SecretStr | None = Field(None, description="secret access key for the bucket")
    largest_file_mb: int = Field(25, ge=1, le=1000, description="size of an upload, at most")

    # What is kept, and for how long
    retention_tickets_days: _Retention = Field(1, description="finished Procrastinate jobs")
    retention_events_days: _Retention = Field(90, description="domain events")
    retention_executions_days: _Retention = Field(365, description="finished executions")
    retention_operations_days: _Retention = Field(30, description="finished bulk operations")
    retention_downloads_days: _Retention = Field(7, description="what operations have exported")

    @field_validator("secret_keys")
    @classmethod
    def _keys_can_be_read(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            parse_keys(keys.get_secret_value())
        return keys

    @field_validator("jwt_public_keys")
    @classmethod
    def _public_keys_can_be_read(cls, keys: str | None) -> str | None:
        parse_public_keys(keys or "")
        return keys

    @model_validator(mode="after")
    def _jwts_have_all_they_need(self) -> Self:
        keys = self.jwt_jwks_url, self.jwt_public_keys
        given = (self.jwt_issuer, self.jwt_audience, *keys)
        if any(given) and not (self.jwt_issuer and self.jwt_audience and sum(map(bool, keys)) == 1):
            raise ValueError(
                f"{variable_of('jwt_issuer')} and {variable_of('jwt_audience')} go together, with "
                f"one of {variable_of('jwt_jwks_url')} and {variable_of('jwt_public_keys')}"
            )
        return self

    @model_validator(mode="after")
    def _a_lease_outlives_a_late_heartbeat(self) -> Self:
        # A worker that is only a little late would be taken for dead and lose what it has in hand.
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"{variable_of('lease_seconds')} = {self.lease_seconds:g} must be at least twice "
                f"{variable_of('heartbeat_seconds')} = {self.heartbeat_seconds:g}"
            )
        return self

    def actors_of(self, family: str) -> int:
        """How many batches of a family one worker performs at once."""
        return self.actors.get(family, 1)

    def slots_of(self, family: str) -> int:
        """How many effects of a family one worker has in flight at once."""
        return self.slots.get(family, 50)


_SECRETS: Final = frozenset(
    name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)
)


def variable_of(field: str) -> str:
    """The environment variable that sets this field."""
    return "DATABASE_URL" if field == "database_url" else f"{_PREFIX}{field.upper()}"


def load_settings() -> Settings:
    """Read the environment; a SettingsError lists every wrong variable, its value and the reason.

    A CALLBOARD_* variable that sets nothing is wrong too: it is a misspelt one. The values of
    DATABASE_URL, which may hold a password, and of secrets are not repeated.
    """
    wrong = _unknown_variables()
    try:
        settings = Settings()
    except ValidationError as error:
        wrong += [_sentence(fault) for fault in error.errors(include_url=False)]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings


def _unknown_variables() -> list[str]:
    known = [variable_of(field) for field in Settings.model_fields]
    return [
        f"{name}: there is no such setting.{_nearest(name.upper(), known)}"
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(_PREFIX)
        and name.upper() not in known
        and value  # an empty variable counts as unset, as with those that exist
        and not _SERVICE_LINK.search(name)
        and not _SERVICE_ADDRESS.match(value)
    ]


def _nearest(name: str, known: Sequence[str]) -> str:
    # Without the prefix, which makes any two of them alike.
    stems = {variable.removeprefix(_PREFIX): variable for variable in known}
    near = get_close_matches(name.removeprefix(_PREFIX), stems, n=1)
    return f" Did you mean '{stems[near[0]]}'?" if near else ""


def _sentence(fault: ErrorDetails) -> str:
    reason = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
    if not fault["loc"]:
        return reason  # of several variables, which it names
    name, *keys = map(str, fault["loc"])
    variable = name if name.isupper() else variable_of(name)
    place = variable + "".join(f"[{key!r}]" for key in keys)
    is_secret = name in _SECRETS or variable == "DATABASE_URL"
    value = "" if is_secret else f" = {str(fault['input'])[:80]!r}"
    return f"{place}{value}: {reason}"
