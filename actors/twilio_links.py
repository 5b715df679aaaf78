"""The addresses that Twilio calls back; each carries the effect that it is about.

They need no token of their own: whoever calls them proves that he is Twilio by the signature over
the whole address with the integration's auth token.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from runtime.effect import Effect
from runtime.house import House

PREFIX: Final = "/hooks/twilio"


def message_status_url(house: House, effect: Effect) -> str:
    """Where the statuses of a text are reported."""
    return f"{house.public_url}{PREFIX}/{effect.integration_id}/messages/{effect.id}"


def call_url(house: House, effect: Effect, what: str) -> str:
    """Where a call asks what to do (`answered`, `dialled`) and reports (`status`, `recording`)."""
    assert effect.integration_id is not None, "a call is placed by an integration"
    return f"{house.public_url}{call_path(effect.integration_id, effect.id, what)}"


def call_path(integration_id: UUID, effect_id: UUID, what: str) -> str:
    """The path of such an address."""
    return f"{PREFIX}/{integration_id}/calls/{effect_id}/{what}"


def inbound_url(house: House, integration_id: UUID) -> str:
    """Where texts to an integration's numbers are to be sent, as it is set up at Twilio."""
    return f"{house.public_url}{PREFIX}/{integration_id}/texts"
