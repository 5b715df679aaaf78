"""Which addresses are public: what a request on a user's behalf may connect to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

# RFC 6052: a translator (NAT64) sends what goes here on to the IPv4 address in the last 32 bits.
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an address, as a socket is about to connect to it, is one of the public Internet.

    False for private, loopback, link-local, shared, documentation, multicast and reserved ranges,
    and for IPv6 addresses that lead to such an IPv4 address (mapped, 6to4, Teredo, NAT64).
    """
    try:
        found = ip_address(address.partition("%")[0])  # without the zone of a link-local address
    except ValueError:
        return False
    return all(map(_is_public, _all_meant(found)))


def _all_meant(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    return [address, *filter(None, [address.sixtofour, *(address.teredo or ())])]


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    is_local = isinstance(address, IPv6Address) and address.is_site_local
    return (
        address.is_global
        and not is_local
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
    )
