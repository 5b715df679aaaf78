"""Test mode: an account records every message and sends nothing beyond loopback.

What decides is the address that a host resolves to, not its name: `localhost` may be anything in a
container, and a public name may point home. The one who connects must connect to the address that
was judged, or a second look-up could give another.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any, Final

from runtime.effect import Sent

RECORDED: Final = "recorded"

RESOLVE_SECONDS: Final = 5.0


async def loopback_address(host: str) -> str | None:
    """Give the address of loopback that a host resolves to; None if any of its addresses is not."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(
                host.strip("[]"), None, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError, UnicodeError):
        return None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(_is_loopback(address) for address in addresses):
        return None
    return addresses[0]


async def is_loopback(host: str) -> bool:
    """Whether every address that a host resolves to is one of this machine's loopback."""
    return await loopback_address(host) is not None


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def recorded(**message: Any) -> Sent:
    """The result of a message that was recorded and not sent; `message` is what would have gone."""
    return Sent({"status": RECORDED, "is_test": True, **message})
