"""Settings of every Callboard process, read from `CALLBOARD_*` variables and `DATABASE_URL`."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


def _default_data() -> Path:
    # Root's own server gives its privileges away, and must never need root's private home for it.
    if os.geteuid() == 0:
        return Path("/var/lib/callboard")
    return Path.home() / ".local" / "share" / "callboard"


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


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

    # What is logged
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field("info", description="least severe line that is logged")
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        "console", description="console for people, json for machines"
    )

    # How work is claimed
    batch_size: int = Field(500, ge=1, le=5000, description="steps that an actor claims at once")
    lease_seconds: float = Field(30, gt=0, le=3600, description="life of an outward claim")
    heartbeat_seconds: float = Field(5, gt=0, le=600, description="renews leases, says 'alive'")
    sweep_seconds: int = Field(2, ge=1, le=59, description="pause of the safety sweep")
    actors: dict[str, Annotated[int, Field(ge=1, le=64)]] = Field(
        {"crm": 2}, description="batches at once by family, as JSON; a family not named has 1"
    )
    slots: dict[str, Annotated[int, Field(ge=1, le=20_000)]] = Field(
        {"webhook": 1_000, "code": 2},
        description="effects in flight at once by family, as JSON; a family not named has 50",
    )
    wake_bucket_ms: int = Field(250, ge=10, le=60_000, description="one wake-up per such bucket")
    max_event_depth: int = Field(8, ge=1, le=100, description="events caused by events, at most")
    max_steps_per_execution: int = Field(500, ge=1, le=100_000, description="guard against loops")

    # How PostgreSQL is used
    database_pool_size: int = Field(8, ge=2, le=200, description="connections of one process")
    statement_timeout_ms: int = Field(30_000, ge=100, description="a longer statement is ended")
    idle_in_transaction_timeout_ms: int = Field(
        15_000, ge=100, description="a transaction that is idle for longer is ended"
    )

    # What is kept, and for how long
    retention_tickets_days: float = Field(1, gt=0, description="finished Procrastinate jobs")
    retention_events_days: float = Field(90, gt=0, description="domain events")
    retention_executions_days: float = Field(365, gt=0, description="finished executions")

    def actors_of(self, family: str) -> int:
        """How many batches of a family one worker performs at once."""
        return self.actors.get(family, 1)

    def slots_of(self, family: str) -> int:
        """How many effects of a family one worker has in flight at once."""
        return self.slots.get(family, 50)


def variable_of(field: str) -> str:
    """The environment variable that sets this field."""
    return "DATABASE_URL" if field == "database_url" else f"CALLBOARD_{field.upper()}"


def load_settings() -> Settings:
    """Read the environment; a SettingsError lists every wrong variable, its value and the reason.

    The value of DATABASE_URL is not repeated: it may hold a password.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False):
            name = str(fault["loc"][0]) if fault["loc"] else "?"
            variable = name if name.isupper() else variable_of(name)
            value = "" if variable == "DATABASE_URL" else f" = {str(fault['input'])[:80]!r}"
            lines.append(f"{variable}{value}: {fault['msg']}")
        raise SettingsError("\n".join(lines)) from None
