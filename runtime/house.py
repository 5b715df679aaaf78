"""What the parts of one process share when they deal with the outside."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from runtime.secrets import Vault
from runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class House:
    """The database, the settings and the vault of one process."""

    pool: asyncpg.Pool
    settings: Settings
    vault: Vault

    @property
    def public_url(self) -> str:
        """The base of callbacks, signatures and links, without a slash at its end."""
        settings = self.settings
        own = f"http://{settings.api_host}:{settings.api_port}"
        return (settings.public_url or own).rstrip("/")
