"""The bells of requests without a caller: of providers, and of people who got a message."""

from __future__ import annotations

from aiohttp import web

from api.calls import SERVICES, Services
from runtime import log
from runtime.bells import Bells

logger = log.get(__name__)


async def ring_bells(request: web.Request, bells: Bells) -> None:
    """Ring after the commit. What a bell that fails would have said is found by the sweep."""
    await ring_after(request.app[SERVICES], bells)


async def ring_after(services: Services, bells: Bells) -> None:
    """Do the same where there is no request any more."""
    try:
        await services.ring(bells.families)
        if bells.events:
            await services.ring_events()
    except Exception:  # whatever it is, the report is committed
        logger.warning("api.ring_failed", exc_info=True)
