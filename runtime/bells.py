"""What is to be rung once a transaction is committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Bells:
    """Families that have ready work, instants at which something falls due, events, operations."""

    families: set[str] = field(default_factory=set)
    sending: set[str] = field(default_factory=set)
    """Families that have new effects to send."""
    wake_at: set[datetime] = field(default_factory=set)
    events: bool = False
    """Events are to be handed on."""
    operations: bool = False
    """Operations wait for a worker."""

    def __or__(self, other: Bells) -> Bells:
        """Both."""
        return Bells(
            self.families | other.families,
            self.sending | other.sending,
            self.wake_at | other.wake_at,
            self.events or other.events,
            self.operations or other.operations,
        )
