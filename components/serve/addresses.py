"""Who asks, and how much of the server's room each may hold."""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter

from components.serve.config import ServeConfig

__all__ = ["Shares", "address_of", "is_proxy", "most_connections"]

_KEPT_FILES = 192
"""Of the file limit, for everything but connections: libraries, decoders, and what is accepted at a time."""
_IPV6_SITE = 64
"""Bits; one site has all addresses that begin with them."""


class Shares:
    """Something of which there is only so much, and of which one address may hold a part only.

    >>> shares = Shares(4, share=0.5)
    >>> [shares.take(address) for address in ("a", "a", "a", "b")]
    [True, True, False, True]
    >>> shares.give("a"); shares.take("a")
    True

    Args:
        most: of all addresses together.
        share: of one address, in (0, 1]; at least one piece.
    """

    def __init__(self, most: int, *, share: float) -> None:
        self.most, self.most_of_one = most, max(1, int(share * most))
        self._held: Counter[str] = Counter()
        self._sum = 0

    def take(self, address: str, count: int = 1, *, limited: bool = True) -> bool:
        """Whether there was room; an address that is not limited may hold all."""
        most_of_one = self.most_of_one if limited else self.most
        if self._sum + count > self.most or self._held[address] + count > most_of_one:
            return False
        self._held[address] += count
        self._sum += count
        return True

    def give(self, address: str, count: int = 1) -> None:
        """Give back what was taken."""
        self._held[address] -= count
        self._sum -= count
        if self._held[address] <= 0:
            del self._held[address]

    def is_full(self, address: str) -> bool:
        """Whether take would say no."""
        return self._sum >= self.most or self._held[address] >= self.most_of_one


def address_of(host: str | None) -> str:
    """What counts as one address: of IPv6 the first 64 bits, as one site has all that begin so.

    >>> address_of("192.0.2.7"), address_of("2001:db8:1:2:3::7"), address_of("::ffff:192.0.2.7"), address_of(None)
    ('192.0.2.7', '2001:db8:1:2::/64', '192.0.2.7', '')
    """
    try:
        found = ipaddress.ip_address(host or "")
    except ValueError:
        return host or ""
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_SITE), strict=False))


def is_proxy(host: str | None, config: ServeConfig) -> bool:
    """Whether a connection comes from one of `serve.proxies`.

    >>> is_proxy("10.1.2.3", ServeConfig(proxies=("10.0.0.0/8",))), is_proxy("127.0.0.1", ServeConfig())
    (True, False)
    """
    try:
        found = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return any(found in proxy for proxy in config.proxies)


def most_connections(config: ServeConfig) -> int:
    """As many as the configuration and this process's file limit (`ulimit -n`) allow."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return config.max_connections
    return min(config.max_connections, max(limit - _KEPT_FILES, limit // 4))
